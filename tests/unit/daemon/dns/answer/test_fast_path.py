"""The fast path answers byte for byte as the slow path: whatever is asked, however often, whatever changes."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from itertools import product

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tfgateway.dns.answer import answer_cache
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.fast_path import MAX_QUERY, FastPath
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.rate_limit import (
    DROP,
    ERROR,
    NODATA,
    NXDOMAIN,
    POSITIVE,
    REFERRAL,
    SEND,
    SLIP,
    RateLimiter,
    RateLimits,
)
from tfgateway.dns.answer.respond import Reply, respond, truncated
from tfgateway.dns.answer.updates import needs_reconciler
from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.cookies import Cookies
from tfgateway.dns.wire.rrsets import ZonePolicy
from tfgateway.dns.zones import field_decoder
from tfgateway.dns.zones.zone import Zone
from tfgateway.dns.zones.zones import Zones

SLOT = 5000
CLIENT = bytes([192, 0, 2, 1])
NEIGHBOUR = bytes([192, 0, 2, 200])
STRANGER = bytes.fromhex("20010db8000000010000000000000001")
NOW = 1_700_000_000
SECRET = bytes(range(16))
POLICY = ZonePolicy(300, (b"\x02ns\x07gateway\0",))


class World:
    """A table, asked through both paths, each with counters and rate limiter of its own."""

    def __init__(self, limits: RateLimits | None = None, **service: object) -> None:
        self.table = Zones()
        self.service = ServerOptions(**{"cookies": Cookies([SECRET]), **service})  # type: ignore[arg-type]
        self.hot_counts, self.slow_counts = QueryCounters(), QueryCounters()
        self.hot_limiter, self.slow_limiter = (limits and RateLimiter(limits) for _ in range(2))
        self.hot = FastPath(self.table, self.service, self.hot_limiter, self.fallback, self.hot_counts)
        self.fallbacks = 0
        self.now, self.clock = NOW, 10_000_000
        self.buffer = mmap.mmap(-1, 300 * SLOT)

    def respond(self, message: bytes, client: bytes, counts: QueryCounters) -> Reply | None:
        return respond(message, client, self.now, self.table, self.service, "udp", counts)

    def expected(self, message: bytes, client: bytes = CLIENT) -> bytes | None:
        """By ``respond`` for each query, each reply checked against the limits."""
        reply = self.respond(message, client, self.slow_counts)
        if reply is None:
            return None
        verdict = SEND
        if self.slow_limiter is not None and not reply.proven:
            verdict = self.slow_limiter.check(client, reply.bucket, self.clock)
        if verdict == DROP:
            self.slow_counts.dropped("udp", "rate")
            return None
        return truncated(reply) if verdict == SLIP else reply.message

    def fallback(self, message: bytes, client: bytes) -> Reply | None:
        self.fallbacks += 1
        return self.respond(message, client, self.hot_counts)

    def zone(self, name: bytes, fields: Mapping[bytes, object]) -> Zone:
        raw = {field: json.dumps(value).encode() for field, value in fields.items()}
        made = Zone(name, field_decoder.read_apex(raw.pop(b"@", None), name, POLICY)[0])
        made.apply(
            (names.from_field(field, name), field_decoder.read(value, POLICY)[0]) for field, value in raw.items()
        )
        made.stamp(1)
        return made

    def batch(self, messages: list[bytes], client: bytes = CLIENT) -> list[bytes | None]:
        """What the hot path says; slots are used again and again, as in life."""
        starts = [number * SLOT for number in range(len(messages))]
        peers = [at + SLOT - 32 for at in range(0, 300 * SLOT, SLOT)]
        for at, peer, message in zip(starts, peers, messages, strict=False):
            self.buffer[at : at + len(message)] = message
            self.buffer[peer : peer + len(client)] = client
        sizes = memoryview(bytearray(8 * len(messages))).cast("L")
        slots = self.hot.slots(self.buffer, starts, peers, len(client), sizes)
        silent = self.hot.answer(slots, [*map(len, messages)], self.now, self.clock)
        assert all(not sizes[number] for number in silent)
        return [None if number in silent else self.buffer[at : at + sizes[number]] for number, at in enumerate(starts)]

    def check(self, messages: list[bytes], client: bytes = CLIENT) -> None:
        """Three times: what is asked again is kept, then told from what is kept."""
        for _ in range(3):
            expected = [self.expected(message, client) for message in messages]
            assert self.batch(messages, client) == expected
            assert self.hot_counts.queries == self.slow_counts.queries
            assert self.hot_counts.drops == self.slow_counts.drops
            assert self.hot_counts.cookies == self.slow_counts.cookies
            if self.hot_limiter is not None and self.slow_limiter is not None:
                assert self.hot_limiter.over == self.slow_limiter.over


LABELS = ["a", "b", "www", "*"]
ZONES = [b"\1z\0", b"\1a\1z\0", b"\1b\1a\1z\0", b"\1y\0", b"\0"]


def text(name: bytes) -> str:
    return names.to_text(name).decode()


def as_name(labels: list[str], zone: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + zone


relative = st.lists(st.sampled_from(LABELS), min_size=1, max_size=3)
absolute = st.builds(as_name, st.lists(st.sampled_from([*LABELS, "nope"]), max_size=4), st.sampled_from(ZONES))
hosts = st.builds(lambda name: {"host": text(name), "target": text(name)}, absolute)
addresses = st.integers(1, 40).map(lambda count: [{"ip": f"192.0.2.{number}"} for number in range(count)])
records = st.fixed_dictionaries(
    {},
    optional={
        "a": addresses,
        "aaaa": st.just([{"ip": "2001:db8::1"}]),
        "txt": st.integers(0, 600).map(lambda size: [{"text": "x" * size}]),
        "cname": st.lists(hosts, min_size=1, max_size=1),
        "mx": st.lists(hosts, min_size=1, max_size=2),
        "srv": st.lists(hosts, min_size=1, max_size=2),
        "ns": st.lists(hosts, min_size=1, max_size=2),
    },
)
KINDS = ["A", "AAAA", "TXT", "CNAME", "MX", "SRV", "NS", "SOA", "CAA", "DS", "ANY", "HTTPS", "AXFR", 97, 0x4141, 65000]


EVERYTHING = [
    bytes(dns.message.make_query(text(as_name([*labels], zone)), kind).to_wire())
    for zone in ZONES
    for count in range(3)
    for labels in product(["a", "www", "*"], repeat=count)
    for kind in ("A", "MX")
]


def cookie(client: bytes, age: int = 0) -> bytes:
    return Cookies([SECRET]).check(b"8 bytes!", client, NOW - age).reply


OPTIONS: list[list[tuple[int, bytes]]] = [
    [],
    [],
    [],
    [(3, b"")],
    [(65001, b"x")],
    [(10, b"8 bytes!")],
    [(10, b"short")],
    [(10, bytes(24))],
    [(10, cookie(CLIENT))],
    [(10, cookie(CLIENT))],
    [(10, cookie(CLIENT)), (3, b"")],
    [(3, b""), (10, cookie(CLIENT))],
    [(10, cookie(CLIENT, 2000))],
    [(10, cookie(CLIENT, 4000))],
    [(10, cookie(NEIGHBOUR))],
    [(10, cookie(STRANGER))],
    [(12, bytes(24))],
]


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    query = dns.message.make_query(
        text(draw(absolute)),
        draw(st.sampled_from(KINDS)),
        rdclass=draw(st.sampled_from(["IN", "IN", "IN", "CH", 0x4100])),
        use_edns=draw(st.sampled_from([None, None, 0, 0, 0, 1])),
        payload=draw(st.sampled_from([0, 512, 1232, 4096, 65535])),
        want_dnssec=draw(st.booleans()),
        options=draw(
            st.sampled_from([[], [], [dns.edns.GenericOption(3, b"")], [dns.edns.GenericOption(65001, b"x")]])
        ),
        flags=draw(st.sampled_from([0, 0x0100, 0x0120, 0x0110, 0x0400, 0x2000, 0x8000, 0x7FFF])),
    )
    wire = bytearray(query.to_wire())
    for at in draw(st.lists(st.integers(12, len(wire) - 1), max_size=8)):
        if chr(wire[at]).isalpha() and at < len(wire) - 4:
            wire[at] ^= 0x20  # now and then it is no letter of the name
    return bytes(wire)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    wire = bytearray(draw(queries()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(wire)))
        match draw(st.sampled_from(["change", "insert", "delete", "cut", "repeat"])):
            case "change" if at < len(wire):
                wire[at] = draw(st.integers(0, 255))
            case "insert":
                wire[at:at] = draw(st.binary(max_size=8))
            case "delete":
                del wire[at : at + draw(st.integers(1, 8))]
            case "cut":
                del wire[at:]
            case _:
                wire[at:at] = wire[12:at]
    return bytes(wire)


LIMITS = RateLimits({POSITIVE: 500, NODATA: 400, NXDOMAIN: 450, REFERRAL: 500, ERROR: 300}, window=3)
"""Reached now and then by what is asked below."""
clients = st.sampled_from([CLIENT, NEIGHBOUR, STRANGER])


class Changing(RuleBasedStateMachine):
    """Zones come, go, are replaced and change name by name; in between both paths are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(LIMITS, nsid=b"here")
        self.asked: list[bytes] = []

    @initialize(fields=st.dictionaries(relative.map(".".join), records, max_size=6))
    def start(self, fields: dict[str, object]) -> None:
        self.put(ZONES[0], fields)

    @rule(zone=st.sampled_from(ZONES), fields=st.dictionaries(relative.map(".".join), records, max_size=6))
    def put(self, zone: bytes, fields: dict[str, object]) -> None:
        made = self.world.zone(zone, {field.encode(): value for field, value in fields.items()})
        self.world.table.put(made)

    @rule(zone=st.sampled_from(ZONES))
    def remove(self, zone: bytes) -> None:
        self.world.table.remove(zone)

    @rule(zone=st.sampled_from(ZONES), changes=st.dictionaries(relative.map(tuple), st.none() | records, max_size=4))
    def change(self, zone: bytes, changes: dict[tuple[str, ...], object]) -> None:
        served = self.world.table.get(zone)
        if served is not None:
            made = [
                (
                    as_name([*labels], zone),
                    None if value is None else field_decoder.read(json.dumps(value).encode(), POLICY)[0],
                )
                for labels, value in changes.items()
            ]
            served.apply(made)
            served.stamp(served.serial + 1)
            self.world.table.announce(zone, [name for name, _ in made])

    @rule(zone=st.sampled_from(ZONES), value=records)
    def change_apex(self, zone: bytes, value: dict[str, object]) -> None:
        served = self.world.table.get(zone)
        if served is not None:
            served.apply([(zone, field_decoder.read_apex(json.dumps(value).encode(), zone, POLICY)[0])])
            served.stamp(served.serial + 1)
            self.world.table.announce(zone, [zone])

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        """All short names, so that what the next change touches was kept before."""
        self.world.check(EVERYTHING, STRANGER)

    @rule(messages=st.lists(queries() | mutated(), min_size=1, max_size=20), client=clients)
    def ask(self, messages: list[bytes], client: bytes) -> None:
        self.asked = [*messages, *self.asked][:40]
        self.world.check(self.asked, client)

    @rule(seconds=st.sampled_from([0.001, 0.1, 0.5, 1, 5, 1000, 3000]))
    def wait(self, seconds: float) -> None:
        self.world.now += int(seconds)
        self.world.clock += int(seconds * 1_000_000)

    @rule(stale=st.booleans(), expired=st.sampled_from([False, False, True]))
    def age(self, *, stale: bool, expired: bool) -> None:
        self.world.table.set_age(stale=stale, expired=expired)


