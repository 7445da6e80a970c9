"""A proxy in this process whose system calls can fail, its targets, and visitors that are served or not."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import structlog.testing
from prometheus_client import CollectorRegistry
from tfgateway.net import sockets
from tfgateway.net.addresses import networks
from tfgateway.plane import Endpoint, Listening
from tfgateway.proxy import listener, refusals, server
from tfgateway.proxy.connection import connection
from tfgateway.proxy.connection.connection import Connection
from tfgateway.proxy.connection.context import ProxyContext
from tfgateway.proxy.eventloop.engine import running_engine
from tfgateway.proxy.loops.guard import LoopGuard
from tfgateway.proxy.loops.own_dials import OwnDials
from tfgateway.proxy.loops.repeated_hellos import RepeatedHellos
from tfgateway.proxy.metrics import ProxyMetrics
from tfgateway.proxy.own_addresses import OwnAddresses
from tfgateway.proxy.parse.cdn_loop import CdnLoop
from tfgateway.proxy.protocol import HTTP, Protocol
from tfgateway.proxy.relay import direction, pipes
from tfgateway.proxy.routing.table import Route, RouteOptions, RouteTable, StaticRoutes
from tfgateway.proxy.upstream import dial
from tfgateway.proxy.upstream.balance import Member, TargetPool
from tfgateway.settings import ProxySettings
from tfgateway.tunnel.client import connect
from tfgateway.tunnel.client import follower as client
from tfgateway.tunnel.client.follower import Follower
from tfgateway.tunnel.client.model import ClientOptions, ConfiguredTunnel, Phase, RemoteStatus
from tfgateway.tunnel.gateway.metrics import TunnelMetrics
from tfgateway.tunnel.gateway.server import TunnelServer
from tfgateway.tunnel.yamux.windows import WindowBudget

from tests.support.waiting import soon
from tests.unit.daemon.syscalls.injector import Injector

SECRET = b"7:s3cr3t-tunnel-key"
LONG = 2_000_000
"""Octets of a long answer: it goes through a pipe."""
LIMIT = 10.0
"""Seconds after which what does not come is a failure."""
_TURNS = 200  # of the event loop before waiting by the clock

Kind = Literal["served", "refused", "closed"]


class Outcome(NamedTuple):
    """What a visitor got."""

    kind: Kind
    """``refused``: with an answer of the gateway; ``closed``: nothing, or a beginning of the right answer."""
    what: str = ""
    """Of a refusal: its outcome, as in the access log."""


@dataclass
class Request:
    """What a visitor sends, in pieces, and what he is to get."""

    pieces: tuple[bytes, ...]
    answer: bytes
    protocol: Protocol = HTTP
    half_close: bool = False

    def sent(self) -> tuple[bytes, ...]:
        """The pieces. Of a ClientHello, with another random each time, as clients do: else it would be a loop."""
        if self.protocol is HTTP:
            return self.pieces
        (hello,) = self.pieces
        return (hello[:11] + os.urandom(32) + hello[43:],)


def request(host: str, path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def page(body: bytes) -> bytes:
    """The targets' answer."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)


PAGE = page(b"page")
LONG_PAGE = page(bytes(LONG))


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def _target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a head, after it has read to the end when it was asked for ``/echo``; a ClientHello as well."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        first = await reader.readexactly(1)
        if first == b"\x16":
            head = await reader.read(65536)
        else:
            head = await reader.readuntil(b"\r\n\r\n")
        if b" /echo " in head:
            writer.write(page(await reader.read(-1)))
        else:
            writer.write(LONG_PAGE if b" /long " in head else PAGE)
        await writer.drain()
    writer.close()


