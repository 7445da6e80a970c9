"""How the reconciler fares, as it writes it to redis for ``tfgateway state`` (pure)."""

from __future__ import annotations

import msgspec


class Status(msgspec.Struct, frozen=True):
    """``tfgateway:status``. Times in Unix seconds; 0: never."""

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
    """Reservations whose rows or record were put right since the start."""
    clock: str = ""
    """How far our clock and the explorer's are apart, in words; empty: they agree."""


def decode_status(raw: bytes | None) -> Status | None:
    """None: nothing was written yet, or nobody can read it."""
    try:
        return msgspec.json.decode(raw or b"", type=Status)
    except msgspec.MsgspecError:
        return None