TestChanging = Changing.TestCase
TestChanging.settings = settings(
    max_examples=settings.default.max_examples * 60 // 100, stateful_step_count=20, deadline=None
)


def wire(name: str, kind: str = "A", **options: object) -> bytes:
    return bytes(dns.message.make_query(name, kind, **options).to_wire())


@pytest.fixture
def world() -> World:
    made = World()
    fields = {
        b"www": {"a": [{"ip": "192.0.2.1"}]},
        b"alias": {"cname": [{"host": "www.z."}]},
        b"*": {"a": [{"ip": "192.0.2.3"}]},
        b"*.wild": {"a": [{"ip": "192.0.2.2"}]},
        b"@": {"mx": [{"host": "www.z."}]},
    }
    made.table.put(made.zone(b"\1z\0", fields))
    return made


@pytest.mark.parametrize(
    ("name", "kind"),
    [("www.z", "A"), ("alias.z", "A"), ("x.wild.z", "A"), ("z", "MX"), ("www.z", "AAAA"), ("no.www.z", "A")],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_edns": 0, "payload": 1232},
        {"use_edns": 0, "want_dnssec": True},
        {"use_edns": 0, "options": [dns.edns.GenericOption(10, cookie(CLIENT))]},
    ],
)
def test_ordinary_queries_do_not_take_the_slow_path(
    world: World, name: str, kind: str, options: dict[str, object]
) -> None:
    for _ in range(2):
        world.batch([wire(name, kind, **options)])
    world.fallbacks = 0
    for asked in (name, name.upper()):
        assert world.batch([wire(asked, kind, **options)]) != [None]
    assert world.fallbacks == 0


