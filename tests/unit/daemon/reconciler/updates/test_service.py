"""The service beside the rules: whose names they are, what it answers when something is away, what it drops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import dns.update
import pytest
from tfgateway.dns.wire import codes, names, update
from tfgateway.errors import StoreError
from tfgateway.ids import NodeId
from tfgateway.reconciler.planning.inputs.rows import Transaction
from tfgateway.reconciler.updates.journal import Journal
from tfgateway.reconciler.updates.service import UpdateService
from tfgateway.redis_schema import resource_records
from tfgateway.redis_schema.owners import encode_zone_owner
from tfgateway.settings import UpdateSettings

NODE = NodeId("FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF")


class FakeRedis:
    """Hashes, and the two calls that the service makes; a write is refused when a row is not as expected."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, bytes]] = {
            "zone": {"alice.example": encode_zone_owner("7"), "gw1.example": encode_zone_owner(NODE)},
            "managed_domains": {"www.gw1.example": b"7"},
            "alice.example.": {"__owner__": b"{}"},
        }
        self.away = False
        self.before_write: Callable[[], None] = lambda: None

    async def fields(self, key: str, wanted: Sequence[str]) -> dict[str, bytes]:
        if self.away:
            raise StoreError("away")
        there = self.hashes.get(key, {})
        return {name: there[name] for name in wanted if name in there}

    async def write(self, transactions: Sequence[Transaction]) -> list[str]:
        if self.away:
            raise StoreError("away")
        before, self.before_write = self.before_write, lambda: None
        before()
        answers = []
        for one in transactions:
            differs = any(self.hashes.get(row.key, {}).get(row.field or "") != row.value for row in one.expected)
            answers.append("differs" if differs else "")
            for row in () if differs else one.writes:
                there = self.hashes.setdefault(row.key, {})
                if row.value is None:
                    there.pop(row.field or "", None)
                else:
                    there[row.field or ""] = row.value
        return answers

    def texts(self, key: str, field: str) -> list[str]:
        """The data of the records by updates."""
        records, _ = resource_records.decode(self.hashes.get(key, {}).get(field, b"{}"))
        return sorted(record.data for record in records)


