"""Registration, heartbeat and counters, at an explorer that forgets and fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Location, WorkloadCounts
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.explorer_side import registration
from tfgateway.reconciler.explorer_side.registration import DirectoryEntry
from tfgateway.reconciler.status import DirectoryStatus
from tfgateway.settings import GatewaySettings, Settings

NOT_ADMITTED = "farm 3 has not admitted this gateway"
IDENTITY = Identity.from_seed(bytes(range(32)))


@dataclass
class Server:
    url: str = ""
    known: bool = False
    failing: int = 0
    refusal: str = ""
    """To register."""
    became: list[DirectoryStatus] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    address: str = "8.8.4.4"
    """From which it saw the gateway register."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    reachable_at: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        kind = request.path.rpartition("/")[2]
        if request.method == "GET":
            return web.json_response({"node_id": kind, "address": self.address})
        if self.failing:
            self.failing -= 1
            return web.Response(status=503)
        if kind == "gateways" and self.refusal:
            return web.json_response({"error": self.refusal}, status=403)
        if kind == "gateways":
            self.known = True
        if not self.known:
            return web.json_response({"error": "gateway not found"}, status=404)
        self.calls.append((kind, json.loads(await request.read())))
        self.changed.set()
        return web.json_response(None, status=201 if kind == "gateways" else 200)

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.calls]

    async def report(self, status: DirectoryStatus) -> None:
        self.became.append(status)
        self.changed.set()

    async def reported(self, wanted: list[DirectoryStatus]) -> None:
        """Exactly these, and nothing in between."""
        while len(self.became) < len(wanted):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)
        assert self.became == wanted

    async def called(self, count: int) -> None:
        while len(self.calls) < count:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)


async def somewhere() -> Location:
    return Location(city="Gent")


@pytest.fixture
async def server(serve: Any) -> Server:
    made = Server()
    path = "/api/v1/gateways{rest:.*}"
    made.url = await serve(("POST", path, made.handle), ("GET", path, made.handle))
    return made


@pytest.fixture
async def entry(server: Server) -> AsyncIterator[DirectoryEntry]:
    gateway = GatewaySettings(farm_id=3, managed_domains=("gw1.example",), name_servers=("ns1.gw1.example",))
    settings = Settings(gateway=gateway)
    async with ExplorerClient(server.url, identity=IDENTITY, key_id=IDENTITY.node_id) as client:
        made = DirectoryEntry(
            client, IDENTITY, settings, lambda: somewhere(), server.reachable_at.append, server.report
        )
        task = asyncio.create_task(made.run())
        yield made
        task.cancel()


async def test_it_registers_then_reports_and_counts_what_changes(server: Server, entry: DirectoryEntry) -> None:
    await server.called(3)
    assert server.kinds() == ["gateways", "uptime", "reserved_resources"]
    posted = server.calls[0][1]
    assert posted["node_id"] == IDENTITY.node_id
    assert server.reachable_at == ["8.8.4.4"]
    assert posted["public_key_hex"] == IDENTITY.public_key.hex()
    assert (posted["farm_id"], posted["tcp_router_port"]) == (3, 18000)
    assert posted["location"]["city"] == "Gent"
    assert server.calls[1][1]["uptime"] > 0
    entry.count(WorkloadCounts(subdomain=2))
    await server.called(4)
    entry.count(WorkloadCounts(subdomain=2))
    await asyncio.sleep(0.1)
    assert server.calls[3:] == [("reserved_resources", server.calls[3][1])]
    assert server.calls[3][1]["subdomain"] == 2


async def test_failures_are_retried(server: Server, entry: DirectoryEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    server.failing = 2
    monkeypatch.setattr("tfgateway.aio.Backoff.failed", lambda _self: 0.01)
    await server.called(3)
    assert server.kinds() == ["gateways", "uptime", "reserved_resources"]


async def test_it_registers_again_when_the_explorer_forgot_it(
    server: Server, entry: DirectoryEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.called(3)
    monkeypatch.setattr(registration, "HEARTBEAT", 0.05)
    entry.heartbeat()
    await server.called(4)
    server.known = False
    before = len(server.calls)
    while server.kinds()[before:].count("gateways") < 1:
        await server.called(len(server.calls) + 1)
    await server.called(server.kinds().index("gateways", before) + 3)
    again = server.kinds()[server.kinds().index("gateways", before) :]
    assert again[:3] == ["gateways", "uptime", "reserved_resources"]


async def test_counters_that_are_refused_make_it_register_at_once(
    server: Server, entry: DirectoryEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.called(3)
    monkeypatch.setattr("tfgateway.aio.Backoff.failed", lambda _self: 0.01)
    server.known = False
    entry.count(WorkloadCounts(subdomain=2))
    await server.called(6)
    assert server.kinds()[3:] == ["gateways", "uptime", "reserved_resources"]
    assert server.calls[5][1]["subdomain"] == 2


async def test_an_explorer_that_was_away_is_greeted_at_once(server: Server, entry: DirectoryEntry) -> None:
    await server.called(3)
    entry.heartbeat()
    await server.called(4)
    assert server.kinds()[3:] == ["uptime"]


async def test_what_became_of_the_entry_is_reported_once(
    server: Server, entry: DirectoryEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of the table: what happens, and what it becomes."""
    monkeypatch.setattr("tfgateway.aio.Backoff.failed", lambda _self: 0.001)
    pending, listed = DirectoryStatus(), DirectoryStatus("listed")
    refused = DirectoryStatus("refused", NOT_ADMITTED)
    unavailable = DirectoryStatus("unavailable", "POST /gateways: unexpected answer with status 503")
    server.failing, server.refusal = 3, NOT_ADMITTED
    await server.reported(expected := [pending, unavailable, refused])
    server.refusal = ""
    await server.reported(expected := [*expected, listed])
    server.failing, server.known = 3, False  # who has listed it may be away, and may forget it
    server.refusal = NOT_ADMITTED
    entry.heartbeat()
    await server.reported(expected := [*expected, pending, refused])
    server.refusal = ""
    await server.reported([*expected, listed])
    assert server.failing == 0


def test_uptime_is_the_machines(tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("12345.67 54321.00\n")
    assert registration.uptime(tmp_path / "uptime") == 12345
    assert registration.uptime(tmp_path / "absent") == 0
    (tmp_path / "empty").write_text("")
    assert registration.uptime(tmp_path / "empty") == 0