def test_flood_is_limited_whatever_the_path(world: World) -> None:
    limits = RateLimits({POSITIVE: 20, NODATA: 20, NXDOMAIN: 20, ERROR: 5}, window=2)
    flooded = World(limits)
    zone = world.table.get(b"\1z\0")
    assert zone is not None
    flooded.table.put(zone)
    proven = wire("www.z", options=[dns.edns.GenericOption(10, cookie(CLIENT))])
    asked = [wire("www.z"), wire("no.www.z"), wire("www.z", "AAAA"), wire("alias.z", "A", use_edns=0), proven]
    for _ in range(100):
        flooded.check(asked)
        flooded.clock += 50_000
    assert flooded.hot_counts.drops["udp", "rate"] > 300
    assert {outcome for _, outcome in flooded.hot_limiter.over} == {"dropped", "slipped"}  # type: ignore[union-attr]
    assert flooded.hot_counts.cookies["valid"] == 300


def test_limit_holds_over_time_for_a_network_that_is_busy() -> None:
    limiter = RateLimiter(RateLimits({POSITIVE: 20}, slip=0, window=1))
    sent = sum(
        limiter.check(bytes([192, 0, 2, tick % 256]), POSITIVE, 1_000_000 + tick * 10_000) == SEND
        for tick in range(10_000)
    )
    assert sent <= 20 * 100 + 20 + limiter.gate  # 100 seconds, a second's worth at first, what was only noted


