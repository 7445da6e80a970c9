"""Bounds of a session, and of a stream in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class RelayTimeouts(NamedTuple):
    """Seconds without a byte in either direction after which a stream ends."""

    idle: float = 3600.0
    half_closed: float = 300.0
    """The same when one direction has ended."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of one session."""

    streams: int = 1000
    """Open at once, of each side."""
    buffered: int = 16 * 1024 * 1024
    """Bytes of all streams that wait for slow receivers, beyond what ``windows`` has granted; the slowest is reset
    when there are more."""
    windows: int = 32 * 1024 * 1024
    """Bytes by which the receive windows of all streams may exceed the initial one."""
    ping_every: float = 30.0
    """Seconds between two questions whether the peer is there."""
    pong_within: float = 10.0
    """Seconds in which it has to answer."""
    write_timeout: float = 10.0
    """Seconds for which it may take nothing of what is sent."""
    ack_within: float = 1.0
    """Seconds in which it has to take a stream, else it is asked whether it is there ..."""
    alive_within: float = 2.0
    """... and seconds in which it then has to send anything at all."""
