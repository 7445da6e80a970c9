"""The listeners in this process: what does not happen on its own is made to happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
import structlog.testing
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.server import listeners
from tfgateway.dns.server.listeners import Listeners
from tfgateway.dns.zones.zones import Zones
from tfgateway.plane import Endpoint, Listening
from tfgateway.settings import DnsSettings
from tfgateway.telemetry.logs import logger
from tfgateway.workers.listen_sockets import ListenSockets

from tests.support.waiting import soon

QUERY = dns.message.make_query("www.example", "A")


class Running:
    def __init__(self, port: int, settings: DnsSettings) -> None:
        self.port = port
        self.counts = QueryCounters()
        self.listeners = Listeners(Zones(), ServerOptions(), None, settings, self.counts, logger("dns"), workers=2)

    async def start(self) -> None:
        endpoints = [Endpoint("dns", kind, f"127.0.0.1:{self.port}") for kind in ("udp", "tcp")]
        sockets = ListenSockets().prepare(endpoints, 1)
        for door in sockets:
            door.open()
        await self.listeners.start([Listening(door.endpoint, door.socket) for door in sockets])

    async def ask(self, *, tcp: bool) -> dns.rcode.Rcode:
        ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return (await ask(QUERY, "127.0.0.1", timeout=30, port=self.port)).rcode()


@pytest.fixture
async def running(free_port: Callable[[], int], request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    made = Running(free_port(), getattr(request, "param", DnsSettings()))
    yield made
    await made.listeners.close()
    await made.listeners.close()  # harmless


@pytest.mark.parametrize("tcp", [False, True])
async def test_sockets_of_another_worker_are_served_for_as_long_as_they_are_covered(
    running: Running, *, tcp: bool
) -> None:
    """They stay open: what comes later waits in them for whoever reads them next."""
    endpoints = [Endpoint("dns", kind, f"127.0.0.1:{running.port}") for kind in ("udp", "tcp")]
    sockets = ListenSockets().prepare(endpoints, 1)
    for one in sockets:
        one.open()
    others = [Listening(one.endpoint, one.socket) for one in sockets]
    await running.listeners.cover(others)
    assert await running.ask(tcp=tcp) == dns.rcode.REFUSED
    await running.listeners.cover(others)
    await running.listeners.cover([])
    late = asyncio.create_task(running.ask(tcp=tcp))
    read = asyncio.Event()
    (sock,) = (one.socket for one in others if (one.endpoint.kind == "tcp") is tcp)
    asyncio.get_running_loop().add_reader(sock, read.set)
    async with asyncio.timeout(60):
        await read.wait()
    asyncio.get_running_loop().remove_reader(sock)
    assert not late.done()
    await running.listeners.cover(others)
    assert await late == dns.rcode.REFUSED
    await running.listeners.close()
    for one in others:
        assert one.socket.fileno() >= 0
        one.socket.close()


@pytest.mark.parametrize("tcp", [False, True])
async def test_query_that_cannot_be_handled_gets_servfail_and_the_next_is_answered(
    running: Running, monkeypatch: pytest.MonkeyPatch, *, tcp: bool
) -> None:
    await running.start()

    def fails(*_arguments: object) -> bytes:
        raise RuntimeError("unforeseen")

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(listeners, "respond", fails)
        assert await running.ask(tcp=tcp) == dns.rcode.SERVFAIL
    assert [entry["reason"] for entry in logs] == ["RuntimeError('unforeseen')"]
    assert await running.ask(tcp=tcp) == dns.rcode.REFUSED
    assert running.counts.queries[("tcp" if tcp else "udp"), 1, dns.rcode.SERVFAIL] == 1


@pytest.mark.parametrize("running", [DnsSettings(tcp_connections=5, tcp_idle=600)], indirect=True)
async def test_workers_share_the_tcp_connections_that_are_allowed(running: Running) -> None:
    await running.start()
    streams = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(4)]
    await soon(lambda: running.counts.drops["tcp", "gave_way"] == 1)  # half of five, rounded up, stay
    assert running.listeners.tcp_connections == 3
    for _, writer in streams:
        writer.close()


@pytest.mark.parametrize("running", [DnsSettings(tcp_connections_per_client=5, tcp_idle=600)], indirect=True)
async def test_no_client_is_refused_below_its_limit_whichever_worker_it_gets(running: Running) -> None:
    """All five may come to one worker of two."""
    await running.start()
    streams = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(6)]
    async with asyncio.timeout(30):
        assert await streams[5][0].read() == b""
    assert running.listeners.tcp_connections == 5
    for _, writer in streams:
        writer.close()
