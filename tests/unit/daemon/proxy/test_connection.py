"""The states of a connection: some visit uses every entry of the table, and nothing else changes a state."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType

import pytest
from tfgateway.proxy.connection import connection, downstream
from tfgateway.proxy.connection.connection import Connection
from tfgateway.proxy.connection.context import ProxyContext
from tfgateway.proxy.connection.states import TRANSITIONS, ConnectionEvent, ConnectionState
from tfgateway.proxy.metrics import ProxyMetrics
from tfgateway.proxy.protocol import HTTP
from tfgateway.proxy.routing.table import Route, RouteOptions, RouteTable, StaticRoutes
from tfgateway.proxy.upstream.balance import Member, TargetPool
from tfgateway.settings import ProxySettings
from tfgateway.tunnel.api import NoTunnel, RelayedByTunnel, Visitor

from tests.support.network import CDN_LOOP, FakeNetwork, Peer
from tests.support.waiting import soon

Steps = list[tuple[ConnectionState, ConnectionEvent, ConnectionState]]
UP, SILENT, REFUSING = 8001, 8002, 8003

REQUEST = b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n"
SETTINGS = ProxySettings()


class _Tunnels:
    """No client is connected for ``missing``; with any other secret the visit ends at once."""

    def add_secret(self, secret: bytes) -> None:
        pass

    def remove_secret(self, secret: bytes) -> None:
        pass

    async def relay(self, visitor: Visitor) -> RelayedByTunnel:
        if visitor.secret == b"missing":
            raise NoTunnel("no client")
        visitor.socket.close()
        return RelayedByTunnel("closed", len(visitor.first), 0)


class Visits:
    """Visits of one proxy in a fake network, and the steps of the state machine that they took."""

    def __init__(self, network: FakeNetwork) -> None:
        def route(*ports: int) -> Route:
            members = [Member("127.0.0.1", port, 0, addresses=("127.0.0.1",)) for port in ports]
            return Route("", 0, 0, by_operator=True, options=RouteOptions(TargetPool(members)))

        def tunnel(secret: bytes) -> Route:
            return Route("", 0, 0, by_operator=True, secret=secret)

        routes = {
            "up.example": route(UP),
            "silent.example": route(SILENT),
            "refusing.example": route(REFUSING),
            "both.example": route(SILENT, UP),
            "tunnel.example": tunnel(b"there"),
            "missing.example": tunnel(b"missing"),
        }
        network.listens(UP)
        network.is_silent(SILENT)
        tunnels = _Tunnels()
        self.network = network
        self.steps: Steps = []
        self.context = ProxyContext(
            SETTINGS,
            engine=network.engine,
            table=RouteTable(StaticRoutes(routes, None), tunnels),
            dialler=network.dialler,
            tunnels=tunnels,
            metrics=ProxyMetrics(services=float, mirror_age=float),
            trusted=(),
            loop_guard=network.loop_guard,
        )

    def begin(self, data: bytes) -> Connection:
        """Of a ``visitor`` that has sent this already."""
        self.steps.clear()
        self.visitor, accepted = self.network.visitor()
        if data:
            self.visitor.send(data)
        made = Connection(self.context, accepted, "127.0.0.1", HTTP)
        made.start()
        return made

    def ask(self, host: str) -> Connection:
        """Of a visitor with an HTTP request."""
        return self.begin(REQUEST % host.encode())

    def target(self) -> Peer:
        """The only connection that was accepted at UP."""
        (found,) = self.network.targets[UP]
        return found

    def ended(self, made: Connection) -> tuple[Steps, str]:
        """The steps up to the end, and the outcome."""
        assert made.state is ConnectionState.CLOSED
        assert not self.context.live
        return list(self.steps), made.outcome


class _Recorded(dict[ConnectionState, ConnectionState]):
    def __init__(self, event: ConnectionEvent, steps: Steps) -> None:
        super().__init__(TRANSITIONS[event])
        self._event = event
        self._steps = steps

    def __getitem__(self, state: ConnectionState) -> ConnectionState:
        after = super().__getitem__(state)
        self._steps.append((state, self._event, after))
        return after


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> Visits:
    visits = Visits(FakeNetwork())
    recorded = {event: _Recorded(event, visits.steps) for event in ConnectionEvent}
    for module in (connection, downstream):
        monkeypatch.setattr(module, "TRANSITIONS", recorded)
    monkeypatch.setattr(connection, "ordinary", lambda sock: sock)  # tunnels get the same fake one
    return visits


READING, DIALLING, RELAYING, TUNNELLED, LINGERING, CLOSED = ConnectionState
DIALLED = (READING, ConnectionEvent.DIALLED, DIALLING)
ENTERED_TUNNEL = (READING, ConnectionEvent.ENTERED_TUNNEL, TUNNELLED)
CONNECTED = (DIALLING, ConnectionEvent.CONNECTED, RELAYING)
FAILED_OVER = (DIALLING, ConnectionEvent.FAILED_OVER, DIALLING)


def refused(state: ConnectionState) -> tuple[ConnectionState, ConnectionEvent, ConnectionState]:
    return state, ConnectionEvent.REFUSED, LINGERING


def ended(state: ConnectionState) -> tuple[ConnectionState, ConnectionEvent, ConnectionState]:
    return state, ConnectionEvent.ENDED, CLOSED


async def _silent(visits: Visits) -> tuple[Steps, str]:
    made = visits.begin(b"")
    visits.visitor.end()
    return visits.ended(made)


async def _unknown(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("unknown.example")
    assert made.state is LINGERING
    visits.visitor.end()
    return visits.ended(made)


async def _served(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("up.example")
    assert made.state is RELAYING
    made.cut()
    return visits.ended(made)


async def _failed_over(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("both.example")
    assert made.state is DIALLING
    visits.network.advance(SETTINGS.dial_timeout)
    assert made.state is RELAYING
    made.cut()
    return visits.ended(made)


async def _no_target(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("silent.example")
    visits.network.advance(SETTINGS.dial_timeout - 0.1)
    assert made.state is DIALLING
    visits.network.advance(0.1)
    assert made.state is LINGERING
    visits.visitor.end()
    return visits.ended(made)


async def _cut_while_dialling(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("silent.example")
    made.cut()
    return visits.ended(made)


async def _tunnelled(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("tunnel.example")
    await soon(lambda: made.state is CLOSED)
    return visits.ended(made)


async def _no_tunnel(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("missing.example")
    await soon(lambda: made.state is LINGERING)
    visits.visitor.end()
    return visits.ended(made)


VISITS = {
    _silent: ([ended(READING)], "no_request"),
    _unknown: ([refused(READING), ended(LINGERING)], "unknown_host"),
    _served: ([DIALLED, CONNECTED, ended(RELAYING)], "cut"),
    _failed_over: ([DIALLED, FAILED_OVER, CONNECTED, ended(RELAYING)], "cut"),
    _no_target: ([DIALLED, refused(DIALLING), ended(LINGERING)], "dial_timeout"),
    _cut_while_dialling: ([DIALLED, ended(DIALLING)], "cut"),
    _tunnelled: ([ENTERED_TUNNEL, ended(TUNNELLED)], "closed"),
    _no_tunnel: ([ENTERED_TUNNEL, refused(TUNNELLED), ended(LINGERING)], "no_tunnel"),
}


@pytest.mark.parametrize("visit", VISITS)
async def test_a_visit_goes_through_its_states(
    visit: Callable[[Visits], Awaitable[tuple[Steps, str]]], visits: Visits
) -> None:
    assert await visit(visits) == VISITS[visit]


def test_a_request_in_single_octets_arrives_as_it_was_sent(visits: Visits) -> None:
    made = visits.begin(b"")
    request = REQUEST % b"up.example"
    for at in range(len(request)):
        assert made.state is READING
        visits.visitor.send(request[at : at + 1])
    assert made.state is RELAYING
    assert visits.target().read() == CDN_LOOP.added(request, "up.example")
    visits.target().send(b"HTTP/1.1 200 OK\r\n\r\npage")
    assert visits.visitor.read().endswith(b"page")


def test_what_the_target_cannot_take_yet_waits_in_order(visits: Visits) -> None:
    visits.ask("up.example")
    target = visits.target()
    first = target.read()
    target.holds_at_most(10)
    visits.visitor.send(b"0123456789abcdefghijklmnopqrstuvwxyz")  # a rest of the rest waits too
    assert target.read() == first + b"0123456789abcdefghijklmnopqrstuvwxyz"


def test_each_direction_ends_by_itself(visits: Visits) -> None:
    made = visits.ask("up.example")
    visits.visitor.end()
    assert visits.target().read()
    assert visits.target().ended == "end"
    visits.target().send(b"late answer")
    assert visits.visitor.read() == b"late answer"
    visits.target().end()
    assert (visits.visitor.read(), visits.visitor.ended) == (b"late answer", "end")
    assert (made.outcome, made.to_visitor) == ("closed", len(b"late answer"))


def test_a_target_that_refuses_is_answered_for(visits: Visits) -> None:
    made = visits.ask("refusing.example")
    assert visits.visitor.read().startswith(b"HTTP/1.1 502 ")
    assert made.outcome == "dial_failed"


def test_a_slow_target_gets_the_request_when_it_accepts(visits: Visits) -> None:
    made = visits.ask("silent.example")
    visits.network.advance(SETTINGS.dial_timeout / 2)
    visits.network.accept(SILENT)
    assert made.state is RELAYING
    assert visits.network.targets[SILENT][0].read() == CDN_LOOP.added(REQUEST % b"silent.example", "silent.example")


def test_a_visitor_that_breaks_while_its_target_is_dialled(visits: Visits) -> None:
    made = visits.begin(b"")
    visits.visitor.send(REQUEST % b"silent.example")
    assert made.state is DIALLING
    visits.visitor.reset()
    assert visits.ended(made) == ([DIALLED, ended(DIALLING)], "reset")


def test_a_visitor_that_says_nothing_is_closed_in_time(visits: Visits) -> None:
    made = visits.begin(b"GET / HT")
    visits.network.advance(SETTINGS.head_timeout - 0.1)
    assert made.state is READING
    visits.network.advance(0.1)
    assert made.state is LINGERING
    assert visits.visitor.read().startswith(b"HTTP/1.1 408 ")
    visits.network.advance(60)
    assert visits.ended(made) == ([refused(READING), ended(LINGERING)], "head_timeout")


def test_an_idle_connection_ends_and_a_busy_one_does_not(visits: Visits) -> None:
    made = visits.ask("up.example")
    for _ in range(8):
        visits.network.advance(SETTINGS.idle_timeout / 4)
        visits.visitor.send(b"alive")
    assert made.state is RELAYING
    for _ in range(6):  # it is looked at four times in that time
        visits.network.advance(SETTINGS.idle_timeout / 4)
    assert made.outcome == "idle"


def test_every_entry_of_the_table_is_used() -> None:
    used = {step for steps, _ in VISITS.values() for step in steps}
    assert used == {(state, event, after) for event, row in TRANSITIONS.items() for state, after in row.items()}


def test_a_closed_connection_stays_closed() -> None:
    assert all(ConnectionState.CLOSED not in row for row in TRANSITIONS.values())
    assert set(TRANSITIONS[ConnectionEvent.ENDED]) == set(ConnectionState) - {ConnectionState.CLOSED}


@pytest.mark.parametrize("module", [connection, downstream])
def test_a_state_comes_from_the_table_alone(module: ModuleType) -> None:
    """Each assignment but the first, in ``__init__``, is ``TRANSITIONS[event][state]``."""
    changes = [
        ast.unparse(node.value)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "self.state" for target in node.targets)
    ]
    assert changes
    assert all(change.startswith("TRANSITIONS[") or change == "READING" for change in changes)
    assert changes.count("READING") == (module is downstream)
