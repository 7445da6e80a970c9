"""RFC 2136 §3: prerequisites, form, permission, and the change as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.wire import codes, names, update
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.rrsets import RRset
from tfgateway.ids import NodeId
from tfgateway.reconciler.updates import holdings, rules
from tfgateway.reconciler.updates.holdings import Rights
from tfgateway.reconciler.updates.rules import Content, View
from tfgateway.redis_schema.owners import encode_zone_owner
from tfgateway.redis_schema.resource_records import ResourceRecord
from tfgateway.settings import UpdateSettings

NODE = NodeId("FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF")
ZONES = {
    "alice.example": encode_zone_owner("7"),
    "sub.alice.example": encode_zone_owner("8"),
    "gw1.example": encode_zone_owner(NODE),
    "broken.example": b"{",
}
CLAIMS = {"www.gw1.example": b"7", "bob.gw1.example": b"8", "gw1.example": b"7"}


def wire(text: str) -> Name:
    return names.fold(names.from_text(text.encode() + b"."))


def record(kind: str, text: str, ttl: int = 60) -> ResourceRecord:
    data = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text).to_wire()
    assert data is not None
    return ResourceRecord(dns.rdatatype.from_text(kind), ttl, data.hex())


def fixed(*records: ResourceRecord) -> tuple[RRset, ...]:
    def body(item: ResourceRecord) -> bytes:
        head = item.type.to_bytes(2, "big") + b"\0\x01" + item.ttl.to_bytes(4, "big")
        return head + len(item.wire).to_bytes(2, "big") + item.wire

    return tuple(RRset(item.type, (body(item),)) for item in records)


def decide(
    asked: dns.update.UpdateMessage | bytes,
    content: Mapping[str, Content] | None = None,
    *,
    used: Callable[[Mapping[Name, rules.Records]], bool] = lambda _changes: True,
    **settings: Any,
) -> rules.UpdateOutcome:
    raw = asked if isinstance(asked, bytes) else asked.to_wire(max_size=65535)
    read = update.read(raw)
    there = {wire(name): what for name, what in (content or {}).items()}
    for item in (*read.prerequisites, *read.updates):
        there.setdefault(item.name, Content())
    rights = Rights(UpdateSettings(**settings))
    return rules.apply(read, View("7", lambda name: holdings.held(name, NODE, ZONES, CLAIMS), there, rights, used))


def message(zone: str = "alice.example") -> dns.update.UpdateMessage:
    return dns.update.UpdateMessage(zone)


def code(outcome: rules.UpdateOutcome) -> str:
    return codes.RCODE_NAMES[outcome.rcode]


def texts(outcome: rules.UpdateOutcome) -> dict[str, list[str]]:
    return {
        holdings.text(name): sorted(f"{item.ttl} {update.data_text(item.type, item.wire)}" for item in records)
        for name, records in outcome.changes.items()
    }


THERE = {"x.alice.example": Content(fixed(record("A", "192.0.2.1")), (record("TXT", "own"),))}


class TestPrerequisites:
    """§3.2; each with and without what it asks for."""

    @pytest.mark.parametrize(
        ("method", "arguments", "with_", "without"),
        [
            ("present", ["x"], "NOERROR", "NXDOMAIN"),
            ("present", ["x", "A"], "NOERROR", "NXRRSET"),
            ("present", ["x", "TXT"], "NOERROR", "NXRRSET"),
            ("present", ["x", "A", "192.0.2.1"], "NOERROR", "NXRRSET"),
            ("present", ["x", "TXT", "own"], "NOERROR", "NXRRSET"),
            ("absent", ["x"], "YXDOMAIN", "NOERROR"),
            ("absent", ["x", "A"], "YXRRSET", "NOERROR"),
            ("absent", ["x", "TXT"], "YXRRSET", "NOERROR"),
        ],
    )
    def test_each(self, method: str, arguments: list[str], with_: str, without: str) -> None:
        asked = message()
        getattr(asked, method)(*arguments)
        asked.add("y", 60, "TXT", "added")
        there, absent = decide(asked, THERE), decide(asked)
        assert (code(there), code(absent)) == (with_, without)
        assert bool(there.changes) == (with_ == "NOERROR")
        assert bool(absent.changes) == (without == "NOERROR")

    def test_values_have_to_be_all_there_are(self) -> None:
        own = (record("TXT", "one"), record("TXT", "two"))
        asked = message()
        asked.present("x", "TXT", "one")
        assert code(decide(asked, {"x.alice.example": Content((), own)})) == "NXRRSET"
        asked.present("x", "TXT", "two")
        assert code(decide(asked, {"x.alice.example": Content((), own)})) == "NOERROR"

    def test_outside_the_zone(self) -> None:
        asked = message()
        asked.present(dns.name.from_text("x.elsewhere.example."))
        assert code(decide(asked)) == "NOTZONE"

    def test_they_come_before_permission(self) -> None:
        asked = message("gw1.example")
        asked.present("nobody")
        asked.add("nobody", 60, "A", "192.0.2.1")
        assert code(decide(asked)) == "NXDOMAIN"

    @pytest.mark.parametrize(
        "section",
        [
            "01 78 c00c 0010 00ff 00000001 0000",
            "01 78 c00c 0010 00ff 00000000 0002 0178",
            "01 78 c00c 0010 0003 00000000 0000",
        ],
        ids=["ttl", "data", "class"],
    )
    def test_form(self, section: str) -> None:
        head = bytes.fromhex("0001 2800 0001 0001 0000 0000") + wire("alice.example") + bytes.fromhex("0006 0001")
        assert code(decide(head + bytes.fromhex(section))) == "FORMERR"


class TestPermission:
    @pytest.mark.parametrize(
        ("zone", "name", "kind", "text", "expected"),
        [
            ("alice.example", "x", "A", "192.0.2.1", "NOERROR"),
            ("alice.example", "*", "A", "192.0.2.1", "NOERROR"),
            ("alice.example", "@", "TXT", "x", "NOERROR"),
            ("alice.example", "@", "CNAME", "x.example.", "REFUSED"),
            ("alice.example", "@", "NS", "ns.example.", "REFUSED"),
            ("alice.example", "@", "SOA", ". . 1 2 3 4 5", "REFUSED"),
            ("alice.example", "x", "NS", "ns.example.", "REFUSED"),
            ("alice.example", "x", "DNAME", "x.example.", "REFUSED"),
            ("alice.example", "x", "RRSIG", "A 13 2 60 20300101000000 20200101000000 1 alice.example. AAAA", "REFUSED"),
            ("alice.example", "__owner__", "TXT", "x", "REFUSED"),
            ("alice.example", "x.__owner__", "TXT", "x", "NOERROR"),
            ("alice.example", "\\@", "CNAME", "x.example.", "REFUSED"),  # redis has the apex under this name
            ("alice.example", "\\@.x", "TXT", "x", "NOERROR"),
            ("alice.example", "x.sub", "TXT", "x", "NOTZONE"),
            ("sub.alice.example", "x", "TXT", "x", "REFUSED"),
            ("gw1.example", "_acme-challenge.www", "TXT", "x", "NOERROR"),
            ("gw1.example", "_acme-challenge.a.www", "TXT", "x", "NOERROR"),
            ("gw1.example", "www", "CAA", '0 issue ";"', "NOERROR"),
            ("gw1.example", "www", "HTTPS", "1 .", "NOERROR"),
            ("gw1.example", "www", "TXT", "x", "REFUSED"),
            ("gw1.example", "x_acme-challenge.www", "TXT", "x", "REFUSED"),
            ("gw1.example", "www", "A", "192.0.2.1", "REFUSED"),
            ("gw1.example", "_acme-challenge.bob", "TXT", "x", "REFUSED"),
            ("gw1.example", "_acme-challenge", "TXT", "x", "REFUSED"),  # a claim to a managed domain is no right to it
            ("gw1.example", "@", "CAA", '0 issue ";"', "REFUSED"),
            ("www.gw1.example", "@", "CAA", '0 issue ";"', "NOTAUTH"),
            ("elsewhere.example", "x", "TXT", "x", "NOTAUTH"),
            ("broken.example", "x", "TXT", "x", "NOTAUTH"),
        ],
    )
    def test_each(self, zone: str, name: str, kind: str, text: str, expected: str) -> None:
        asked = message(zone)
        asked.add(name, 60, kind, text)
        outcome = decide(asked)
        assert code(outcome) == expected
        assert bool(outcome.changes) == (expected == "NOERROR")

    def test_the_settings_widen_and_close_it(self) -> None:
        asked = message("gw1.example")
        asked.add("www", 60, "TXT", "x")
        assert code(decide(asked, managed=("TXT",))) == "NOERROR"
        challenge = message("gw1.example")
        challenge.add("_acme-challenge.www", 60, "TXT", "x")
        assert code(decide(challenge, managed=())) == "REFUSED"
        delegation = message()
        delegation.add("x", 60, "NS", "ns.example.")
        assert code(decide(delegation, delegations=True)) == "NOERROR"
        apex = message()
        apex.add("@", 60, "NS", "ns.example.")
        assert code(decide(apex, delegations=True)) == "REFUSED"

    def test_one_name_of_another_spoils_it_all(self) -> None:
        asked = message("gw1.example")
        asked.add("_acme-challenge.www", 60, "TXT", "mine")
        asked.add("_acme-challenge.bob", 60, "TXT", "his")
        assert decide(asked) == rules.UpdateOutcome(codes.REFUSED)

    def test_what_a_reservation_made_stays(self) -> None:
        for arguments, expected in (
            (["x"], "REFUSED"),
            (["x", "A"], "REFUSED"),
            (["x", "A", "192.0.2.1"], "REFUSED"),
            (["x", "A", "192.0.2.2"], "NOERROR"),
            (["x", "TXT"], "NOERROR"),
        ):
            asked = message()
            asked.delete(*arguments)
            assert code(decide(asked, THERE)) == expected, arguments

    def test_soa_and_ns_of_a_zone_are_passed_over(self) -> None:
        """§3.4.2.3."""
        soa = record("SOA", "ns.example. host.example. 1 2 3 4 5")
        there = {"alice.example": Content(fixed(soa, record("NS", "ns.example.")), (record("TXT", "own"),))}
        asked = message()
        asked.delete("@")
        assert texts(decide(asked, there)) == {"alice.example": []}

    def test_quota(self) -> None:
        asked = message()
        asked.add("x", 60, "TXT", "x")
        assert code(decide(asked, used=lambda _changes: False)) == "REFUSED"
        nothing = message()
        nothing.delete("x")
        assert code(decide(nothing, used=lambda _changes: False)) == "NOERROR"

    def test_more_than_a_message_can_carry(self) -> None:
        own = tuple(record("TXT", f'"{number:03}{"x" * 252}"') for number in range(238))
        asked = message()
        asked.add("x", 60, "TXT", '"' + "y" * 255 + '"')
        assert code(decide(asked, {"x.alice.example": Content((), own[:-1])})) == "NOERROR"
        assert code(decide(asked, {"x.alice.example": Content((), own)})) == "REFUSED"


class TestChange:
    def test_added_twice_is_once_with_the_new_ttl(self) -> None:
        """§3.4.2.2, and RFC 2181 §5.2 for the others of the set."""
        own = (record("TXT", "one", 60), record("TXT", "two", 60), record("CAA", '0 issue ";"', 60))
        asked = message()
        asked.add("x", 300, "TXT", "one")
        assert texts(decide(asked, {"x.alice.example": Content((), own)})) == {
            "x.alice.example": ['300 "one"', '300 "two"', '60 0 issue ";"']
        }

    def test_what_is_there_already_is_no_change(self) -> None:
        own = (record("MX", "10 mail.example."),)
        asked = message()
        asked.add("x", 60, "MX", "10 MAIL.example.")
        assert decide(asked, {"x.alice.example": Content((), own)}).rcode == codes.NOERROR
        asked = message()
        asked.delete("y")
        assert decide(asked) == rules.UpdateOutcome(codes.NOERROR)

    def test_aliases(self) -> None:
        alias, text = record("CNAME", "a.example."), record("TXT", "x")
        for own, kind, value, expected in (
            ((text,), "CNAME", "b.example.", {}),
            ((alias,), "TXT", "y", {}),
            ((alias,), "CNAME", "b.example.", {"x.alice.example": ["60 b.example."]}),
        ):
            asked = message()
            asked.add("x", 60, kind, value)
            outcome = decide(asked, {"x.alice.example": Content((), own)})
            assert (code(outcome), texts(outcome)) == ("NOERROR", expected)
        asked = message()
        asked.add("x", 60, "CNAME", "b.example.")
        assert decide(asked, {"x.alice.example": Content(fixed(record("A", "192.0.2.1")))}).changes == {}
        assert decide(asked, {"x.alice.example": Content(fixed(alias))}).changes == {}

    def test_in_the_order_of_the_message(self) -> None:
        asked = message()
        asked.add("x", 60, "TXT", "gone")
        asked.delete("x", "TXT")
        asked.add("x", 60, "TXT", "stays")
        asked.add("x", 60, "A", "192.0.2.1")
        asked.delete("x", "A", "192.0.2.1")
        assert texts(decide(asked)) == {"x.alice.example": ['60 "stays"']}

    @pytest.mark.parametrize(
        "section",
        [
            "01 78 c00c 00fc 0001 00000000 0000",
            "01 78 c00c 00ff 0001 00000000 0000",
            "01 78 c00c 0010 0001 00000000 0000",
            "01 78 c00c 0001 0001 00000000 0002 0000",
            "01 78 c00c 0010 00ff 00000001 0000",
            "01 78 c00c 0010 00ff 00000000 0002 0178",
            "01 78 c00c 00fc 00ff 00000000 0000",
            "01 78 c00c 0010 00fe 00000001 0002 0178",
            "01 78 c00c 00ff 00fe 00000000 0000",
            "01 78 c00c 0010 0003 00000000 0002 0178",
        ],
    )
    def test_form(self, section: str) -> None:
        """§3.4.1.3: nothing is done, not even what stands before it."""
        head = bytes.fromhex("0001 2800 0001 0000 0002 0000") + wire("alice.example") + bytes.fromhex("0006 0001")
        good = bytes.fromhex("01 79 c00c 0010 0001 0000003c 0002 0178")
        try:
            outcome = decide(head + good + bytes.fromhex(section))
        except update.ParseError:
            return
        assert outcome == rules.UpdateOutcome(codes.FORMERR)


NAMES = st.sampled_from(["a", "b", "a.b", "@"])
VALUES = st.sampled_from(
    [("TXT", "one"), ("TXT", "two"), ("A", "192.0.2.1"), ("CNAME", "c.example."), ("MX", "1 m.example.")]
)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "replace", "delete", "delete_rrset", "delete_name"]), NAMES, VALUES))


@given(st.lists(STEPS, max_size=5))
def test_whatever_is_asked_names_stay_consistent(messages: list) -> None:
    """Nothing beside a CNAME, no record twice, one TTL for a set; what is refused changes nothing."""
    content: dict[str, Content] = {}
    for number, steps in enumerate(messages):
        asked = message()
        for kind, name, (rrtype, text) in steps:
            if kind in ("add", "replace"):
                getattr(asked, kind)(name, number, rrtype, text)
            else:
                asked.delete(*[name, rrtype, text][: {"delete": 3, "delete_rrset": 2, "delete_name": 1}[kind]])
        outcome = decide(asked, content)
        assert outcome.rcode == codes.NOERROR or not outcome.changes
        content |= {holdings.text(name): Content((), records) for name, records in outcome.changes.items()}
        for there in content.values():
            found = [(item.type, item.data) for item in there.own]
            assert len(found) == len(set(found))
            kinds = {kind for kind, _ in found}
            assert codes.CNAME not in kinds or len(found) == 1
            assert len({(item.type, item.ttl) for item in there.own}) == len(kinds)


def test_the_quota_counts_what_will_be_there() -> None:
    mine = {wire("a.alice.example"): (record("TXT", "one"),), wire("b.alice.example"): (record("TXT", "two"),)}
    more = {wire("c.alice.example"): (record("TXT", "three"),)}
    less = {wire("a.alice.example"): ()}
    assert rules.within_quota(mine, more, 3, 1000)
    assert not rules.within_quota(mine, more, 2, 1000)
    assert not rules.within_quota(mine, more, 3, 100)
    assert rules.within_quota(mine, less, 0, 0), "what takes something away always may"
