"""The self-hosted explorer on its own listening sockets."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from tfgateway.errors import ExplorerError
from tfgateway.explorer.server.app import create_app, serve
from tfgateway.explorer.server.policy import Policy
from tfgateway.explorer.server.storage import database
from tfgateway.explorer.server.storage.database import Database

from tests.support.ports import free_port

POLL = b"GET /api/v1/reservations/nodes/N/workloads?from=0 HTTP/1.1\r\nHost: x\r\n\r\n"


async def _fill(path: Path) -> None:
    """More in one page than a connection's buffers hold."""
    opened = Database(path)
    await opened.open()
    row = {"node_id": "N", "customer_tid": 1, "pool_id": 1, "workload_type": 8, "next_action": 3, "active": 0}
    body = b'"' + b"x" * 100_000 + b'"'
    for _ in range(200):
        await opened.write(lambda connection: database.insert(connection, "workload", body=body, **row))
    await opened.close()


async def test_e12_who_takes_nothing_of_an_answer_is_not_kept(tmp_path: Path) -> None:
    await _fill(tmp_path / "e.db")
    app, port = create_app(tmp_path / "e.db", Policy(read_timeout=2.0)), free_port()
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
            await serve(create_app(tmp_path / "e.db"), [("127.0.0.1", port)], asyncio.Event(), lambda: None)