@dataclass
class Gateway:
    """The proxy with its tunnels."""

    injector: Injector
    context: ProxyContext
    tunnels: TunnelServer
    client: RemoteStatus
    logs: list[Any]
    unhandled: list[str]
    """Exceptions that ended a callback or a task."""
    ports: dict[str, int]
    members: list[Member]

    def __post_init__(self) -> None:
        self.injector.rename({"carried": "session", "local": "client"})
        self.base_line = _descriptors() - 2 * len(self.context.pipes._free)
        self.sockets = dict(self.injector.roles)

    async def visit(self, asked: Request) -> Outcome:
        """One visitor to his end. Errors: ``AssertionError`` for an answer that nobody should get."""
        loop = asyncio.get_running_loop()
        got = bytearray()
        with socket.socket() as sock:
            sock.setblocking(False)
            async with asyncio.timeout(LIMIT):
                with contextlib.suppress(ConnectionError):
                    await loop.sock_connect(sock, ("127.0.0.1", self.ports[asked.protocol]))
                    for piece in asked.sent():
                        await loop.sock_sendall(sock, piece)
                        await asyncio.sleep(0)
                        await asyncio.sleep(0)
                    if asked.half_close:
                        with contextlib.suppress(OSError):
                            sock.shutdown(socket.SHUT_WR)
                    while data := await loop.sock_recv(sock, 1 << 20):
                        got += data
        if got == asked.answer:
            return Outcome("served")
        for refusal in vars(refusals).values():
            if isinstance(refusal, refusals.Refusal) and got and got == refusal.answer(asked.protocol):
                return Outcome("refused", refusal.outcome)
        assert asked.answer.startswith(got), bytes(got)
        return Outcome("closed")

    async def reconnect(self) -> Outcome:
        """The client of the tunnel comes anew."""
        sessions = self.client.sessions
        for session in list(self.tunnels._clients):
            session.close("the test wants it")
        await soon(lambda: self.client.sessions != sessions and self.client.phase is Phase.CONNECTED)
        return Outcome("served")

    async def rest(self) -> None:
        """Until nothing of a visitor is left. Errors: ``AssertionError`` that says what is."""
        for turn in range(_TURNS * 3):
            left = self.left()
            if not left:
                return
            await asyncio.sleep(0 if turn < _TURNS else 0.005)
        raise AssertionError(f"left behind: {left}")

    def close_pipes(self) -> None:
        """Those that wait for the next transfer."""
        for _ in range(2):
            self.context.pipes.trim()

    def left(self) -> dict[str, object]:
        """What is more, or less, than without a visitor."""
        context = self.context
        idle = context.pipes._free
        found: dict[str, object] = {
            "connections": len(context.live),
            "deadlines": sum(
                map(len, (context.heads, context.dials, context.idle_checks, context.young, context.lingering))
            ),
            "admitted": context.admission._open + len(context.admission._by_source),
            "active": sum(context.metrics.active.values()) + sum(member.active for member in self.members),
            "pipes in use": context.pipes._made - len(idle),
            "pipes with data": sum(pipe.filled for pipe in idle),
            "visits in tunnels": len(self.tunnels._visits),
            "client": 1 - len(self.tunnels._clients) + self.client.active + self.tunnels._registry.early,
            "watched": len(context.engine._watchers) - len(self.ports),
        }
        if not any(found.values()):
            found["descriptors"] = _descriptors() - 2 * len(idle) - self.base_line
        self.injector.rename({"carried": "session", "local": "client"} if not any(found.values()) else {})
        if sorted(self.injector.roles.values()) != sorted(self.sockets.values()):
            found["sockets"] = dict(set(self.injector.roles.items()) ^ set(self.sockets.items()))
        return {what: much for what, much in found.items() if much}


