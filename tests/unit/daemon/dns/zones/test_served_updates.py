"""Records by DNS updates beside those of the layout, and what every zone has by the settings."""

from __future__ import annotations

import json

import pytest
from tfgateway.dns.server import configure
from tfgateway.dns.wire import names
from tfgateway.dns.wire.rrsets import ZonePolicy, render
from tfgateway.dns.zones import field_decoder
from tfgateway.redis_schema.records import RecordSet, Text
from tfgateway.settings import parse

POLICY = ZonePolicy(300, (names.from_text(b"ns1.gateway.example."),))
A = {"a": [{"ip": "203.0.113.5", "ttl": 60}]}
ALIAS = {"cname": [{"host": "other.example.", "ttl": 60}]}
OTHER = names.from_text(b"elsewhere.example.").hex()


def rr(kind: int, data: str, ttl: int = 60) -> dict[str, object]:
    return {"type": kind, "ttl": ttl, "data": data}


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        ("TXT", rr(16, "036f6e650374776f"), 'x.z.example. 60 IN TXT "one" "two"'),
        ("CAA", rr(257, "00056973737565" + b"ca.example".hex()), 'x.z.example. 60 IN CAA 0 issue "ca.example"'),
        ("HTTPS", rr(65, "000100"), "x.z.example. 60 IN HTTPS 1 ."),
        ("A", rr(1, "c0000201", 4000), "x.z.example. 300 IN A 192.0.2.1"),
        ("TYPE65280", rr(65280, "aabb", 0), "x.z.example. 0 IN TYPE65280 \\# 2 aabb"),
    ],
)
def test_any_type_with_its_own_ttl(gateway, kind: str, data: dict[str, object], line: str) -> None:
    world = gateway({"z.example.": {"x": {"rr": [data]}}})
    assert world.lines(world.ask("x.z.example", kind).answer) == [line]


def test_beside_those_of_a_reservation(gateway) -> None:
    world = gateway(
        {"z.example.": {"x": {**A, "rr": [rr(1, "c0000201", 30), rr(16, "0178")]}, "@": {"rr": [rr(16, "0179")]}}}
    )
    assert world.lines(world.ask("x.z.example", "A").answer) == [
        "x.z.example. 30 IN A 192.0.2.1",
        "x.z.example. 30 IN A 203.0.113.5",
    ]
    assert world.lines(world.ask("x.z.example", "TXT").answer) == ['x.z.example. 60 IN TXT "x"']
    assert world.lines(world.ask("z.example", "TXT").answer) == ['z.example. 60 IN TXT "y"']
    assert len(world.ask("z.example", "NS").answer[0]) == 2


@pytest.mark.parametrize(
    ("field", "kinds"),
    [({**A, "rr": [rr(5, OTHER)]}, [1]), ({**ALIAS, "rr": [rr(16, "0178")]}, [5]), ({"rr": [rr(5, OTHER)]}, [5])],
)
def test_an_older_update_hides_no_reservation(field: dict[str, object], kinds: list[int]) -> None:
    _, rrsets, problems = field_decoder.rendered(json.dumps(field).encode(), 300)
    assert [rrset.type for rrset in rrsets] == kinds
    assert bool(problems) == (len(field) > 1)


@pytest.mark.parametrize(
    "damaged",
    [rr(6, "00"), rr(41, ""), rr(250, ""), rr(255, ""), rr(1, "c00002"), rr(15, "0001ff"), rr(5, OTHER + "00")],
)
def test_what_cannot_be_served_costs_itself(damaged: dict[str, object]) -> None:
    raw = json.dumps({"rr": [damaged, rr(16, "0178")]}).encode()
    _, rrsets, problems = field_decoder.rendered(raw, 300)
    assert [rrset.type for rrset in rrsets] == [16]
    assert len(problems) == 1


def test_a_set_that_no_message_can_carry_is_reported() -> None:
    texts = tuple(Text(f"{number:03}" + "x" * 250) for number in range(300))
    _, problems = render(RecordSet(txt=texts), 300)
    assert problems == [f"txt: {300 * (254 + 12)} bytes of records, which no message can carry"]
    assert render(RecordSet(txt=texts[:200]), 300)[1] == []


@pytest.mark.parametrize(
    ("mailbox", "rname"),
    [("", "hostmaster.z.example."), ("dns.admin@example.net", r"dns\.admin.example.net.")],
)
def test_the_mailbox_is_a_setting(mailbox: str, rname: str) -> None:
    """RFC 1035 §8."""
    settings = parse(f'[gateway]\nname_servers = ["ns1.gateway.example"]\n[dns]\nrname = "{mailbox}"'.encode())
    zone = names.from_key(b"z.example.")
    packed, _ = field_decoder.read_apex(None, zone, configure.policy(settings))
    assert names.from_text(rname.encode()) in packed
