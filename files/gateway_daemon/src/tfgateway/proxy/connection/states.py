"""The states of an accepted connection, and which event leads from one to which other. Pure.

``docs/explanation/states.md`` is generated from this.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class ConnectionState(IntEnum):
    """What a connection is doing."""

    READING = 0
    """Its first bytes come in, and do not say yet which service it is for."""
    DIALLING = 1
    """The connection to a target of the service is under way."""
    RELAYING = 2
    """Bytes go both ways between it and the target."""
    TUNNELLED = 3
    """It is served by a tunnel, or waits for the tunnel's client."""
    LINGERING = 4
    """A refusal was sent; what still comes in is thrown away until the other side closes."""
    CLOSED = 5
    """Its sockets are closed, and it is accounted for."""


class ConnectionEvent(IntEnum):
    """What changes the state of a connection."""

    DIALLED = 0
    """The service has a target, which is dialled."""
    CONNECTED = 1
    """The target has accepted."""
    FAILED_OVER = 2
    """The target did not accept, and another one is dialled."""
    ENTERED_TUNNEL = 3
    """The service is behind a tunnel: found here, or by the worker that the connection came from."""
    REFUSED = 4
    """It is not served, and is sent the reason."""
    ENDED = 5
    """Both sides are done, one broke off, or time was up."""


READING, DIALLING, RELAYING, TUNNELLED, LINGERING, CLOSED = ConnectionState
DIALLED, CONNECTED, FAILED_OVER, ENTERED_TUNNEL, REFUSED, ENDED = ConnectionEvent

TRANSITIONS: Final[Mapping[ConnectionEvent, Mapping[ConnectionState, ConnectionState]]] = {
    DIALLED: {READING: DIALLING},
    CONNECTED: {DIALLING: RELAYING},
    FAILED_OVER: {DIALLING: DIALLING},
    ENTERED_TUNNEL: {READING: TUNNELLED},
    REFUSED: {READING: LINGERING, DIALLING: LINGERING, TUNNELLED: LINGERING},
    ENDED: {READING: CLOSED, DIALLING: CLOSED, RELAYING: CLOSED, TUNNELLED: CLOSED, LINGERING: CLOSED},
}
"""Event -> state -> next state. A connection changes its state by this table alone: what is not in it raises
``KeyError``, an error of this program."""
