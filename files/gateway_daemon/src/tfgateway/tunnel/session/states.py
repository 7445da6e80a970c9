"""The states of a session, and which event leads from one to which other. Pure.

``docs/explanation/states.md`` is generated from this.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class SessionState(IntEnum):
    """What a session is doing. From ``CLOSED`` on it is over for this process."""

    OPEN = 0
    """Streams are opened and served."""
    LEFT = 1
    """The peer takes no new streams, and ends the session soon; open streams go on."""
    CLOSED = 2
    """The connection is closed, and every stream was dropped."""
    RELEASED = 3
    """Another process goes on with the connection and its streams."""


class SessionEvent(IntEnum):
    """What changes the state of a session."""

    PEER_LEAVES = 0
    """The peer has announced that it ends the session soon."""
    ENDED = 1
    """Either side has ended it, broke the protocol, or does not answer."""
    HANDED_OVER = 2
    """It is given to another process, where it goes on as it was."""


OPEN, LEFT, CLOSED, RELEASED = SessionState
PEER_LEAVES, ENDED, HANDED_OVER = SessionEvent

TRANSITIONS: Final[Mapping[SessionEvent, Mapping[SessionState, SessionState]]] = {
    PEER_LEAVES: {OPEN: LEFT, LEFT: LEFT},
    ENDED: {OPEN: CLOSED, LEFT: CLOSED},
    HANDED_OVER: {OPEN: RELEASED, LEFT: RELEASED},
}
"""Event -> state -> next state. A session changes its state by this table alone: what is not in it raises
``KeyError``, an error of this program."""
