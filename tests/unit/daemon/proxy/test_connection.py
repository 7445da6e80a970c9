"""The states of a connection: some visit uses every entry of the table, and nothing else changes a state."""

from __future__ import annotations

import ast
import asyncio
import inspect
import socket
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

import pytest
from tfgateway.proxy.connection import connection, downstream
from tfgateway.proxy.connection.connection import Connection
from tfgateway.proxy.connection.context import ProxyContext
from tfgateway.proxy.connection.states import TRANSITIONS, Event, State
from tfgateway.proxy.eventloop.engine import Engine
from tfgateway.proxy.metrics import ProxyMetrics
from tfgateway.proxy.protocol import HTTP
from tfgateway.proxy.routing.table import Options, Route, RouteTable, StaticRoutes
from tfgateway.proxy.upstream.balance import Member, Pool
from tfgateway.proxy.upstream.dial import Dialler
from tfgateway.settings import ProxySettings
from tfgateway.tunnel.api import NoTunnel, RelayedByTunnel, Visitor

from tests.support.waiting import soon

SocketPair = tuple[socket.socket, socket.socket]
Steps = list[tuple[State, Event, State]]
LIMIT = 30.0


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
    """Visits of one proxy, and the steps of the state machine that they took."""

    def __init__(self, engine: Engine, tcp_pair: Callable[..., SocketPair], ports: Mapping[str, int]) -> None:
        def route(*names: str) -> Route:
            members = [Member("127.0.0.1", ports[name], 0, addresses=("127.0.0.1",)) for name in names]
            return Route("", 0, 0, by_operator=True, options=Options(Pool(members)))

        def tunnel(secret: bytes) -> Route:
            return Route("", 0, 0, by_operator=True, secret=secret)

        routes = {
            "up.example": route("up"),
            "full.example": route("full"),
            "both.example": route("full", "up"),
            "tunnel.example": tunnel(b"there"),
            "missing.example": tunnel(b"missing"),
        }
        tunnels = _Tunnels()
        self.steps: Steps = []
        self._tcp_pair = tcp_pair
        self.context = ProxyContext(
            ProxySettings(),
            engine=engine,
            table=RouteTable(StaticRoutes(routes, None), tunnels),
            dialler=Dialler(allowed=(), own_addresses=frozenset),
            tunnels=tunnels,
            metrics=ProxyMetrics(services=float, mirror_age=float),
            trusted=(),
        )

    def begin(self, data: bytes) -> Connection:
        """Of a ``visitor`` that has sent this already."""
        self.steps.clear()
        self.visitor, accepted = self._tcp_pair()
        if data:
            self.visitor.send(data)
        made = Connection(self.context, accepted, "127.0.0.1", HTTP)
        made.start()
        return made

    def ask(self, host: str) -> Connection:
        """Of a visitor with an HTTP request."""
        return self.begin(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host.encode())

    async def reached(self, made: Connection, state: State) -> None:
        await soon(lambda: made.state is state)

    async def ended(self, made: Connection) -> tuple[Steps, str]:
        """The steps up to the end, and the outcome."""
        await self.reached(made, State.CLOSED)
        assert not self.context.live
        return list(self.steps), made.outcome


class _Recorded(dict[State, State]):
    def __init__(self, event: Event, steps: Steps) -> None:
        super().__init__(TRANSITIONS[event])
        self._event = event
        self._steps = steps

    def __getitem__(self, state: State) -> State:
        after = super().__getitem__(state)
        self._steps.append((state, self._event, after))
        return after


@pytest.fixture
def full_port() -> Iterator[int]:
    """A listening socket whose backlog is full: a connection to it stays under way."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for one in waiting:
            one.close()


@pytest.fixture
def visits(
    engine: Engine, tcp_pair: Callable[..., SocketPair], full_port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Visits]:
    with socket.create_server(("127.0.0.1", 0)) as up:
        visits = Visits(engine, tcp_pair, {"up": up.getsockname()[1], "full": full_port})
        recorded = {event: _Recorded(event, visits.steps) for event in Event}
        for module in (connection, downstream):
            monkeypatch.setattr(module, "TRANSITIONS", recorded)
        yield visits


READING, DIALLING, RELAYING, TUNNELLED, LINGERING, CLOSED = State
DIALLED = (READING, Event.DIALLED, DIALLING)
ENTERED_TUNNEL = (READING, Event.ENTERED_TUNNEL, TUNNELLED)
CONNECTED = (DIALLING, Event.CONNECTED, RELAYING)
FAILED_OVER = (DIALLING, Event.FAILED_OVER, DIALLING)


def refused(state: State) -> tuple[State, Event, State]:
    return state, Event.REFUSED, LINGERING


def ended(state: State) -> tuple[State, Event, State]:
    return state, Event.ENDED, CLOSED


async def _silent(visits: Visits) -> tuple[Steps, str]:
    made = visits.begin(b"")
    visits.visitor.close()
    return await visits.ended(made)


async def _unknown(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("unknown.example")
    assert made.state is LINGERING
    visits.visitor.close()
    return await visits.ended(made)


async def _served(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("up.example")
    assert made.state is RELAYING
    made.cut()
    return await visits.ended(made)


async def _failed_over(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("both.example")
    if made.state is RELAYING:  # it was the other one's turn
        made.cut()
        made = visits.ask("both.example")
    assert made.state is DIALLING
    made.expire()
    assert made.state is RELAYING
    made.cut()
    return await visits.ended(made)


async def _no_target(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("full.example")
    assert made.state is DIALLING
    made.expire()
    visits.visitor.close()
    return await visits.ended(made)


async def _cut_while_dialling(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("full.example")
    made.cut()
    return await visits.ended(made)


async def _tunnelled(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("tunnel.example")
    return await visits.ended(made)


async def _no_tunnel(visits: Visits) -> tuple[Steps, str]:
    made = visits.ask("missing.example")
    await visits.reached(made, LINGERING)
    visits.visitor.close()
    return await visits.ended(made)


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
    visit: Callable[[Visits], asyncio.Future[tuple[Steps, str]]], visits: Visits
) -> None:
    assert await visit(visits) == VISITS[visit]


def test_every_entry_of_the_table_is_used() -> None:
    used = {step for steps, _ in VISITS.values() for step in steps}
    assert used == {(state, event, after) for event, row in TRANSITIONS.items() for state, after in row.items()}


def test_a_closed_connection_stays_closed() -> None:
    assert all(State.CLOSED not in row for row in TRANSITIONS.values())
    assert set(TRANSITIONS[Event.ENDED]) == set(State) - {State.CLOSED}


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
