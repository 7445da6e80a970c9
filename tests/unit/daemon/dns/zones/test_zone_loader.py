"""From the mirror's news to zones, in the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.respond import respond
from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.rrsets import ZonePolicy
from tfgateway.dns.zones import zone_loader
from tfgateway.dns.zones.serial import SerialBook
from tfgateway.dns.zones.zone import Zone
from tfgateway.dns.zones.zones import Zones
from tfgateway.redis_schema.serials import Issued, encode_issued
from tfgateway.telemetry.logs import logger

SERIALS = b"tfgateway:serials"
LABELS = [b"a", b"b", b"*", b"a.b", b"@", b"CAPITAL", b"x" * 64]
RAW = [
    b'{"a":[{"ip":"192.0.2.1","ttl":3600}]}',
    b'{"a":[{"ip":"192.0.2.1","ttl":60},{"ip":"192.0.2.2"}],"txt":[{"text":"x"}]}',
    b'{"ns":[{"host":"ns.other."}]}',
    b'{"soa":{"ns":"ns.z.","ttl":5}}',
    b"{}",
    b"damaged",
]
POLICY = ZonePolicy(300, (b"\x02ns\0",))


def fields(**content: object) -> dict[bytes, bytes]:
    return {name.encode(): json.dumps(value).encode() for name, value in content.items()}


def address(ip: str) -> dict[str, object]:
    return {"a": [{"ip": ip}]}


async def pieces(fields: dict[bytes, bytes], size: int = 300) -> AsyncIterator[dict[bytes, bytes]]:
    items = list(fields.items())
    for start in range(0, len(items), size):
        yield dict(items[start : start + size])


class Running:
    def __init__(self, prefix: str = "", suffix: str = "") -> None:
        self.table = Zones()
        self.book = SerialBook(lambda: None)
        self.now = 1_790_000_000.9
        log = logger("dns")
        self.loader = zone_loader.ZoneLoader(
            self.table, POLICY, self.book, log, prefix=prefix, suffix=suffix, clock=lambda: self.now
        )

    async def tell(self, key: bytes, value: dict[bytes, bytes] | None) -> None:
        if value is None:
            await self.loader.remove(key)
        else:
            await self.loader.replace(key, pieces(value))

    def names(self, zone: bytes) -> set[bytes]:
        found = self.table.get(zone)
        assert found is not None
        return {names.to_text(name) for name in found.nodes}

    def address(self, text: str) -> bytes | None:
        name = names.from_text(text.encode())
        zone = self.table.find(name, codes.A)
        node = zone and zone.locate(name)
        rrset = node and node.get(codes.A)
        return rrset and rrset.bodies[0][-4:]


@pytest.fixture
def running() -> Running:
    return Running()


async def test_zone_comes_changes_and_goes(running: Running) -> None:
    await running.tell(b"z.", fields(www=address("192.0.2.1"), old=address("192.0.2.2")))
    assert running.names(b"\x01z\0") == {b"z.", b"www.z.", b"old.z."}
    await running.tell(b"z.", fields(www=address("192.0.2.3"), new=address("192.0.2.4")))
    assert running.names(b"\x01z\0") == {b"z.", b"www.z.", b"new.z."}
    assert running.address("www.z.") == bytes([192, 0, 2, 3])
    await running.tell(b"z.", None)
    assert len(running.table) == 0


async def test_only_what_changed_is_put_into_the_zone(running: Running) -> None:
    await running.tell(b"z.", fields(www=address("192.0.2.1"), kept=address("192.0.2.2")))
    zone = running.table.get(b"\x01z\0")
    assert zone is not None
    told: list[object] = []
    running.table.watch(lambda _, changed: told.append(changed))
    await running.tell(b"z.", fields(www=address("192.0.2.9"), kept=address("192.0.2.2")))
    assert running.table.get(b"\x01z\0") is zone
    assert told == [[b"\x03www\x01z\0"]]


async def test_watchers_are_told_which_names_changed(running: Running) -> None:
    told: list[object] = []
    running.table.watch(lambda zone, changed: told.append((zone, None if changed is None else sorted(changed))))
    seen = {running.table.generation}
    for content, expected in (
        (fields(www=address("192.0.2.1"), old=address("192.0.2.2")), None),
        (fields(www=address("192.0.2.3"), new=address("192.0.2.2")), [b"\x03new", b"\x03old", b"\x03www"]),
        (None, None),
    ):
        await running.tell(b"z.", content)
        assert told.pop() == (b"\x01z\0", expected and [label + b"\x01z\0" for label in expected])
        assert not told
        seen.add(running.table.generation)
    assert len(seen) == 4


async def test_apex_comes_and_goes(running: Running) -> None:
    apex = {b"@": json.dumps(address("192.0.2.1")).encode()}
    for told, expected in ((apex, bytes([192, 0, 2, 1])), (fields(www={}), None), (apex, bytes([192, 0, 2, 1]))):
        await running.tell(b"z.", told)
        assert running.address("z.") == expected


async def test_many_changes_are_made_beside_the_zone_that_is_served(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zone_loader, "_AT_ONCE", 10)
    monkeypatch.setattr(zone_loader, "_SLICE", 0.0)
    first = {b"n%d" % number: b'{"a":[{"ip":"192.0.2.1"}]}' for number in range(1000)}
    second = {b"n%d" % number: b'{"a":[{"ip":"192.0.2.2"}]}' for number in range(500, 1500)}
    await running.tell(b"z.", first)
    seen = set()

    settled = asyncio.create_task(running.tell(b"z.", second))
    while True:
        # Another task in the same loop, as a listener is, sees the old zone or the new one, never something between.
        seen.add((running.address("n0.z."), running.address("n700.z."), running.address("n1499.z.")))
        if settled.done():
            break
        await asyncio.sleep(0)
    old, new = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
    assert seen == {(old, old, None), (None, new, new)}
    assert len(running.names(b"\x01z\0")) == 1001


async def test_queries_are_answered_while_a_big_zone_is_loaded(running: Running) -> None:
    await running.tell(b"small.", fields(www=address("192.0.2.1")))
    big = {b"n%d" % number: b'{"a":[{"ip":"192.0.2.1"}]}' for number in range(30_000)}
    settled = asyncio.create_task(running.tell(b"big.", big))
    query = b"\x12\x34\0\0\0\1\0\0\0\0\0\0\x03www\x05small\0\0\1\0\1"
    answered = 0
    while not settled.done():
        reply = respond(query, bytes(4), 0, running.table, ServerOptions(), "udp", QueryCounters())
        assert reply is not None and reply.message[3] == codes.NOERROR
        answered += 1
        await asyncio.sleep(0)
    assert answered > 10


async def test_serial_changes_with_the_data_only(running: Running) -> None:
    def serial() -> int:
        zone = running.table.get(b"\x01z\0")
        assert zone is not None
        return zone.serial

    await running.tell(b"z.", fields(www=address("192.0.2.1")))
    assert serial() == 1_790_000_000
    running.now += 60
    await running.tell(b"z.", {b"www": b'{"A": [{"ip": "192.0.2.1"}]}'})
    assert serial() == 1_790_000_000
    await running.tell(b"z.", fields(www=address("192.0.2.2")))
    assert serial() == 1_790_000_060
    await running.tell(b"z.", None)
    running.now += 60
    await running.tell(b"z.", fields(www=address("192.0.2.2")))
    assert serial() == 1_790_000_120


async def test_the_newest_serial_for_the_same_data_is_served_whoever_gave_it(running: Running) -> None:
    def zone() -> Zone:
        found = running.table.get(b"\x01z\0")
        assert found is not None
        return found

    async def hear(serial: int, digest: int) -> bool:
        """Whether it was taken over, and the watchers were told."""
        before = running.table.generation
        await running.loader.change(SERIALS, {b"z.": encode_issued(Issued(serial, digest)), b"": b"damaged"})
        assert zone().serial == int.from_bytes(zone().soa.bodies[0][-20:-16], "big")
        return zone().serial == serial and running.table.generation > before

    await running.tell(b"z.", fields(www=address("192.0.2.1")))
    now, digest = zone().serial, zone().digest
    assert not await hear(now - 1, digest)
    assert not await hear(now + 5, digest + 1)
    assert zone().serial == now
    assert await hear(now + 7, digest)
    await running.loader.change(b"z.", fields(www=address("192.0.2.2")))
    assert zone().serial == now + 8, "newer than all that was heard"
    running.book.take_unsaved()
    await running.loader.remove(SERIALS)
    assert set(running.book.take_unsaved()) == {b"z."}


async def test_serials_of_absent_zones_are_forgotten_after_the_first_snapshot(running: Running) -> None:
    running.book.observe({b"z.": Issued(5, 5), b"gone.": Issued(5, 5)})
    await running.tell(b"z.", fields())
    running.loader.forget_old_serials()
    assert set(running.book.take_unsaved()) == {b"z.", b"gone."}


async def test_d2_damaged_and_unreachable_fields_are_logged_once_and_neighbours_served(running: Running) -> None:
    content = {
        b"bad": b'{"a":[{"ip":"<nil>"},{"ip":"192.0.2.7"}]}',
        b"WWW": b"{}",
        b"": b"{}",
        b"a..b": b"{}",
        b"\xff": b"{}",
        **fields(www=address("192.0.2.1")),
    }
    with structlog.testing.capture_logs() as logs:
        await running.tell(b"z.", content)
    assert running.names(b"\x01z\0") == {b"z.", b"www.z.", b"bad.z."}
    assert running.address("bad.z.") == bytes([192, 0, 2, 7])
    skipped = [entry["field"] for entry in logs if entry["event"] == "damaged element skipped"]
    assert sorted(skipped) == sorted([b"bad", b"WWW", b"", b"a..b", b"\xff"])
    assert running.loader.damaged == 5
    with structlog.testing.capture_logs() as logs:
        await running.tell(b"z.", {**content, b"www": b"{}"})
    assert not [entry for entry in logs if entry["log_level"] == "warning"]


async def test_d2_log_of_a_zone_full_of_damage_is_short(running: Running) -> None:
    with structlog.testing.capture_logs() as logs:
        await running.tell(b"z.", {b"n%d" % number: b"broken" for number in range(1000)})
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert len(warnings) == 21
    assert warnings[-1]["count"] == 980


@pytest.mark.parametrize("key", [b"Z.", b"a b.", b"..", b"x" * 64 + b".", b"a..", b"\xff."])
async def test_foreign_key_that_ends_in_a_dot_is_no_zone(running: Running, key: bytes) -> None:
    await running.tell(key, fields(www=address("192.0.2.1")))
    await running.tell(b"z.", fields(www=address("192.0.2.1")))
    await running.tell(key, None)
    assert [zone.name for zone in running.table] == [b"\x01z\0"]


async def test_what_breaks_off_changes_nothing(running: Running) -> None:
    await running.tell(b"z.", fields(www=address("192.0.2.1")))

    async def broken() -> AsyncIterator[dict[bytes, bytes]]:
        yield fields(www=address("192.0.2.2"), other=address("192.0.2.3"))
        raise OSError("redis is away")

    for key in (b"z.", b"new."):
        with pytest.raises(OSError, match="away"):
            await running.loader.replace(key, broken())
    assert running.names(b"\x01z\0") == {b"z.", b"www.z."}
    assert running.address("www.z.") == bytes([192, 0, 2, 1])
    assert len(running.table) == 1


async def test_fields_change_one_by_one(running: Running) -> None:
    await running.tell(b"z.", fields(www=address("192.0.2.1"), old=address("192.0.2.2")))
    told: list[object] = []
    running.table.watch(lambda _, changed: told.append(changed))
    running.now += 10
    changed = fields(www=address("192.0.2.9"), new=address("192.0.2.3"))
    await running.loader.change(b"z.", {**changed, b"old": None, b"never": None, b"BAD": b"{}"})
    assert running.names(b"\x01z\0") == {b"z.", b"www.z.", b"new.z."}
    assert running.address("www.z.") == bytes([192, 0, 2, 9])
    assert [sorted(one) for one in told] == [[label + b"\x01z\0" for label in (b"\x03new", b"\x03old", b"\x03www")]]
    zone = running.table.get(b"\x01z\0")
    assert zone is not None and zone.serial == 1_790_000_010
    # What is served already is no change, of whatever the stored bytes are.
    await running.loader.change(b"z.", {b"www": b'{"A":[{"IP":"192.0.2.9"}]}', b"@": None})
    assert len(told) == 1
    await running.loader.change(b"z.", {b"@": json.dumps(address("192.0.2.4")).encode()})
    assert running.address("z.") == bytes([192, 0, 2, 4])
    await running.loader.change(b"gone.", changed)
    assert len(running.table) == 1


@given(st.lists(st.dictionaries(st.sampled_from(LABELS), st.sampled_from(RAW) | st.none(), max_size=6), max_size=6))
def test_changes_by_field_end_in_the_zone_that_is_read_whole(steps: list[dict[bytes, bytes | None]]) -> None:
    async def main() -> None:
        changed, whole = Running(), Running()
        await changed.tell(b"z.", {b"first": RAW[0]})
        fields: dict[bytes, bytes] = {b"first": RAW[0]}
        for step in steps:
            await changed.loader.change(b"z.", step)
            fields.update({name: raw for name, raw in step.items() if raw is not None})
            for name in [name for name, raw in step.items() if raw is None]:
                fields.pop(name, None)
        await whole.tell(b"z.", fields)
        ours, theirs = changed.table.get(b"\x01z\0"), whole.table.get(b"\x01z\0")
        assert ours is not None and theirs is not None
        assert dict(ours.snapshot()).keys() == dict(theirs.snapshot()).keys()
        assert ours.digest == theirs.digest

    asyncio.run(main())


def test_selection_takes_every_name_that_ends_with_a_dot() -> None:
    plain = Running().loader.selection
    assert [key for key in (b"z.", b".", b"a.b.", b"zone", b"tfgateway:outbox", b"") if plain.wants(key)] == [
        b"z.",
        b".",
        b"a.b.",
    ]
    assert plain.first == (b"tfgateway:serials",)
    other = Running(prefix="d*ns:[x]\\", suffix="?-y").loader.selection
    assert other.wants(b"d*ns:[x]\\z.?-y")
    for key in (b"z.", b"dns:[x]\\z.?-y", b"d*ns:x\\z.?-y", b"d*ns:[x]\\z.a-y", b"d*ns:[x]\\z?-y"):
        assert not other.wants(key)
    assert not Running(prefix="a.", suffix=".b").loader.selection.wants(b"a..b")


async def test_prefix_and_suffix_are_no_part_of_the_zone() -> None:
    made = Running(prefix="dns:", suffix=":v1")
    await made.tell(b"dns:z.:v1", fields(www=address("192.0.2.1")))
    assert made.address("www.z.") == bytes([192, 0, 2, 1])
    assert set(made.book.take_unsaved()) == {b"dns:z.:v1"}
    made.loader.forget_old_serials()
    assert not made.book.take_unsaved()
