"""Listening sockets."""

from __future__ import annotations

import asyncio
import os
import socket

from tfgateway.plane import Endpoint, Listening
from tfgateway.proxy.eventloop.engine import Engine
from tfgateway.proxy.listener import Listener


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


def listening(host: str = "127.0.0.1") -> Listening:
    sock = socket.create_server((host, 0))
    sock.setblocking(False)
    return Listening(Endpoint("http", "tcp", f"{host}:{sock.getsockname()[1]}"), sock)


async def test_ipv4_at_a_socket_for_both_families_is_ipv4(engine: Engine) -> None:
    sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    sock.setblocking(False)
    accepted = Accepted()
    listener = Listener(engine, Listening(Endpoint("http", "tcp", "[::]:0"), sock), accepted)
    port = sock.getsockname()[1]
    listener.start()
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, port)) as visitor:
            visitor.send(b"x")
            connection, source = await accepted.next()
            connection.close()
        assert source == host
    listener.close()


async def test_what_is_closed_accepts_no_more(engine: Engine) -> None:
    """It is the supervisor's socket too: visitors wait there for somebody else."""
    one = listening()
    kept = one.socket.dup()
    accepted = Accepted()
    listener = Listener(engine, one, accepted)
    listener.start()
    with socket.create_connection(kept.getsockname()) as visitor:
        visitor.send(b"x")
        connection, source = await accepted.next()
        connection.close()
    assert source == "127.0.0.1"
    listener.close()
    listener.close()
    with kept, socket.create_connection(kept.getsockname()) as visitor:
        visitor.send(b"x")
        await asyncio.sleep(0.05)
        assert not accepted.connections
        connection, peer = kept.accept()
        connection.close()
        assert peer == visitor.getsockname()


async def test_t20_accepted_connections_find_dead_peers(engine: Engine) -> None:
    one = listening()
    accepted = Accepted()
    listener = Listener(engine, one, accepted)
    listener.start()
    with socket.create_connection(one.socket.getsockname()) as visitor:
        visitor.send(b"x")
        connection, _ = await accepted.next()
    with socket.socket(fileno=connection.detach()) as connection:
        assert not os.get_blocking(connection.fileno())
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 180
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    listener.close()
