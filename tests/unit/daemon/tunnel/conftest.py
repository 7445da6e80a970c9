"""A gateway's tunnels in this process, on real sockets of the loopback interface, and what belongs around them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tfgateway.net.proxyproto import Addresses
from tfgateway.settings import ProxySettings
from tfgateway.tunnel.api import NoTunnel, RelayedByTunnel, Visitor
from tfgateway.tunnel.client.follower import Follower
from tfgateway.tunnel.client.model import ClientOptions, ConfiguredTunnel, RemoteStatus
from tfgateway.tunnel.gateway.metrics import TunnelMetrics
from tfgateway.tunnel.gateway.server import TunnelServer
from tfgateway.tunnel.session.limits import SessionLimits
from tfgateway.tunnel.yamux.windows import WindowBudget

SECRET = b"7:s3cr3t-tunnel-key"
LIMIT = 20.0
"""Seconds after which something that does not come is a failure."""

WINDOWS = 64 * 1024 * 1024

NO_TUNNEL = b"503"
NOT_ANSWERED = b"502"


@dataclass(eq=False)
class Gateway:
    """One worker: its tunnels, a listening socket for clients, and a way in for visitors."""

    name: str
    runtime: Path
    settings: ProxySettings
    limits: SessionLimits = field(default_factory=lambda: SessionLimits(ping_every=30))
    ends: list[str] = field(default_factory=list)
    """What became of the visitors that this worker accounts for."""
    listening: socket.socket | None = None

    def start(self) -> None:
        self.registry = CollectorRegistry()
        self.tunnels = TunnelServer(
            self.settings,
            TunnelMetrics(self.registry),
            runtime=self.runtime,
            name=self.name,
            adopt=self._adopt,
            limits=self.limits,
        )
        self.tasks: set[asyncio.Task[None]] = set()
        if self.listening is None:
            self.listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
            self.listening.setblocking(False)
        self.port: int = self.listening.getsockname()[1]
        asyncio.get_running_loop().add_reader(self.listening, self._accept)

    def stop_accepting(self) -> socket.socket:
        assert self.listening is not None
        asyncio.get_running_loop().remove_reader(self.listening)
        listening, self.listening = self.listening, None
        return listening

    def close(self) -> None:
        if self.listening is not None:
            self.stop_accepting().close()
        self.tunnels.close()
        for task in self.tasks:
            task.cancel()

    def visit(
        self,
        first: bytes = b"GET / HTTP/1.1\r\n\r\n",
        secret: bytes = SECRET,
        addresses: Addresses | None = None,
        proxy_protocol: int = 0,
    ) -> socket.socket:
        """The visitor's end of a connection that asked for the service behind the tunnel."""
        near, far = _pair()
        visitor = Visitor(far, first, "127.0.0.1", "http", secret, b"context", lambda: addresses, proxy_protocol)
        self._adopt(visitor, self.tunnels.relay(visitor))
        return near

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def _accept(self) -> None:
        assert self.listening is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, peer = self.listening.accept()
                sock.setblocking(False)
                self.tunnels.accept(sock, peer[0])

    def _adopt(self, visitor: Visitor, served: Coroutine[Any, Any, RelayedByTunnel]) -> None:
        task = asyncio.get_running_loop().create_task(self._account(visitor, served))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _account(self, visitor: Visitor, served: Coroutine[Any, Any, RelayedByTunnel]) -> None:
        assert visitor.context == b"context"
        sock = visitor.socket
        try:
            self.ends.append((await served).ending)
        except NoTunnel as error:
            answer = NO_TUNNEL if type(error) is NoTunnel else NOT_ANSWERED
            self.ends.append(answer.decode())
            with contextlib.suppress(OSError):
                sock.send(answer)
        finally:
            sock.close()  # as the proxy does, whatever became of it


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


async def read_all(sock: socket.socket) -> bytes:
    """To the end; closes."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    async with asyncio.timeout(LIMIT):
        while data := await loop.sock_recv(sock, 1 << 16):
            received += data
    sock.close()
    return bytes(received)


async def ask(sock: socket.socket, data: bytes = b"") -> bytes:
    """Send, half-close, read to the end."""
    await asyncio.get_running_loop().sock_sendall(sock, data)
    sock.shutdown(socket.SHUT_WR)
    return await read_all(sock)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything back, then the end."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


class World:
    """Starts gateways, local services and clients, and ends them with the test."""

    def __init__(self, runtime: Path, stack: contextlib.AsyncExitStack) -> None:
        self.runtime = runtime
        self._stack = stack
        self._numbers = itertools.count(1)
        self.gateways: list[Gateway] = []

    def gateway(
        self,
        *,
        name: str = "",
        listening: socket.socket | None = None,
        limits: SessionLimits | None = None,
        **settings: Any,
    ) -> Gateway:
        """One more worker; those that are there hear of it."""
        made = Gateway(
            name or f"worker-{next(self._numbers)}", self.runtime, ProxySettings(**settings), listening=listening
        )
        if limits is not None:
            made.limits = limits
        made.start()
        made.tunnels.add_secret(SECRET)
        self._stack.callback(made.close)
        self.gateways.append(made)
        for one in self.gateways:
            one.tunnels.set_peers({other.name for other in self.gateways} - {one.name})
        return made

    async def service(self, handler: Handler = echo) -> int:
        """The port of a local service."""
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        self._stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    def client(self, gateway: Gateway | int, port: int, **options: Any) -> RemoteStatus:
        """A tunnel client for ``port``; its status is kept up to date."""
        remote = ("127.0.0.1", gateway if isinstance(gateway, int) else gateway.port)
        given: dict[str, Any] = {
            "secret": SECRET,
            "local": ("127.0.0.1", port),
            "local_tls": ("127.0.0.1", port),
            "backoff": 0.05,
            **options,
        }
        statuses: list[RemoteStatus] = []
        follower = Follower(
            ConfiguredTunnel("", remote, ClientOptions(**given)), statuses.append, WindowBudget(WINDOWS)
        )
        task = asyncio.get_running_loop().create_task(follower.run())
        self._stack.push_async_callback(_cancel, task)
        return follower.status


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        yield World(tmp_path, stack)
