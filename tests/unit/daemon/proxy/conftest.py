"""Real TCP connections on the loopback interface."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
from tfgateway.proxy.eventloop.engine import Engine, EngineLoop, running_engine

SocketPair = tuple[socket.socket, socket.socket]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Of all tests here: as in a worker of the proxy."""
    return {"engine": EngineLoop}


@pytest.fixture
async def engine() -> Engine:
    return running_engine()


@pytest.fixture
def tcp_pair() -> Iterator[Callable[..., SocketPair]]:
    """Call it for a connected (connecting, accepted) pair, both non-blocking; ``buffer``: octets of kernel buffers."""
    made: list[socket.socket] = []

    def connect(buffer: int = 0) -> SocketPair:
        with socket.create_server(("127.0.0.1", 0)) as server:
            if buffer:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            near = socket.socket()
            made.append(near)
            if buffer:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            near.connect(server.getsockname())
            far, _ = server.accept()
            made.append(far)
        near.setblocking(False)
        far.setblocking(False)
        return near, far

    yield connect
    for one in made:
        one.close()
