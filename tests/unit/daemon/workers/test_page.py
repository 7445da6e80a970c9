"""The metrics page at the moment in which another process goes on with it."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tfgateway.telemetry import metrics
from tfgateway.workers.metrics.page import MetricsPage

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


async def render() -> bytes:
    return b"figures 1\n"


@pytest.fixture
def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


async def test_who_was_accepted_is_answered_and_who_connects_later_waits(listening: socket.socket) -> None:
    page = MetricsPage(listening, render)
    await page.serve()
    address = listening.getsockname()
    accepted, writer = await asyncio.open_connection(*address)
    await asyncio.sleep(0.05)
    pausing = asyncio.create_task(page.pause())
    await asyncio.sleep(0.05)
    later, later_writer = await asyncio.open_connection(*address)
    later_writer.write(REQUEST)
    writer.write(REQUEST)  # only now: it was on its way
    answer = await accepted.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
    assert answer.endswith(b"figures 1\n")
    await pausing
    await page.serve()
    assert (await later.read()).endswith(b"figures 1\n")
    await page.pause()
    listening.close()
    for one in (writer, later_writer):
        one.close()


async def test_a_client_that_asks_nothing_holds_up_nothing_for_long(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_LAST_PAGES", 0.1)
    page = MetricsPage(listening, render)
    await page.serve()
    silent, writer = await asyncio.open_connection(*listening.getsockname())
    await asyncio.sleep(0.05)
    async with asyncio.timeout(30):
        await page.pause()
        assert await silent.read() == b""
    writer.close()
    listening.close()
