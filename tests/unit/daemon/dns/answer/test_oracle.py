"""The lookup against a second, naive one: RFC 1034 §4.3.2 and RFC 4592 read word by word, on label tuples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
from hypothesis import given, settings
from hypothesis import strategies as st

Name = tuple[str, ...]
"""Labels, the leftmost first."""
Line = tuple[Name, str, str]
"""Owner, type, data."""

LABELS = ["a", "b", "c", "*"]
ZONES: list[Name] = [("z",), ("a", "z"), ("b", "a", "z"), ("a", "y")]
TYPES = ["A", "TXT", "MX", "CNAME", "NS"]


def text(name: Name) -> str:
    return ".".join(name) + "."


@dataclass
class Expected:
    rcode: str = "NOERROR"
    aa: bool = True
    answer: list[Line] = field(default_factory=list)
    authority: list[tuple[Name, str]] = field(default_factory=list)
    additional: set[Line] = field(default_factory=set)


class Oracle:
    """zones: zone -> name -> type -> data, complete with SOA and NS at each apex."""

    def __init__(self, zones: dict[Name, dict[Name, dict[str, list[str]]]]) -> None:
        self.zones = zones

    def answer(self, qname: Name, qtype: str) -> Expected:
        reply = Expected()
        names = [qname]
        while (zone := self.zone_of(names[-1], qtype)) is not None:
            alias = self.in_zone(reply, zone, names[-1], qtype)
            if alias is None or alias in names or len(names) == 16:
                return reply
            names.append(alias)
        if len(names) == 1:
            return Expected("REFUSED", aa=False)
        return reply

    def in_zone(self, reply: Expected, zone: Name, name: Name, qtype: str) -> Name | None:
        """Add what the zone says; the name to go on with, if any."""
        data = self.zones[zone]
        cut = self.cut(zone, name)
        if cut is not None and not (qtype == "DS" and cut == name):
            reply.aa = bool(reply.answer)
            reply.authority.append((cut, "NS"))
            for host in data[cut]["NS"]:
                labels = tuple(host.rstrip(".").split("."))
                reply.additional |= self.addresses(labels, data)
                if self.zone_of(labels, "A") == zone and self.cut(zone, labels) is None:
                    source = self.source(zone, labels)
                    reply.additional |= set() if source is None else self.addresses(labels, data, source)
            return None
        if cut is not None:
            return self.negative(reply, zone, "NOERROR")
        source = self.source(zone, name)
        if source is None:
            served_below = any(other[-len(name) :] == name for other in self.zones)
            return self.negative(reply, zone, "NOERROR" if served_below else "NXDOMAIN")
        here = data.get(source, {})
        if qtype == "ANY":
            return self.negative(reply, zone, "NOERROR") if not here else self.positive(reply, zone, name, here, "ANY")
        if qtype in here:
            return self.positive(reply, zone, name, here, qtype)
        if "CNAME" in here:
            reply.answer.append((name, "CNAME", here["CNAME"][0]))
            return tuple(here["CNAME"][0].rstrip(".").split("."))
        return self.negative(reply, zone, "NOERROR")

    def positive(self, reply: Expected, zone: Name, name: Name, here: dict[str, list[str]], qtype: str) -> None:
        if qtype == "ANY":
            order = ["SOA", "A", "CNAME", "NS", "MX", "TXT"]
            qtype = min(here, key=order.index)
        reply.answer += [(name, qtype, item) for item in here[qtype]]
        if qtype in ("NS", "MX"):
            for item in here[qtype]:
                host = tuple(item.split()[-1].rstrip(".").split("."))
                if self.zone_of(host, "A") == zone and self.cut(zone, host) is None:
                    source = self.source(zone, host)
                    reply.additional |= set() if source is None else self.addresses(host, self.zones[zone], source)

    def negative(self, reply: Expected, zone: Name, rcode: str) -> None:
        reply.rcode = rcode
        reply.authority.append((zone, "SOA"))

    def addresses(self, host: Name, data: dict[Name, dict[str, list[str]]], source: Name | None = None) -> set[Line]:
        return {(host, "A", ip) for ip in data.get(source or host, {}).get("A", [])}

    def zone_of(self, name: Name, qtype: str) -> Name | None:
        candidates = sorted((zone for zone in self.zones if name[-len(zone) :] == zone), key=len)
        if qtype == "DS" and len(candidates) > 1 and candidates[-1] == name:
            return candidates[-2]
        return candidates[-1] if candidates else None

    def cut(self, zone: Name, name: Name) -> Name | None:
        for size in range(len(zone) + 1, len(name) + 1):
            if "NS" in self.zones[zone].get(name[-size:], {}):
                return name[-size:]
        return None

    def source(self, zone: Name, name: Name) -> Name | None:
        """The name whose records answer for ``name``: itself or a wildcard; it may have no records."""
        existing = {owner[at:] for owner in self.zones[zone] for at in range(len(owner) - len(zone) + 1)}
        matched = zone
        for size in range(len(zone) + 1, len(name) + 1):
            if name[-size:] not in existing:
                return ("*", *matched) if ("*", *matched) in existing else None
            matched = name[-size:]
        return name


@st.composite
def worlds(draw: st.DrawFn) -> dict[Name, dict[Name, dict[str, list[str]]]]:
    zones = draw(st.lists(st.sampled_from(ZONES), min_size=1, unique=True))
    targets = st.builds(
        lambda labels, zone: text((*labels, *zone)),
        st.lists(st.sampled_from(LABELS), max_size=3),
        st.sampled_from([*ZONES, ("x",)]),
    )
    made: dict[Name, dict[Name, dict[str, list[str]]]] = {}
    for zone in zones:
        names = draw(st.lists(st.lists(st.sampled_from(LABELS), max_size=4).map(tuple), max_size=8, unique=True))
        made[zone] = {}
        for labels in names:
            sets: dict[str, list[str]] = {}
            for kind in draw(st.lists(st.sampled_from(TYPES), max_size=3, unique=True)):
                match kind:
                    case "A":
                        sets[kind] = [f"192.0.2.{draw(st.integers(1, 3))}"]
                    case "TXT":
                        sets[kind] = [f'"{draw(st.sampled_from("xy"))}"']
                    case "MX":
                        sets[kind] = [f"5 {draw(targets)}"]
                    case "CNAME":
                        sets[kind] = [draw(targets)]
                    case "NS":
                        sets[kind] = draw(st.lists(targets, min_size=1, max_size=2, unique=True))
            made[zone][labels] = sets
    return made


def as_layout(sets: dict[str, list[str]]) -> dict[str, object]:
    """The field of the redis layout for the records of one name."""
    return {
        "a": [{"ip": item} for item in sets.get("A", [])],
        "txt": [{"text": item.strip('"')} for item in sets.get("TXT", [])],
        "mx": [{"host": item.split()[1], "preference": 5} for item in sets.get("MX", [])],
        "cname": [{"host": item} for item in sets.get("CNAME", [])],
        "ns": [{"host": item} for item in sets.get("NS", [])],
    }


def as_rfc(zone: Name, names: dict[Name, dict[str, list[str]]]) -> dict[Name, dict[str, list[str]]]:
    """The zone as a name server would load it: SOA and NS at the apex, nothing beside an alias elsewhere.

    A delegated name is no alias: its NS are kept.
    """
    loaded: dict[Name, dict[str, list[str]]] = {zone: {"NS": ["ns1.gateway.example.", "ns2.gateway.example."]}}
    for labels, sets in names.items():
        if not labels:
            loaded[zone].update(sets)
        elif "NS" in sets:
            loaded[(*labels, *zone)] = {kind: data for kind, data in sets.items() if kind != "CNAME"}
        elif "CNAME" in sets:
            loaded[(*labels, *zone)] = {"CNAME": sets["CNAME"]}
        else:
            loaded[(*labels, *zone)] = sets
    loaded[zone]["SOA"] = [f"ns1.gateway.example. hostmaster.{text(zone)} 1 86400 7200 3600000 300"]
    return loaded


def section(rrsets: list[object]) -> Iterator[Line]:
    for rrset in rrsets:
        owner = tuple(rrset.name.to_text().lower().rstrip(".").split("."))
        for item in rrset:
            yield owner, dns.rdatatype.to_text(rrset.rdtype), item.to_text()


questions = st.tuples(
    st.lists(st.sampled_from([*LABELS, "d"]), max_size=5),
    st.sampled_from([*ZONES, ("y",), ("x",)]),
    st.sampled_from(["A", "TXT", "MX", "CNAME", "NS", "SOA", "DS", "AAAA", "ANY"]),
)


@settings(max_examples=6 * settings.default.max_examples)
@given(worlds(), st.lists(questions, min_size=5, max_size=30))
def test_lookup_is_that_of_the_naive_reading_of_the_rfcs(gateway, zones, asked) -> None:
    world = gateway(
        {
            text(zone): {".".join(labels) or "@": as_layout(sets) for labels, sets in names.items()}
            for zone, names in zones.items()
        }
    )
    oracle = Oracle({zone: as_rfc(zone, names) for zone, names in zones.items()})
    for labels, zone, qtype in asked:
        qname = (*labels, *zone)
        expected = oracle.answer(qname, qtype)
        reply = world.ask(text(qname), qtype, "tcp")
        seen = (dns.rcode.to_text(reply.rcode()), bool(reply.flags & dns.flags.AA))
        assert seen == (expected.rcode, expected.aa), (qname, qtype)
        assert sorted(section(reply.answer)) == sorted(expected.answer), (qname, qtype)
        assert {line[:2] for line in section(reply.authority)} == set(expected.authority), (qname, qtype)
        assert set(section(reply.additional)) == expected.additional, (qname, qtype)
