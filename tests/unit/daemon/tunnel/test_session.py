"""The states of a session between two real ends: what leads where, and that nothing but the table changes a state."""

from __future__ import annotations

import ast
import contextlib
import inspect
import socket
from collections.abc import Iterator

import pytest
from tfgateway.tunnel.session import session as module
from tfgateway.tunnel.session.limits import SessionLimits
from tfgateway.tunnel.session.session import Session
from tfgateway.tunnel.session.states import TRANSITIONS, SessionEvent, SessionState
from tfgateway.tunnel.yamux.connection import Role, YamuxConnection
from tfgateway.tunnel.yamux.frames import GoAway
from tfgateway.tunnel.yamux.windows import WindowBudget

from tests.support.waiting import soon

OPEN, LEFT, CLOSED, RELEASED = SessionState


class Ends:
    """Two sessions, joined by a socket pair."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.reasons: list[str] = []
        near, far = socket.socketpair()
        self.near = self._session(stack, near, Role.CLIENT)
        self.far = self._session(stack, far, Role.SERVER)

    def _session(self, stack: contextlib.ExitStack, sock: socket.socket, role: Role) -> Session:
        sock.setblocking(False)
        made = Session(
            sock,
            YamuxConnection(role, max_streams=4, budget=WindowBudget(0)),
            limits=SessionLimits(),
            opened=lambda _session, _stream, _extensions: None,
            over=lambda _session, reason: self.reasons.append(reason),
        )
        stack.callback(made.close, "the test ends")
        return made


@pytest.fixture
async def ends() -> Iterator[Ends]:
    with contextlib.ExitStack() as stack:
        yield Ends(stack)


async def test_an_open_session_opens_streams_until_its_peer_leaves(ends: Ends) -> None:
    near, far = ends.near, ends.far
    assert near.state is OPEN
    assert near.may_open
    far.leave()
    await soon(lambda: near.state is LEFT)
    assert (near.may_open, near.gone, near.closed) == (False, True, False)
    assert far.state is OPEN
    far.leave()  # again is harmless
    far.close("enough")
    assert far.state is CLOSED
    await soon(lambda: near.state is CLOSED)
    assert ends.reasons == ["enough", "closed by the peer"]


async def test_a_session_that_is_over_stays_over(ends: Ends) -> None:
    near = ends.near
    near.close("first")
    near.close("second")
    assert (near.state, near.gone, near.closed, near.may_open) == (CLOSED, True, True, False)
    assert ends.reasons == ["first"]
    with pytest.raises(KeyError):
        near.release()


@pytest.mark.parametrize("left", [False, True])
async def test_a_released_session_goes_on_as_it_was(ends: Ends, left: bool) -> None:
    near, far = ends.near, ends.far
    if left:
        far.leave()
        await soon(lambda: near.state is LEFT)
    sock, state, unsent = near.release()
    assert (near.state, near.closed) == (RELEASED, True)
    near.close("it is none of this process")
    assert near.state is RELEASED
    again = Session.resume(
        sock,
        Role.CLIENT,
        state,
        unsent,
        limits=SessionLimits(),
        budget=WindowBudget(0),
        opened=lambda _session, _stream, _extensions: None,
        over=lambda _session, reason: ends.reasons.append(reason),
        available=lambda _session: None,
    )
    assert again.state is (LEFT if left else OPEN)
    far.close("enough")
    await soon(lambda: again.state is CLOSED)
    assert ends.reasons == ["enough", "closed by the peer"]


async def test_any_other_code_of_the_peer_ends_the_session(ends: Ends) -> None:
    ends.far.close("a test", GoAway.PROTOCOL_ERROR)
    await soon(lambda: ends.near.state is CLOSED)
    assert ends.reasons == ["a test", "the peer ended the session"]


def test_what_is_over_has_no_way_out() -> None:
    assert all(row.keys() == {OPEN, LEFT} for row in TRANSITIONS.values())
    assert {after for row in TRANSITIONS.values() for after in row.values()} == {LEFT, CLOSED, RELEASED}


def test_a_state_comes_from_the_table_alone() -> None:
    """Each assignment but the first, in ``__init__``, is ``TRANSITIONS[event][state]``."""
    changes = [
        ast.unparse(node.value)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "self.state" for target in node.targets)
    ]
    first, *others = changes
    assert first == "LEFT if connection.peer_went_away else OPEN"
    assert {change.partition("]")[0] for change in others} == {f"TRANSITIONS[{event.name}" for event in SessionEvent}
