"""Reservations whose parent zone is not there: since when each of them waits for it (pure).

That stands in redis, so that a restart begins no new wait, and a fresh look agrees with the process that runs.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from tfgateway.layout.keys import WAITING
from tfgateway.reconciler.rows import Rows

_NANOSECONDS = 10**9
_NEVER = 2**62
"""Seconds; a time that does not come."""


class _Wait(msgspec.Struct, frozen=True):
    """A value of ``tfgateway:waiting``: Unix seconds."""

    since: int


class Waiting:
    """The hash ``tfgateway:waiting`` on top of ``rows``. timeout: seconds that one may wait; 0: none does.

    Times of calls (``now``) are Unix nanoseconds.
    """

    def __init__(self, rows: Rows, timeout: float) -> None:
        self._rows = rows
        self._timeout = timeout
        self._since = {identifier: _decode(raw) for identifier, raw in rows.fields(WAITING)}

    def __contains__(self, identifier: str) -> bool:
        """Whether it was found waiting by this or an earlier plan."""
        return identifier in self._since

    def names(self) -> list[str]:
        """gwids of all that were found waiting."""
        return list(self._since)

    @property
    def allowed(self) -> bool:
        """Whether anything may wait at all."""
        return self._timeout > 0

    def over(self, identifier: str, now: int) -> bool:
        """Whether it has waited long enough."""
        since = self._since.get(identifier)
        return since is not None and now // _NANOSECONDS - since >= self._timeout

    def start(self, identifier: str, now: int) -> None:
        """It waits from now on, unless it does already. A beginning still to come is none: a clock was wrong."""
        moment = now // _NANOSECONDS
        if self._since.get(identifier, moment + 1) > moment:
            self._since[identifier] = moment
            self._rows.put(WAITING, identifier, msgspec.json.encode(_Wait(moment)))

    def stop(self, identifier: str) -> None:
        """It does not wait any more."""
        if identifier in self._since:
            self._rows.put(WAITING, identifier, None)

    def in_words(self, identifier: str, parent: str) -> str:
        """For the verdict: what it waits for and, once that is known, how long."""
        text = f"it waits for {parent} to be delegated"
        since = self._since.get(identifier)
        if since is None:
            return text
        try:
            end = datetime.fromtimestamp(since + self._timeout, UTC)
        except (OverflowError, ValueError, OSError):
            return text
        return f"{text}, until {end:%Y-%m-%d %H:%M:%S} UTC"


def _decode(raw: bytes) -> int:
    """What nobody can read begins anew, as a time that is still to come."""
    try:
        return msgspec.json.decode(raw, type=_Wait).since
    except msgspec.MsgspecError:
        return _NEVER
