"""The reconciler's status, as it writes it to redis for ``tfgateway state`` (pure)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec.structs import asdict

from tfgateway.instant import NANOSECONDS, Instant


class DirectoryStatus(msgspec.Struct, frozen=True):
    """What became of the gateway's entry in the explorer's directory."""

    state: Literal["pending", "listed", "refused", "unavailable"] = "pending"
    """``pending``: it is about to be made. ``unavailable``: the explorer has not answered since the start."""
    reason: str = ""
    """Why it is refused or unavailable."""
    pin: str = ""
    """``set``: the explorer accepts only signatures of this gateway that are good for one request. ``offered``: it
    would. Empty: neither."""


class ReconcilerStatus(msgspec.Struct, frozen=True):
    """The string ``tfgateway:status``. Times in Unix seconds; 0: never."""

    version: str = ""
    last_poll: float = 0
    """When the explorer was asked last, or its answer was waited for."""
    last_success: float = 0
    """When a pass went through after the explorer had answered."""
    last_error: str = ""
    """Of the last poll or pass; empty: both went through."""
    outbox: int = 0
    held: str = ""
    """Why removals are held back; empty: they are not."""
    repaired: int = 0
    """Reservations whose rows or record were corrected since the start."""
    clock: str = ""
    """How far our clock and the explorer's are apart, in words; empty: they agree."""
    directory: DirectoryStatus = DirectoryStatus()
    polled: Instant | None = None
    succeeded: Instant | None = None
    """``last_poll`` and ``last_success`` again, for their age; None: not yet, or of an older release."""

    def since_poll(self, now: Instant) -> float:
        """Seconds since ``last_poll``, even if the clock was set."""
        return now.since(self.polled or _by_the_clock(self.last_poll))

    def since_success(self, now: Instant) -> float:
        """Seconds since ``last_success``, even if the clock was set."""
        return now.since(self.succeeded or _by_the_clock(self.last_success))

    def as_data(self) -> dict[str, Any]:
        """What ``tfgateway state --json`` shows."""
        shown = {name: value for name, value in asdict(self).items() if name not in ("polled", "succeeded")}
        return {**shown, "directory": asdict(self.directory)}


def _by_the_clock(seconds: float) -> Instant:
    return Instant(round(seconds * NANOSECONDS))


def decode_status(raw: bytes | None) -> ReconcilerStatus | None:
    """The decoded status; None: there is none, or it cannot be read."""
    try:
        return msgspec.json.decode(raw or b"", type=ReconcilerStatus)
    except msgspec.MsgspecError:
        return None
