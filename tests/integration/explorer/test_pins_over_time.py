"""Upgrade, rollback, cutover and cutover back over months: the heartbeat arrives each time, whoever sends it.

A real explorer with a database, whose clock the test moves; ours is the reconciler's own part, the old program signs as
the original ones do, and ``tfgateway identity unpin`` is the request that it sends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from tfgateway.explorer import signing, user, wire
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Gateway, Location
from tfgateway.explorer.server.app import create_app
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.explorer_side.registration import DirectoryEntry
from tfgateway.reconciler.status import DirectoryStatus
from tfgateway.settings import ExplorerSettings, GatewaySettings, Settings

DAY = 86_400.0
FARMER = Identity.from_seed(bytes(range(0x20, 0x40)))
NODE = Identity.from_seed(bytes(range(0x20)))
PLACE = Location(city="Gent")


async def somewhere() -> Location:
    return PLACE


class Months:
    """An explorer, its clock, and a gateway that one program after the other runs."""

    def __init__(self, url: str) -> None:
        self.now = 1_700_000_000.0
        self.url = url
        self.sent = 0
        self.pin = True
        """The setting ``explorer.pin`` of ours."""

    def client(self, identity: Identity = NODE, key_id: str = NODE.node_id) -> ExplorerClient:
        return ExplorerClient(self.url, identity=identity, key_id=key_id, clock=lambda: self.now)

    async def arrived(self) -> float:
        """When the explorer has heard of the gateway last."""
        async with ExplorerClient(self.url) as anybody:
            return (await anybody.gateway(NODE.node_id)).updated

    async def old(self, path: str, body: object) -> int:
        """The status of a request of the old program."""
        headers = signing.request_headers(NODE, NODE.node_id, int(self.now))
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/api/v1{path}", data=wire.encode(body), headers=headers) as answer,
        ):
            return answer.status

    async def old_runs(self) -> bool:
        """The old program starts: whether its registration and its heartbeat arrive."""
        entry = Gateway(
            node_id=NODE.node_id,
            farm_id=1,
            os_version="old",
            public_key_hex=NODE.public_key.hex(),
            location=PLACE,
        )
        registered = await self.old("/gateways", entry)
        beat = await self.old(f"/gateways/{NODE.node_id}/uptime", {"uptime": 1})
        return (registered, beat) == (201, 200) and await self.arrived() == self.now

    async def ours_runs(self) -> DirectoryStatus:
        """Ours starts: what became of its entry, once its heartbeat has arrived."""
        said: asyncio.Queue[DirectoryStatus] = asyncio.Queue()
        settings = Settings(gateway=GatewaySettings(farm_id=1), explorer=ExplorerSettings(pin=self.pin))
        async with self.client() as client:
            entry = DirectoryEntry(client, NODE, settings, somewhere, lambda _address: None, said.put)
            running = asyncio.create_task(entry.run())
            try:
                async with asyncio.timeout(30):
                    while (status := await said.get()).state == "pending":
                        pass
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
        assert await self.arrived() == self.now
        return status

    async def unpin(self) -> None:
        """``tfgateway identity unpin``, as rollback and cutover_back run it while ours still runs."""
        async with self.client() as client:
            await client.pin_gateway(NODE.node_id, pin=False)


@pytest.fixture
async def months(tmp_path: Path) -> AsyncIterator[Months]:
    def now() -> float:
        return months.now

    policy = ExplorerPolicy(registration=RegistrationMode.OPEN)
    async with TestServer(create_app(SqliteEngine(tmp_path / "explorer.db"), policy, clock=now)) as server:
        months = Months(str(server.make_url("")).rstrip("/"))
        async with months.client(FARMER, "1") as farmer:
            await user.register(farmer, FARMER, "farmer", "farmer@example.com")
            await user.farm(farmer, 1, "farm", "none")
        yield months


LISTED, PINNED = DirectoryStatus("listed"), DirectoryStatus("listed", pin="set")


async def test_cutover_and_back_whenever_it_is(months: Months) -> None:
    assert await months.old_runs()
    months.now += DAY
    assert await months.ours_runs() == LISTED  # the cutover: the old program may come back
    months.now += DAY
    await months.unpin()  # cutover_back, whether it is pinned or not
    assert await months.old_runs()
    months.now += DAY
    assert await months.ours_runs() == LISTED
    months.now += 31 * DAY
    assert await months.ours_runs() == PINNED
    assert not await months.old_runs()  # nobody who has captured what it once signed can be the gateway
    months.now += DAY
    assert await months.ours_runs() == PINNED
    await months.unpin()
    assert await months.old_runs()
    assert await months.ours_runs() == LISTED


async def test_a_gateway_that_began_with_ours_is_pinned_at_once_and_rolled_back_all_the_same(months: Months) -> None:
    assert await months.ours_runs() == PINNED
    months.now += DAY
    await months.unpin()  # rollback, to a release that signs as the old programs do
    assert await months.old_runs()
    months.now += DAY
    assert await months.ours_runs() == LISTED  # the upgrade once more
    months.now += 30 * DAY
    assert await months.ours_runs() == PINNED


async def test_who_rolls_back_while_ours_takes_the_offer_is_not_locked_out(months: Months) -> None:
    await months.ours_runs()
    await months.unpin()
    months.now += 30 * DAY
    async with months.client() as ours:
        await ours.send_uptime(NODE.node_id, 1)
        assert ours.pin == "offered"
        await months.unpin()
        with pytest.raises(Exception, match="no pin is offered"):
            await ours.take_pin(NODE.node_id)
    assert await months.old_runs()


async def test_the_setting_switches_it_off(months: Months) -> None:
    months.pin = False
    assert await months.ours_runs() == DirectoryStatus("listed", pin="offered")
    assert await months.old_runs()
