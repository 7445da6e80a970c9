"""Each type of the layout on the wire, and the rules about values."""

from __future__ import annotations

import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.wire.rrsets import render, served_ttl
from tfgateway.redis_schema.records import Address, Caa, Host, Mx, RecordSet, Srv, Text

EVERY_TYPE = {
    "a": [{"ip": "203.0.113.5", "ttl": 60}],
    "aaaa": [{"ip": "2001:db8::5", "ttl": 60}],
    "txt": [{"text": "hello", "ttl": 60}],
    "mx": [{"host": "mail.other.example.", "preference": 10, "ttl": 60}],
    "srv": [{"target": "sip.other.example.", "port": 5060, "priority": 1, "weight": 2, "ttl": 60}],
    "caa": [{"flag": 128, "tag": "issue", "value": "letsencrypt.org"}],
}


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("A", "all.z.example. 60 IN A 203.0.113.5"),
        ("AAAA", "all.z.example. 60 IN AAAA 2001:db8::5"),
        ("TXT", 'all.z.example. 60 IN TXT "hello"'),
        ("MX", "all.z.example. 60 IN MX 10 mail.other.example."),
        ("SRV", "all.z.example. 60 IN SRV 1 2 5060 sip.other.example."),
        ("CAA", 'all.z.example. 300 IN CAA 128 issue "letsencrypt.org"'),
    ],
)
def test_every_type_of_the_layout(gateway, kind, line) -> None:
    world = gateway({"z.example.": {"all": EVERY_TYPE}})
    reply = world.ask("all.z.example", kind)
    assert world.lines(reply.answer) == [line]
    assert not reply.authority


@pytest.mark.parametrize("kind", ["PTR", "HTTPS", "SVCB", "DS", "DNSKEY", "TYPE65280"])
def test_unknown_types_are_nodata(gateway, kind) -> None:
    world = gateway({"z.example.": {"all": EVERY_TYPE}})
    reply = world.ask("all.z.example", kind)
    assert reply.rcode() == 0
    assert not reply.answer
    assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]


def test_soa_of_the_apex_is_served_as_stored(gateway) -> None:
    soa = {"ns": "a.other.", "MBox": "b.other", "refresh": 1, "retry": 2, "expire": 3, "minttl": 4, "ttl": 200}
    world = gateway({"z.example.": {"@": {"soa": soa}}})
    reply = world.ask("z.example", "SOA")
    assert world.lines(reply.answer) == ["z.example. 200 IN SOA a.other. b.other. 1 1 2 3 4"]


@pytest.mark.parametrize(("ttl", "minimum", "expected"), [(200, 4, 4), (4, 200, 4), (200, 0, 0)])
def test_negative_ttl_is_the_smaller_of_soa_ttl_and_minimum(gateway, ttl, minimum, expected) -> None:
    world = gateway({"z.example.": {"@": {"soa": {"ns": "a.", "mbox": "b.", "minttl": minimum, "ttl": ttl}}}})
    for name in ("z.example", "nope.z.example"):
        (soa,) = world.ask(name, "A").authority
        assert soa.ttl == expected
    assert world.ask("z.example", "SOA").answer[0].ttl == ttl


@pytest.mark.parametrize(
    ("stored", "ceiling", "expected"),
    [(0, 300, 300), (60, 0, 60), (0, 0, 360), (3600, 300, 300), (60, 300, 60), (2**32 - 1, 0, 2**31 - 1)],
)
def test_ttl_rule(stored, ceiling, expected) -> None:
    assert served_ttl(stored, ceiling) == expected


def test_one_ttl_an_rrset_and_it_is_the_smallest(gateway) -> None:
    addresses = [{"ip": "203.0.113.5", "ttl": 200}, {"ip": "203.0.113.6", "ttl": 100}, {"ip": "203.0.113.7"}]
    world = gateway({"z.example.": {"www": {"a": addresses}}})
    assert {line.split()[1] for line in world.lines(world.ask("www.z.example").answer)} == {"100"}


def test_d13_caa_has_the_normal_ttl(gateway) -> None:
    world = gateway({"z.example.": {"c": {"caa": EVERY_TYPE["caa"]}}}, ttl=77)
    assert world.ask("c.z.example", "CAA").answer[0].ttl == 77
    assert world.ask("absent.z.example", "CAA").rcode() == 3
    assert world.ask("z.example", "CAA").rcode() == 0


