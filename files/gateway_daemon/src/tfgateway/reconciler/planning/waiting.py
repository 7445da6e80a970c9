"""Reservations that wait for their parent zone, and since when (pure).

That stands in redis, so that a restart begins no new wait, and a fresh look agrees with the process that runs.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from tfgateway.ids import Gwid
from tfgateway.instant import NANOSECONDS, Instant
from tfgateway.reconciler.planning.inputs.rows import Rows
from tfgateway.redis_schema.keys import WAITING

_NOTABLE = 2.0
"""Seconds by which the clock was set."""


class Wait(msgspec.Struct, frozen=True):
    """A value of ``tfgateway:waiting``: since when (``Instant``); older releases have written Unix seconds alone."""

    since: int
    boot: str = ""
    uptime: float = 0.0

    def age(self, now: Instant) -> float:
        """Seconds. A beginning that is still to come is none, unless the clock was set since."""
        start = Instant(self.since * NANOSECONDS, self.boot, self.uptime)
        return 0.0 if start.boot != now.boot and start.unix_ns > now.unix_ns else now.since(start)


class Waiting:
    """The hash ``tfgateway:waiting`` on top of ``rows``. timeout: seconds that one may wait; 0: none does."""

    def __init__(self, rows: Rows, timeout: float) -> None:
        self._rows = rows
        self._timeout = timeout
        self._since = {Gwid(identifier): _decode(raw) for identifier, raw in rows.fields(WAITING)}
        """None: it cannot be read, and the wait begins anew."""

    def __contains__(self, identifier: Gwid) -> bool:
        """Whether a reservation was found waiting by this or an earlier plan."""
        return identifier in self._since

    def names(self) -> list[Gwid]:
        """All waiting reservations."""
        return list(self._since)

    @property
    def allowed(self) -> bool:
        """Whether anything may wait at all."""
        return self._timeout > 0

    def is_expired(self, identifier: Gwid, now: Instant) -> bool:
        """Whether a reservation has waited long enough."""
        wait = self._since.get(identifier)
        return wait is not None and wait.age(now) >= self._timeout

    def start(self, identifier: Gwid, now: Instant) -> None:
        """Note that a reservation waits, unless it does already. Corrects the beginning when the clock was set."""
        wait = self._since.get(identifier)
        waited = 0.0 if wait is None else wait.age(now)
        since = int(now.unix - waited)
        if wait is None or abs(since - wait.since) > _NOTABLE:
            self._since[identifier] = wait = Wait(since, now.boot, now.uptime - waited)
            self._rows.put(WAITING, identifier, msgspec.json.encode(wait))

    def forget(self, identifier: Gwid) -> None:
        """Note that a reservation does not wait any more."""
        if identifier in self._since:
            self._rows.put(WAITING, identifier, None)

    def in_words(self, identifier: Gwid, parent: str) -> str:
        """For the verdict: what it waits for and, once that is known, how long."""
        text = f"it waits for {parent} to be delegated"
        wait = self._since.get(identifier)
        if wait is None:
            return text
        try:
            end = datetime.fromtimestamp(wait.since + self._timeout, UTC)
        except (OverflowError, ValueError, OSError):
            return text
        return f"{text}, until {end:%Y-%m-%d %H:%M:%S} UTC"


def _decode(raw: bytes) -> Wait | None:
    try:
        return msgspec.json.decode(raw, type=Wait)
    except msgspec.MsgspecError:
        return None
