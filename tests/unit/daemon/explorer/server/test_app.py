"""The self-hosted explorer on its own listening sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tfgateway.errors import ExplorerError
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.app import METRICS, create_app, serve
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.storage import tables
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine

from tests.support.ports import free_port

POLL = b"GET /api/v1/reservations/nodes/N/workloads?from=0 HTTP/1.1\r\nHost: x\r\n\r\n"


async def _fill(path: Path) -> None:
    """More in one page than a connection's buffers hold."""
    opened = Database(SqliteEngine(path))
    await opened.open()
    row = {"node_id": "N", "customer_tid": 1, "pool_id": 1, "workload_type": 8, "next_action": 3, "active": 0}
    body = b'"' + b"x" * 100_000 + b'"'
    for _ in range(200):
        await opened.write(lambda connection: tables.insert(connection, "workload", body=body, **row))
    await opened.close()


async def test_e12_who_takes_nothing_of_an_answer_is_not_kept(tmp_path: Path) -> None:
    await _fill(tmp_path / "e.db")
    app, port = create_app(SqliteEngine(tmp_path / "e.db"), ExplorerPolicy(read_timeout=2.0)), free_port()
    ready, stopping = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve(app, [("127.0.0.1", port)], stopping, ready.set))
    async with asyncio.timeout(30):
        await ready.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POLL)
        assert len(await reader.readuntil(b"\r\n\r\n")) > 0
        # One that reads gets all of it, however slowly.
        got = 0
        for _ in range(4):
            got += len(await reader.readexactly(5_000_000))
            await asyncio.sleep(0.7)
        assert got == 20_000_000
        writer.close()

        silent = socket.create_connection(("127.0.0.1", port))
        silent.sendall(POLL)
        with pytest.raises(OSError):
            while True:  # the server's kernel tells nobody: one hears of it when one speaks
                await asyncio.sleep(0.5)
                silent.sendall(b"\r\n")
        silent.close()
        stopping.set()
        await serving


async def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ExplorerError, match=f"cannot listen on 127.0.0.1 port {port}: "):
            await serve(
                create_app(SqliteEngine(tmp_path / "e.db")), [("127.0.0.1", port)], asyncio.Event(), lambda: None
            )


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[tuple[web.Application, int]]]]:
    """Call it with policy members for an explorer on a socket of its own: the application and the port."""
    stopping = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def start(**policy: Any) -> tuple[web.Application, int]:
        app, port, ready = (
            create_app(SqliteEngine(tmp_path / "e.db"), ExplorerPolicy(**policy)),
            free_port(),
            asyncio.Event(),
        )
        tasks.append(asyncio.create_task(serve(app, [("127.0.0.1", port)], stopping, ready.set)))
        async with asyncio.timeout(60):
            await ready.wait()
        return app, port

    yield start
    stopping.set()
    await asyncio.gather(*tasks)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(port: int, source: str, request: bytes = b"") -> Stream:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    writer.write(request)
    return reader, writer


async def _answered(stream: Stream) -> bytes:
    async with asyncio.timeout(60):
        return await stream[0].readuntil(b"\r\n\r\n")


async def _ended(stream: Stream) -> None:
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionResetError):
            await stream[0].read()


FARMS = b"GET /api/v1/farms HTTP/1.1\r\nHost: x\r\n\r\n"
WAIT = b"GET /api/v1/reservations/nodes/N/workloads?from=0&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_when_full_the_client_with_most_connections_gives_way_idle_ones_first(served: Any) -> None:
    app, port = await served(max_connections=5)
    many = [await _connect(port, "127.0.0.2", WAIT) for _ in range(3)]
    idle = await _connect(port, "127.0.0.2", FARMS)
    assert b" 200 " in await _answered(idle)
    other = await _connect(port, "127.0.0.3", FARMS)
    assert b" 200 " in await _answered(other)
    await _until(lambda: app[SERVICES].long_polls.waiting == 3)
    kept = [other]
    for expected in (idle, many[0], many[1]):
        newcomer = await _connect(port, "127.0.0.4", FARMS)
        assert b" 200 " in await _answered(newcomer)
        newcomer[1].close()
        await _ended(expected)
        # Its place is taken again before the next one comes.
        await _until(lambda: app[SERVICES].limits.connections == 4)
        kept.append(await _connect(port, "127.0.0.3" if expected is idle else "127.0.0.5"))
        await _until(lambda: app[SERVICES].limits.connections == 5)
    assert app[METRICS].get_sample_value("tfgateway_explorer_evicted_total", {"limit": "connections"}) == 3
    other[1].write(FARMS)
    assert b" 200 " in await _answered((other[0], other[1]))


async def test_when_too_many_wait_the_client_with_most_polls_is_answered(served: Any) -> None:
    app, port = await served(max_waiting=2)
    first = await _connect(port, "127.0.0.2", WAIT)
    await _until(lambda: app[SERVICES].long_polls.waiting == 1)
    second = await _connect(port, "127.0.0.2", WAIT)
    await _until(lambda: app[SERVICES].long_polls.waiting == 2)
    third = await _connect(port, "127.0.0.2", WAIT)
    assert b" 200 " in await _answered(third)
    other = await _connect(port, "127.0.0.3", WAIT)
    assert b" 200 " in await _answered(first)
    await _until(lambda: app[SERVICES].long_polls.waiting == 2)
    app[SERVICES].long_polls.publish("N")
    assert b" 200 " in await _answered(second)
    assert b" 200 " in await _answered(other)
    assert app[METRICS].get_sample_value("tfgateway_explorer_evicted_total", {"limit": "polls"}) == 2


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the server has no event for that
            await asyncio.sleep(0.01)
