"""A connection to the target of a service, or the reason why there is none."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable, Collection

from tfgateway.proxy.answers import DIAL_FAILED, DIAL_TIMEOUT, TARGET_DENIED, TOO_MANY, Refused
from tfgateway.proxy.routing import Route
from tfgateway.proxy.tcp import tune
from tfgateway.targets import IPAddress, IPNetwork, denied_reason

_OWN_ADDRESSES_AGE = 10.0  # seconds for which the list of our own addresses is believed
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Dialler:
    """Connects to targets. What a tenant chose is checked each time: data may be older than the rule (T-15)."""

    def __init__(
        self,
        *,
        timeout: float,
        allowed: Collection[IPNetwork],
        own_addresses: Callable[[], Collection[IPAddress]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._allowed = allowed
        self._read_own_addresses = own_addresses
        self._clock = clock
        self._own: Collection[IPAddress] = ()
        self._own_until = float("-inf")

    async def dial(self, route: Route, port: int) -> socket.socket:
        """A connected non-blocking socket, which the caller closes. Errors: ``Refused``."""
        if not route.by_operator:
            reason = denied_reason(route.address, self._allowed, self._own_addresses())
            if reason is not None:
                raise Refused(TARGET_DENIED, reason)
        try:
            return await self._connect(route.address, port)
        except TimeoutError as error:
            raise Refused(DIAL_TIMEOUT) from error
        except OSError as error:
            refusal = TOO_MANY if error.errno in _OUT_OF_DESCRIPTORS else DIAL_FAILED
            raise Refused(refusal, os.strerror(error.errno or 0)) from error

    async def _connect(self, address: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            tune(sock)
            async with asyncio.timeout(self._timeout):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _own_addresses(self) -> Collection[IPAddress]:
        now = self._clock()
        if now >= self._own_until:
            self._own = self._read_own_addresses()
            self._own_until = now + _OWN_ADDRESSES_AGE
        return self._own
