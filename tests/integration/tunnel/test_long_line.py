"""Tunnels over a line with a delay: receive windows grow, and what they took is given back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable

import pytest
from tfgateway.tunnel.client.model import Phase

from tests.support.ports import free_port
from tests.support.waiting import soon
from tests.unit.daemon.tunnel.conftest import World, read_all
from tests.unit.daemon.tunnel.conftest import world as world

SIZE = 6_000_000


@pytest.fixture
async def long_line() -> AsyncIterator[Callable[[int], object]]:
    """Starts one to a port: its own port."""
    started: list[asyncio.subprocess.Process] = []

    async def one(target: int) -> int:
        port = free_port()
        command = [sys.executable, "-m", "tests.support.long_line", str(port), str(target), "0.02", "1e8", "8000000"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"listening\n"
        return port

    yield one
    for process in started:
        process.kill()
        await process.wait()


async def test_windows_grow_with_the_distance_and_move_with_their_session(world: World, long_line) -> None:
    async def much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        for _ in range(2):
            writer.write(bytes(SIZE // 2))
            await writer.drain()
            await asyncio.wait_for(go_on.wait(), 60)
        writer.close()

    go_on = asyncio.Event()
    gateway = world.gateway()
    status = world.client(await long_line(gateway.port), await world.service(much))
    await soon(lambda: status.phase is Phase.CONNECTED)
    received = asyncio.create_task(read_all(gateway.visit()))
    await soon(lambda: gateway.tunnels._budget.used > 0)
    successor = world.gateway(listening=gateway.stop_accepting())
    async with asyncio.timeout(20):
        await gateway.tunnels.drain()
    assert (gateway.tunnels._budget.used, successor.tunnels._budget.used > 0) == (0, True)
    go_on.set()
    assert await received == bytes(SIZE)
    await soon(lambda: successor.tunnels._budget.used == 0)
    assert status.sessions == 1