class World:
    """A service over a fake redis and a real journal."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.redis = FakeRedis()
        self.path = directory / "journal"
        self.now = 1_000_000.0
        self.settings = UpdateSettings(**settings)
        self._macs = iter(range(1, 100_000))
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.path)
        self.journal.load()
        store = cast(Any, self.redis)
        self.service = UpdateService(NODE, self.settings, store, self.journal, self.redis.write, lambda: self.now)

    async def restore(self, *, whole: bool = True, domains: Sequence[str] | None = None) -> None:
        found = [
            (key, field)
            for key, fields in self.redis.hashes.items()
            for field, raw in fields.items()
            if key.endswith(".") and resource_records.has_any(raw)
        ]
        await self.service.restore(found if domains is None else (), domains, whole=whole)

    async def add(self, name: str, text: str = "x", *, user: str = "7", zone: str = "alice.example") -> str:
        message = dns.update.UpdateMessage(zone)
        message.add(name, 60, "TXT", text)
        rcode = await self.service.update(user, next(self._macs).to_bytes(8, "big"), message.to_wire())
        return codes.RCODE_NAMES[rcode]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.restore()
    return made


async def test_it_is_in_redis_and_in_the_journal(world: World) -> None:
    assert await world.add("x") == "NOERROR"
    assert world.redis.texts("alice.example.", "x") == ["0178"]
    world.start()
    assert [names.to_text(name) for name in world.journal.entries] == [b"x.alice.example."]


async def test_redis_is_away(world: World) -> None:
    world.redis.away = True
    assert await world.add("x") == "SERVFAIL"
    world.redis.away = False
    assert world.journal.entries == {}
    assert await world.add("x") == "NOERROR"


async def test_redis_goes_away_once_it_is_durable(world: World) -> None:
    def leave() -> None:
        world.redis.away = True
        raise StoreError("away")

    world.redis.before_write = leave
    assert await world.add("x") == "NOERROR"
    world.redis.away = False
    assert world.redis.texts("alice.example.", "x") == []
    await world.restore()
    assert world.redis.texts("alice.example.", "x") == ["0178"]


async def test_the_disk_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(world.journal, "append", full)
        assert await world.add("x") == "SERVFAIL"
    assert world.redis.texts("alice.example.", "x") == []
    assert await world.add("x") == "NOERROR"


async def test_somebody_else_writes_the_same_field(world: World) -> None:
    def other() -> None:
        world.redis.hashes["alice.example."]["x"] = b'{"a":[{"ip":"203.0.113.5","ttl":3600}]}'

    world.redis.before_write = other
    assert await world.add("x") == "NOERROR"
    assert world.redis.texts("alice.example.", "x") == ["0178"]
    assert b'"203.0.113.5"' in world.redis.hashes["alice.example."]["x"]


async def test_nothing_is_dropped_while_it_is_not_certain(world: World) -> None:
    """Redis lost everything, and the explorer has not said yet what there should be."""
    assert await world.add("x") == "NOERROR"
    lost, world.redis.hashes = world.redis.hashes, {}
    world.start()
    await world.restore(whole=False)
    assert await world.add("y") == "SERVFAIL"
    assert len(world.journal.entries) == 1
    assert world.redis.hashes == {}, "a zone that has no owner is nobody's to write to"
    lost["alice.example."].pop("x")
    world.redis.hashes = lost
    await world.restore(domains=["alice.example"])
    assert world.redis.texts("alice.example.", "x") == ["0178"]


async def test_what_another_user_holds_now_is_dropped_at_once(world: World) -> None:
    assert await world.add("x") == "NOERROR"
    world.redis.hashes["zone"]["alice.example"] = encode_zone_owner("8")
    assert await world.add("x", "new", user="8") == "NOERROR"
    assert world.redis.texts("alice.example.", "x") == ["036e6577"]
    assert await world.add("y", user="7") == "REFUSED"


async def test_so_it_is_by_a_pass(world: World) -> None:
    """Even one that does not know all that there should be."""
    assert await world.add("x") == "NOERROR"
    world.redis.hashes["zone"]["alice.example"] = encode_zone_owner("8")
    await world.restore(whole=False)
    assert world.redis.texts("alice.example.", "x") == []
    assert world.journal.entries == {}


async def test_records_go_with_a_subdomain_and_stay_with_another(world: World) -> None:
    world.redis.hashes["managed_domains"]["mail.gw1.example"] = b"7"
    for name in ("_acme-challenge.www", "_acme-challenge.mail"):
        assert await world.add(name, zone="gw1.example") == "NOERROR"
    del world.redis.hashes["managed_domains"]["www.gw1.example"]
    await world.restore(domains=["www.gw1.example"])
    assert world.redis.texts("gw1.example.", "_acme-challenge.www") == []
    assert world.redis.texts("gw1.example.", "_acme-challenge.mail") == ["0178"]


async def test_a_new_journal_takes_what_redis_has(tmp_path: Path) -> None:
    world = World(tmp_path)
    raw = resource_records.edit(None, [resource_records.ResourceRecord(16, 60, "0178")])
    assert raw is not None
    world.redis.hashes["alice.example."]["x"] = raw
    world.redis.hashes["stranger.example."] = {"x": raw}
    await world.restore(whole=False)
    assert await world.add("y") == "SERVFAIL"
    assert not world.path.exists(), "a journal that does not have them must not begin"
    await world.restore(whole=True)
    assert [entry.user for entry in world.journal.entries.values()] == ["7"]
    await world.restore(whole=True)
    assert world.redis.texts("alice.example.", "x") == ["0178"]
    assert world.redis.texts("stranger.example.", "x") == []


async def test_one_that_is_repeated_is_answered_as_before(world: World) -> None:
    message = dns.update.UpdateMessage("alice.example")
    message.present("x", "TXT")
    message.add("y", 60, "TXT", "y")
    raw = message.to_wire()
    assert await world.service.update("7", b"mac", raw) == codes.NXRRSET
    assert await world.add("x") == "NOERROR"
    assert await world.service.update("7", b"mac", raw) == codes.NXRRSET
    assert await world.service.update("7", b"another", raw) == codes.NOERROR
    world.now += 1000
    assert await world.service.update("7", b"mac", raw) == codes.NOERROR


async def test_a_user_has_a_rate(world: World) -> None:
    assert [await world.add("x") for _ in range(200)] == ["NOERROR"] * 200
    assert await world.add("x") == "SERVFAIL"
    assert await world.add("_acme-challenge.bob", user="8", zone="gw1.example") == "REFUSED"
    world.now += 1
    assert [await world.add("x") for _ in range(6)] == ["NOERROR"] * 5 + ["SERVFAIL"]


async def test_a_user_has_a_quota(tmp_path: Path) -> None:
    world = World(tmp_path, max_records_per_user=2)
    await world.restore()
    assert [await world.add(name) for name in ("a", "b", "c")] == ["NOERROR", "NOERROR", "REFUSED"]
    removal = dns.update.UpdateMessage("alice.example")
    removal.delete("a")
    assert await world.service.update("7", b"removal", removal.to_wire()) == codes.NOERROR
    assert await world.add("c") == "NOERROR"


async def test_who_may_copy_a_zone(world: World) -> None:
    def wire(text: bytes) -> names.Name:
        return names.fold(names.from_text(text))

    assert await world.service.may_transfer("7", wire(b"alice.example."))
    assert not await world.service.may_transfer("8", wire(b"alice.example."))
    assert not await world.service.may_transfer("7", wire(b"gw1.example."))
    assert not await world.service.may_transfer("7", wire(b"www.gw1.example."))
    assert not await world.service.may_transfer("7", wire(b"elsewhere.example."))


async def test_who_asked_goes_away(world: World) -> None:
    """What is begun comes to its end before the next one begins."""
    append, begun, gate = world.journal.append, threading.Event(), threading.Event()

    def slowly(*arguments: Any, **more: Any) -> None:
        begun.set()
        assert gate.wait(20)
        append(*arguments, **more)

    world.journal.append = slowly  # type: ignore[method-assign]
    message = dns.update.UpdateMessage("alice.example")
    message.add("x", 60, "TXT", "x")
    asked = asyncio.create_task(world.service.update("7", b"first", message.to_wire()))
    assert await asyncio.to_thread(begun.wait, 20)
    asked.cancel()
    second = asyncio.create_task(world.add("y"))
    await asyncio.sleep(0)
    gate.set()
    assert await second == "NOERROR"
    world.start()
    assert len(world.journal.entries) == 2


async def test_another_reservation_of_the_same_user_keeps_them(world: World) -> None:
    world.redis.hashes["managed_domains"]["alice.gw1.example"] = b"7"
    assert await world.add("_acme-challenge.www.alice", zone="gw1.example") == "NOERROR"
    world.redis.hashes["managed_domains"]["www.alice.gw1.example"] = b"7"
    await world.restore()
    assert world.redis.texts("gw1.example.", "_acme-challenge.www.alice") == ["0178"]


async def test_a_message_that_would_take_long(world: World) -> None:
    """As many records as are looked at, at one name: linear, not quadratic."""
    message = dns.update.UpdateMessage("alice.example")
    for number in range(update.MAX_RECORDS):
        message.add("x", 60, "TXT", str(number))
    looked_at = 0
    canonical = update.canonical

    def counted(kind: int, data: bytes) -> bytes:
        nonlocal looked_at
        looked_at += 1
        return canonical(kind, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "canonical", counted)
        assert await world.service.update("7", b"mac", message.to_wire(max_size=65535)) == codes.REFUSED
    assert looked_at <= 3 * update.MAX_RECORDS
