"""The addresses of this host, cached for a moment: what a tenant must not dial, and where own connections come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from tfgateway.net.addresses import IPAddress
from tfgateway.telemetry.logs import logger

_CACHED = 10.0  # seconds

_log = logger("proxy")


class OwnAddresses:
    """The addresses of this host, read again when they are needed and too old."""

    def __init__(self, read: Callable[[], Collection[IPAddress]], clock: Callable[[], float] = time.monotonic) -> None:
        """read: may raise ``OSError``, as when there are no descriptors. clock: seconds."""
        self._read = read
        self._clock = clock
        self._known: frozenset[IPAddress] | None = None
        self._literals: frozenset[str] = frozenset()
        self._valid_until = float("-inf")

    def get(self) -> frozenset[IPAddress]:
        """All of them; the same object for as long as they are the same. Errors: ``OSError``: they were never read."""
        if self._known is None or self._clock() >= self._valid_until:
            self._refresh()
        assert self._known is not None  # noqa: S101 - else it was raised
        return self._known

    def has(self, address: str) -> bool:
        """Whether an IP literal is one of them, as far as they can be read; IPv4 loopback always is."""
        if address.startswith("127."):
            return True
        try:
            self.get()
        except OSError:
            return False
        return address in self._literals

    def _refresh(self) -> None:
        """Errors: ``OSError``: there is nothing to go on with."""
        try:
            found = frozenset(self._read())
        except OSError as error:
            if self._known is None:
                raise
            _log.warning("own addresses not read again", reason=error.strerror)
        else:
            if found != self._known:
                self._known, self._literals = found, frozenset(map(str, found))
        self._valid_until = self._clock() + _CACHED
