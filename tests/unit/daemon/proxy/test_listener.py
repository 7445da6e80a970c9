"""Listening sockets."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

import pytest
from tfgateway.proxy.engine import Engine
from tfgateway.proxy.listener import Listener, bind


class Accepted:
    """Keeps what a listener hands out."""

    def __init__(self) -> None:
        self.connections: list[tuple[socket.socket, str]] = []
        self.came = asyncio.Event()

    def __call__(self, connection: socket.socket, source: str) -> None:
        self.connections.append((connection, source))
        self.came.set()

    async def next(self) -> tuple[socket.socket, str]:
        await asyncio.wait_for(self.came.wait(), 60)
        self.came.clear()
        return self.connections.pop()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def listener_at(engine: Engine, address: str, accepted: Accepted) -> Listener:
    return Listener(engine, bind(address), address, accepted)


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    with socket.socket(family) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


async def test_before_the_start_visitors_are_refused(engine: Engine) -> None:
    port = free_port()
    accepted = Accepted()
    listener = listener_at(engine, f"127.0.0.1:{port}", accepted)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    listener.start()
    with socket.create_connection(("127.0.0.1", port)) as visitor:
        visitor.send(b"x")
        connection, source = await accepted.next()
        connection.close()
    assert source == "127.0.0.1"
    listener.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_t20_accepted_connections_find_dead_peers(engine: Engine) -> None:
    port = free_port()
    accepted = Accepted()
    listener = listener_at(engine, f"127.0.0.1:{port}", accepted)
    listener.start()
    with socket.create_connection(("127.0.0.1", port)) as visitor:
        visitor.send(b"x")
        connection, _ = await accepted.next()
    with connection:
        assert connection.gettimeout() == 0
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 180
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    listener.close()


async def test_both_families_on_one_port(engine: Engine) -> None:
    """The IPv6 one takes IPv6 only: an IPv4 visitor must not appear as ::ffff:..."""
    port = free_port(socket.AF_INET6)
    accepted = Accepted()
    listeners = [listener_at(engine, f"{host}:{port}", accepted) for host in ("[::]", "0.0.0.0")]
    for listener in listeners:
        listener.start()
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, port)) as visitor:
            visitor.send(b"x")
            connection, source = await accepted.next()
            connection.close()
        assert source == host
    for listener in listeners:
        listener.close()


async def test_an_address_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError) as caught:
        bind(f"127.0.0.1:{other.getsockname()[1]}")
    assert caught.value.errno == errno.EADDRINUSE