@pytest.mark.parametrize("length", [1, 254, 255, 256, 510, 511, 1000])
def test_d15_txt_is_cut_every_255_bytes_without_an_empty_tail(gateway, length) -> None:
    world = gateway({"z.example.": {"t": {"txt": [{"text": "x" * length}]}}})
    ((data,),) = world.ask("t.z.example", "TXT", "tcp").answer
    assert b"".join(data.strings) == b"x" * length
    assert all(data.strings)
    assert all(len(part) == 255 for part in data.strings[:-1])


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=600))
def test_d15_txt_bytes_are_verbatim(text: str) -> None:
    (rrset,), problems = render(RecordSet(txt=(Text(text),)), 300)
    data = rrset.bodies[0][10:]
    strings = []
    while data:
        strings.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    assert b"".join(strings) == text.encode()
    assert not problems


def test_d15_backslashes_and_quotes_are_no_escapes(gateway) -> None:
    text = '\\065 "quoted" \\ ; é \x00'
    world = gateway({"z.example.": {"t": {"txt": [{"text": text}]}}})
    ((data,),) = world.ask("t.z.example", "TXT").answer
    assert data.strings == (text.encode(),)


def test_d3_relative_targets_get_the_final_dot(gateway) -> None:
    fields = {
        "m": {"mx": [{"host": "mail.other"}]},
        "s": {"srv": [{"target": "sip.other"}]},
        "n": {"cname": [{"host": "web.other"}]},
        "@": {"ns": [{"host": "dns.other"}]},
    }
    world = gateway({"z.example.": fields})
    assert world.lines(world.ask("m.z.example", "MX").answer) == ["m.z.example. 300 IN MX 0 mail.other."]
    assert world.lines(world.ask("s.z.example", "SRV").answer) == ["s.z.example. 300 IN SRV 0 0 0 sip.other."]
    assert world.lines(world.ask("n.z.example", "A").answer) == ["n.z.example. 300 IN CNAME web.other."]
    assert world.lines(world.ask("z.example", "NS").answer) == ["z.example. 300 IN NS dns.other."]


def test_duplicates_are_one_record(gateway) -> None:
    world = gateway({"z.example.": {"www": {"a": [{"ip": "203.0.113.5"}, {"ip": "203.0.113.5", "ttl": 9}]}}})
    assert world.lines(world.ask("www.z.example").answer) == ["www.z.example. 9 IN A 203.0.113.5"]


def test_stored_order_is_kept(gateway) -> None:
    addresses = ["203.0.113.9", "203.0.113.1", "203.0.113.5"]
    world = gateway({"z.example.": {"www": {"a": [{"ip": ip} for ip in addresses]}}})
    assert [data.address for data in world.ask("www.z.example").answer[0]] == addresses


def test_d2_elements_that_dns_cannot_carry_cost_themselves_only() -> None:
    records = RecordSet(
        a=(Address("203.0.113.5", 0),),
        txt=(Text("x" * 70_000), Text("kept")),
        mx=(Mx("a..b."), Mx("mail.example.", 5)),
        srv=(Srv("x" * 64 + "."),),
        caa=(Caa(0, "issue!", "x"), Caa(0, "t" * 256, "x"), Caa(0, "iodef", "mailto:a@b")),
        cname=(Host("."),),
        ns=(Host(".".join(["abcdefg"] * 32) + "."),),
    )
    rrsets, problems = render(records, 300)
    assert {rrset.type: len(rrset.bodies) for rrset in rrsets} == {1: 1, 16: 1, 15: 1, 257: 1, 5: 1}
    assert len(problems) == 6


def test_d2_damaged_json_costs_its_own_element(gateway) -> None:
    fields = {
        "bad": b'{"a":[{"ip":"203.0.113.5"}',
        "mixed": b'{"a":[{"ip":"<nil>"},{"ip":"203.0.113.6"},{"ip":"2001:db8::1"},{"ttl":-1,"ip":"1.2.3.4"}],"txt":3}',
        "good": {"a": [{"ip": "203.0.113.8"}]},
    }
    world = gateway({"z.example.": fields})
    assert world.lines(world.ask("mixed.z.example").answer) == ["mixed.z.example. 300 IN A 203.0.113.6"]
    assert world.lines(world.ask("good.z.example").answer) == ["good.z.example. 300 IN A 203.0.113.8"]
    reply = world.ask("bad.z.example")
    assert (reply.rcode(), reply.answer) == (0, [])


def test_d2_damaged_apex_still_has_soa_and_ns(gateway) -> None:
    world = gateway({"z.example.": {"@": b"\xff{", "www": {"a": [{"ip": "203.0.113.8"}]}}})
    assert len(world.ask("z.example", "SOA").answer) == 1
    assert len(world.ask("z.example", "NS").answer[0]) == 2
    soa = {"ns": "bad..name.", "mbox": "b."}
    world = gateway({"z.example.": {"@": {"soa": soa, "a": [{"ip": "203.0.113.1"}]}}})
    assert world.ask("z.example", "SOA").answer[0][0].mname.to_text() == "ns1.gateway.example."
    assert len(world.ask("z.example", "A").answer) == 1