def test_names_that_do_not_exist_are_not_kept(world: World) -> None:
    for number in range(200):
        world.check([wire(f"no{number}.www.z")])
    assert not world.hot._answers.known
    assert not world.hot._answers._asked


def test_change_forgets_what_depends_on_it_and_nothing_else(world: World) -> None:
    everything = [wire("www.z"), wire("alias.z"), wire("x.wild.z"), wire("z", "MX")]
    world.check(everything)
    before = set(world.hot._answers.known)
    assert len(before) == 4
    zone = world.table.get(b"\1z\0")
    assert zone is not None
    zone.apply([(b"\3www\1z\0", field_decoder.read(b'{"a":[{"ip":"192.0.2.9"}]}', POLICY)[0])])
    zone.stamp(2)
    world.table.announce(zone.name, [b"\3www\1z\0"])
    assert {question[:-4] for question in world.hot._answers.known} == {b"\1x\4wild\1z\0"}
    world.check(everything)
    assert set(world.hot._answers.known) == before


ADDRESS = {"a": [{"ip": "192.0.2.7"}]}


@pytest.mark.parametrize(
    ("asked", "kind", "changed", "value"),
    [
        ("www.z", "A", "www", ADDRESS),
        ("www.z", "A", "www", None),
        ("alias.z", "A", "www", ADDRESS),  # the end of a chain
        ("z", "MX", "www", ADDRESS),  # additional
        ("x.top.z", "A", "*", ADDRESS),  # the source of synthesis
        ("x.wild.z", "A", "*.wild", None),
        ("x.wild.z", "A", "x.wild", ADDRESS),  # is no longer synthesised
        ("y.x.wild.z", "A", "a.x.wild", ADDRESS),  # a closer encloser comes to exist, without records
        ("x.wild.z", "A", "wild", {"ns": [{"host": "ns.y."}]}),  # a cut above
    ],
)
def test_each_thing_that_an_answer_depends_on(
    world: World, asked: str, kind: str, changed: str, value: dict[str, object] | None
) -> None:
    world.check([wire(asked, kind)])
    assert len(world.hot._answers.known) == 1
    zone = world.table.get(b"\1z\0")
    assert zone is not None
    before = world.respond(wire(asked, kind), CLIENT, QueryCounters())
    name = as_name(changed.split("."), zone.name)
    zone.apply([(name, None if value is None else field_decoder.read(json.dumps(value).encode(), POLICY)[0])])
    zone.stamp(2)
    world.table.announce(zone.name, [name])
    assert world.respond(wire(asked, kind), CLIENT, QueryCounters()) != before
    world.check([wire(asked, kind)])


