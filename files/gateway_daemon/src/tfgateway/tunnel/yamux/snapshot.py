"""A session in plain values: all that another process needs to go on with it. Pure.

Processes may be of different releases for a while: fields are only ever added, with a default.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfgateway.tunnel.yamux.windows import INITIAL_WINDOW


@dataclass(slots=True)
class StreamSnapshot:
    """Both directions of one stream, in plain values: this is all that another process needs to go on with it."""

    send_left: int
    receive_left: int
    taken: int
    acknowledged: bool
    ended_by_us: bool
    ended_by_peer: bool
    window: int = INITIAL_WINDOW
    """Size of the receive window; releases before it was tuned do not send it."""


@dataclass(slots=True)
class ConnectionSnapshot:
    """A session between two bytes, in plain values."""

    next_stream: int
    pings: int
    partial: bytes
    left: int
    payload_of: int
    ends_after_payload: bool
    peer_went_away: bool
    streams: dict[int, StreamSnapshot]
    round_trip: float = 0.0
    """Seconds; 0: it is not known."""
