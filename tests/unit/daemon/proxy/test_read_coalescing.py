"""A fast source is reported in larger pieces; nothing of it is left behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from tfgateway.proxy.eventloop.engine import Engine
from tfgateway.proxy.relay.read_coalescing import TOGETHER, ReadCoalescing

SocketPair = tuple[socket.socket, socket.socket]
TcpPair = Callable[..., SocketPair]
LONG = 60.0
MIB = 1 << 20


def together(sock: socket.socket) -> int:
    """Octets that must be there before the kernel reports them."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


class Reader:
    """Reads what is reported."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.read = b""
        self.something = asyncio.Event()

    def ready(self, _descriptor: int, _events: int) -> None:
        self.read += self.sock.recv(65536)
        self.something.set()

    def fail(self) -> None:
        raise AssertionError


async def test_a_slow_source_is_reported_at_once(engine: Engine, tcp_pair: TcpPair) -> None:
    source, _ = tcp_pair()
    coalescing = ReadCoalescing(engine, source, Reader(source))
    for second in range(1, 100):
        engine.now += 0.02
        coalescing.count(second * 2 * MIB)  # 100 MiB a second
    assert not coalescing.fast
    assert together(source) == 1


async def test_what_a_fast_source_leaves_behind_is_reported_soon(engine: Engine, tcp_pair: TcpPair) -> None:
    source, sender = tcp_pair()
    reader = Reader(source)
    engine.watch(source.fileno(), reader)
    coalescing = ReadCoalescing(engine, source, reader)
    for step in range(1, 4):
        engine.now += 0.004
        coalescing.count(step * 2 * MIB)  # 500 MiB a second
    assert coalescing.fast
    assert together(source) == TOGETHER
    sender.send(b"the last piece")
    await asyncio.wait_for(reader.something.wait(), LONG)
    assert reader.read == b"the last piece"
    assert not coalescing.fast
    assert together(source) == 1


async def test_a_fast_source_may_be_closed(engine: Engine, tcp_pair: TcpPair) -> None:
    source, _ = tcp_pair()
    coalescing = ReadCoalescing(engine, source, Reader(source))
    coalescing.count(2 * MIB)
    coalescing.count(4 * MIB)
    assert coalescing.fast
    source.close()
    assert coalescing.poll() is False
