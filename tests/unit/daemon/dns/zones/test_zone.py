from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.rrsets import ZonePolicy
from tfgateway.dns.zones import field_decoder
from tfgateway.dns.zones.zone import Node, Zone
from tfgateway.dns.zones.zones import Zones

POLICY = ZonePolicy(300, (b"\x02ns\0",))
NAME = b"\x01z\0"

labels = st.sampled_from(["a", "b", "*"])
fields = st.lists(labels, min_size=1, max_size=4).map(".".join)
records = st.sampled_from([{}, {"a": [{"ip": "192.0.2.1"}]}, {"ns": [{"host": "ns.a.z."}]}, {"txt": [{"text": "x"}]}])


def node(content: object) -> Node:
    return field_decoder.read(json.dumps(content).encode(), POLICY)[0]


def empty_zone(name: bytes = NAME) -> Zone:
    return Zone(name, field_decoder.read_apex(None, name, POLICY)[0])


@given(st.lists(st.tuples(fields, records | st.none()), max_size=30), st.data())
def test_zone_that_was_changed_is_the_zone_that_is_made_anew(changes, data) -> None:
    changed = empty_zone()
    final: dict[str, object] = {}
    for field, content in changes:
        changed.apply([(names.from_field(field.encode(), NAME), None if content is None else node(content))])
        if content is None:
            final.pop(field, None)
        else:
            final[field] = content
    anew = empty_zone()
    order = data.draw(st.permutations(sorted(final)))
    anew.apply((names.from_field(field.encode(), NAME), node(final[field])) for field in order)

    assert changed.nodes == anew.nodes
    assert changed.digest == anew.digest
    for field in data.draw(st.lists(fields, min_size=5, max_size=20)):
        name = names.from_field(field.encode(), NAME)
        assert changed.locate(name) == anew.locate(name)


def test_digest_is_of_the_records_not_of_how_they_are_written() -> None:
    first, second = empty_zone(), empty_zone()
    name = b"\x03www" + NAME
    first.apply([(name, field_decoder.read(b'{"a":[{"ip":"192.0.2.1"},{"ip":"192.0.2.2"}]}', POLICY)[0])])
    second.apply(
        [(name, field_decoder.read(b' {"A":[{"ip":"192.0.2.2","ttl":0}, null,{"ip":"192.0.2.1"}]}', POLICY)[0])]
    )
    assert first.digest == second.digest
    second.stamp(77)
    assert first.digest == second.digest
    second.apply([(name, field_decoder.read(b'{"a":[{"ip":"192.0.2.1"}]}', POLICY)[0])])
    assert first.digest != second.digest


def test_digest_covers_ttl_apex_and_settings() -> None:
    def digest(raw_apex: bytes | None, policy: ZonePolicy = POLICY) -> int:
        return Zone(NAME, field_decoder.read_apex(raw_apex, NAME, policy)[0]).digest

    different = [
        digest(None),
        digest(b'{"a":[{"ip":"192.0.2.1"}]}'),
        digest(b'{"a":[{"ip":"192.0.2.1","ttl":5}]}'),
        digest(None, ZonePolicy(299, POLICY.name_servers)),
        digest(None, ZonePolicy(300, (b"\x02n2\0",))),
    ]
    assert len(set(different)) == len(different)
    assert digest(b"{}") == different[0]


def test_serial_is_in_both_forms_of_the_soa_and_survives_changes() -> None:
    zone = empty_zone()
    zone.stamp(0x01020304)
    zone.apply([(b"\x01a" + NAME, node({}))])
    soa = zone.nodes[NAME].get(codes.SOA)
    assert soa is not None
    for rrset in (soa, zone.denial):
        assert rrset.bodies[0][-20:-16] == b"\1\2\3\4"
    zone.apply([(NAME, field_decoder.read_apex(b"{}", NAME, POLICY)[0])])
    assert zone.denial.bodies[0][-20:-16] == b"\1\2\3\4"


@given(st.lists(st.tuples(st.booleans(), fields), max_size=30))
def test_table_knows_what_is_above_its_zones(steps) -> None:
    table = Zones()
    present: set[bytes] = set()
    for put, text in steps:
        name = names.from_field(text.encode(), b"\0")
        if put:
            table.put(empty_zone(name))
            present.add(name)
        else:
            table.remove(name)
            present.discard(name)
    assert len(table) == len(present)
    for _, text in steps:
        name = names.from_field(text.encode(), b"\0")
        for asked in (name, names.parent(name), b"\x01c" + name):
            assert table.leads_to_zone(asked) == any(names.is_within(zone, asked) for zone in present)
            above = [zone for zone in present if names.is_within(asked, zone)]
            found = table.find(asked, codes.A)
            assert (found and found.name) == max(above, key=len, default=None)