def test_what_holds_a_serial_is_not_kept(world: World) -> None:
    asked = [wire("alias.z", "AAAA"), wire("z", "SOA"), wire("www.z", "MX")]
    world.check(asked)
    zone = world.table.get(b"\1z\0")
    assert zone is not None
    zone.stamp(2)
    world.table.announce(zone.name, [])
    world.check(asked)


def test_zone_that_comes_or_goes_below_a_name_that_is_kept(world: World) -> None:
    asked = [wire("x.wild.z"), wire("alias.z")]
    world.check(asked)
    world.table.put(world.zone(b"\1x\4wild\1z\0", {b"@": ADDRESS}))
    world.table.put(world.zone(b"\3www\1z\0", {b"@": ADDRESS}))
    world.check(asked)
    world.table.remove(b"\1x\4wild\1z\0")
    world.table.remove(b"\3www\1z\0")
    world.check(asked)


def test_no_more_is_kept_than_there_is_room_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "_SIZE", 10)
    for number in range(100):
        world.check([wire(f"x{number}.wild.z")])
        assert 0 < len(world.hot._answers.known) <= 10
        assert len(world.hot._answers._asked) <= 10
        assert sum(map(len, world.hot._answers._depending.values())) <= 10 * 5


def test_datagram_that_is_too_long_is_malformed(world: World) -> None:
    message = wire("www.z")
    reply = world.batch([message, message + bytes(MAX_QUERY), message])[1]
    assert reply is not None
    assert reply[3] & 15 == codes.FORMERR


def test_what_is_answered_later_is_set_apart(world: World) -> None:
    """In its place nothing is sent, and its neighbours are answered."""
    world.hot = FastPath(world.table, world.service, None, world.fallback, world.hot_counts, needs_reconciler)
    message = wire("www.z")
    update = message[:2] + bytes([codes.OPCODE_UPDATE << 3]) + message[3:]
    replies = world.batch([message, update, message])
    assert [reply is None for reply in replies] == [False, True, False]
    assert world.hot.take_deferred() == [(1, update)]
    assert world.hot.take_deferred() == []


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=20))
def test_random_bytes(messages: list[bytes]) -> None:
    World().check(messages)