@contextlib.asynccontextmanager
async def running_gateway(patch: pytest.MonkeyPatch, runtime: Path) -> AsyncIterator[Gateway]:
    """A gateway with three services of targets and one behind a tunnel, whose client is connected."""
    injector = Injector()
    patch.setattr(dial, "socket", injector.socket_module("target"))
    patch.setattr(sockets, "socket", injector.socket_module("visitor", "carried"))
    patch.setattr(connect, "socket", injector.socket_module("local"))
    for module, role in ((sockets, "visitor"), (pipes, "pipe"), (direction, "pipe")):
        patch.setattr(module, "os", injector.module(os, role))
    patch.setattr(pipes, "fcntl", injector.module(fcntl, "pipe"))
    engine: Any = running_engine()
    patch.setattr(engine, "_epoll", injector.epoll(engine._epoll))
    patch.setattr(engine, "_register", engine._epoll.register)
    patch.setattr(engine, "_selector", injector.epoll(engine._selector))
    patch.setattr(client, "_STEADY", -1.0)  # it connects again at once, however often it has to
    unhandled: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(str(context)))
    async with contextlib.AsyncExitStack() as stack:
        targets = []
        for _ in range(2):
            first = await asyncio.start_server(_target, "127.0.0.1", 0)
            second = await asyncio.start_server(_target, "127.0.0.2", first.sockets[0].getsockname()[1])
            stack.callback(first.close)
            stack.callback(second.close)
            targets.append(first.sockets[0].getsockname()[1])
        members = [Member("127.0.0.1", port, port, addresses=("127.0.0.1",)) for port in targets]
        many = Member("many.example", targets[0], targets[0], addresses=("127.0.0.1", "127.0.0.2"))
        routes = {
            "one.example": Route("127.0.0.1", targets[0], targets[0], by_operator=False),
            "two.example": Route("", 0, 0, by_operator=True, options=RouteOptions(TargetPool(members))),
            "many.example": Route("", 0, 0, by_operator=True, options=RouteOptions(TargetPool([many]))),
            "told.example": Route(
                "", 0, 0, by_operator=True, options=RouteOptions(TargetPool(members), proxy_protocol=1)
            ),
            "tunnel.example": Route("", 0, 0, by_operator=True, secret=SECRET),
        }
        settings = ProxySettings(access_log=1.0, tunnel_grace=LIMIT)
        tunnels = TunnelServer(
            settings,
            TunnelMetrics(CollectorRegistry()),
            runtime=runtime,
            name="worker-1",
            adopt=lambda visitor, carrying: connection.adopt(context, visitor, carrying),
        )
        stack.callback(tunnels.close)
        own_addresses = OwnAddresses(frozenset)
        own_dials = OwnDials.open(runtime / "own_dials", own_addresses)
        loop_guard = LoopGuard(own_dials, RepeatedHellos.open(runtime / "hellos"), CdnLoop(b"key"))
        stack.callback(loop_guard.close)
        context = ProxyContext(
            settings,
            engine=engine,
            table=RouteTable(StaticRoutes(routes, None), tunnels),
            dialler=dial.Dialler(allowed=networks(["127.0.0.1/32"]), own_addresses=own_addresses),
            tunnels=tunnels,
            metrics=ProxyMetrics(services=float, mirror_age=float),
            trusted=(),
            loop_guard=loop_guard,
        )
        tunnels.add_secret(SECRET)
        doors: dict[str, server.Accept] = {
            str(plane): partial(lambda plane, sock, source: Connection(context, sock, source, plane).start(), plane)
            for plane in Protocol
        }
        doors["tunnels"] = partial(server._client, tunnels.accept)
        ports = {}
        for name, accept in doors.items():
            plain = socket.create_server(("127.0.0.1", 0), backlog=64)
            ports[name] = plain.getsockname()[1]
            listening = injector.socket_module("listener").socket(fileno=plain.detach())
            listening.setblocking(False)
            one = listener.Listener(engine, Listening(Endpoint(name, "tcp", ""), listening), accept)
            stack.callback(one.close)
            one.start()
        local = ("127.0.0.1", targets[0])
        options = ClientOptions(SECRET, local, local, backoff=0.01)
        connected = asyncio.Event()
        follower = Follower(
            ConfiguredTunnel("", ("127.0.0.1", ports["tunnels"]), options),
            lambda status: connected.set() if status.phase is Phase.CONNECTED else connected.clear(),
            WindowBudget(0),
        )
        stack.push_async_callback(_end, asyncio.create_task(follower.run()))
        await asyncio.wait_for(connected.wait(), LIMIT)
        logs = stack.enter_context(structlog.testing.capture_logs())
        yield Gateway(injector, context, tunnels, follower.status, logs, unhandled, ports, members)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
