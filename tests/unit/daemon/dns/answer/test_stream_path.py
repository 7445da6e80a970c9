"""Runs of queries over TCP: byte for byte what ``respond`` says, counted alike, however the stream is cut."""

from __future__ import annotations

import json

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.respond import respond
from tfgateway.dns.answer.stream_path import StreamPath
from tfgateway.dns.wire import names
from tfgateway.dns.wire.rrsets import ZonePolicy
from tfgateway.dns.zones import field_decoder
from tfgateway.dns.zones.zone import Zone
from tfgateway.dns.zones.zones import Zones

POLICY = ZonePolicy(300, (b"\x02ns\x07gateway\0",))
ZONE = names.from_key(b"z.")
CLIENT, NOW = bytes([192, 0, 2, 1]), 1_700_000_000
FIELDS = {
    "www": {"a": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}], "aaaa": [{"ip": "2001:db8::1"}]},
    "alias": {"cname": [{"host": "www.z."}]},
    "mail": {"mx": [{"host": "www.z.", "preference": 1}], "txt": [{"text": "x" * 600}]},
    "*.wild": {"a": [{"ip": "192.0.2.3"}]},
    "sub": {"ns": [{"host": "ns.sub.z."}]},
    "ns.sub": {"a": [{"ip": "192.0.2.4"}]},
    "a.b": {"rr": [{"type": 65, "ttl": 60, "data": "000100"}]},
}


class World:
    """A zone, and counters of both paths."""

    def __init__(self) -> None:
        self.zones = Zones()
        self.zone = Zone(ZONE, field_decoder.read_apex(None, ZONE, POLICY)[0])
        self.put(FIELDS)
        self.zones.put(self.zone)
        self.service = ServerOptions()
        self.fast_counts, self.slow_counts = QueryCounters(), QueryCounters()
        self.fast = StreamPath(self.zones, self.service, self.fast_counts)

    def put(self, fields: dict[str, object]) -> None:
        changes = [
            (names.from_field(field.encode(), ZONE), field_decoder.read(json.dumps(value).encode(), POLICY)[0])
            for field, value in fields.items()
        ]
        self.zone.apply(changes)
        self.zone.stamp(self.zone.serial + 1)
        self.zones.announce(ZONE, [name for name, _ in changes])

    def slowly(self, message: bytes, counts: QueryCounters) -> bytes | None:
        reply = respond(message, CLIENT, NOW, self.zones, self.service, "tcp", counts)
        return None if reply is None else reply.message

    def check(self, messages: list[bytes], most: int = 64) -> int:
        """How many the fast path answered; every reply is what ``respond`` says."""
        data = b"".join(len(message).to_bytes(2, "big") + message for message in messages)
        at, quick, remaining = 0, 0, list(messages)
        while remaining:
            replies, after = self.fast.answer(data, at, most)
            assert len(replies) <= most
            for framed in replies:
                message = remaining.pop(0)
                at += 2 + len(message)
                assert int.from_bytes(framed[:2], "big") == len(framed) - 2
                assert framed[2:] == self.slowly(message, self.slow_counts)
                quick += 1
            assert after == at
            if remaining and len(replies) < most:
                message = remaining.pop(0)
                at += 2 + len(message)
                assert self.slowly(message, self.fast_counts) == self.slowly(message, self.slow_counts)
        assert self.fast_counts.queries == self.slow_counts.queries
        return quick


def query(name: str, kind: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, kind, **options).to_wire()


NAMES = ["www.z", "WwW.z", "alias.z", "mail.z", "x.wild.z", "nope.z", "a.b.z", "b.z", "sub.z", "x.sub.z", "z", "other"]
QUERIES = st.builds(
    query,
    st.sampled_from(NAMES),
    st.sampled_from(["A", "AAAA", "TXT", "MX", "HTTPS", "NS", "SOA", "ANY", "TYPE65280"]),
    use_edns=st.sampled_from([-1, 0, 0, 1]),
    want_dnssec=st.booleans(),
    payload=st.sampled_from([512, 1232, 4096]),
)


@given(st.lists(QUERIES, max_size=30), st.integers(1, 64))
def test_what_is_asked_is_answered_as_by_the_slow_path(messages: list[bytes], most: int) -> None:
    world = World()
    for _ in range(3):
        world.check(messages, most)


def test_usual_queries_are_quick() -> None:
    world = World()
    messages = [query("www.z"), query("www.z", "AAAA", use_edns=0), query("nope.z"), query("WWW.z"), query("alias.z")]
    for _ in range(2):
        world.check(messages)
    assert world.check(messages) == len(messages)


def test_a_change_is_seen() -> None:
    world = World()
    for _ in range(3):
        world.check([query("www.z")])
    world.put({"www": {"a": [{"ip": "192.0.2.9"}]}})
    world.check([query("www.z"), query("www.z", "AAAA")])


@pytest.mark.parametrize("attribute", ["stale", "expired"])
def test_nothing_is_quick_while_redis_is_away(attribute: str) -> None:
    world = World()
    world.check([query("www.z")] * 3)
    world.zones.set_age(**{"stale": False, "expired": False, attribute: True})
    assert world.check([query("www.z")] * 3) == 0


@given(st.binary(max_size=200), st.integers(0, 10))
def test_random_bytes(data: bytes, at: int) -> None:
    replies, after = World().fast.answer(data, min(at, len(data)), 64)
    assert after >= min(at, len(data))
    assert bool(replies) == (after > min(at, len(data)))


@given(st.data())
def test_a_part_of_a_query_waits(data: st.DataObject) -> None:
    world, message = World(), query("www.z")
    framed = len(message).to_bytes(2, "big") + message
    end = data.draw(st.integers(0, len(framed) - 1))
    assert world.fast.answer(framed[:end], 0, 64) == ([], 0)
    assert world.fast.answer(framed + framed[:end], 0, 64)[1] == len(framed)


def test_what_would_be_a_query_but_is_not_all_there_waits() -> None:
    """Its length says that more follows."""
    message = query("www.z")
    assert World().fast.answer((len(message) + 1).to_bytes(2, "big") + message, 0, 64) == ([], 0)
