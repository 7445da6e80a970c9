"""UPDATE messages as dnspython writes them are read as it reads them; anything else is a FORMERR."""

from __future__ import annotations

import contextlib

import dns.message
import dns.name
import dns.rdataclass
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.wire import codes, names, update
from tfgateway.errors import ParseError

LABELS = st.text("abcdefghijklmnopqrstuvwxyzABC_-", min_size=1, max_size=20)
OWNERS = st.lists(LABELS, min_size=0, max_size=4).map(lambda labels: ".".join([*labels, "alice.example."]))
DATA = st.sampled_from(
    [
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("TXT", '"one" "two"'),
        ("MX", "10 Mail.Alice.example."),
        ("SRV", "1 2 3 host.elsewhere.example."),
        ("CNAME", "x.alice.example."),
        ("CAA", '0 issue "ca.example"'),
        ("HTTPS", '1 . alpn="h2"'),
    ]
)
TTLS = st.integers(0, 2**31 - 1)
ADDED = st.tuples(OWNERS, TTLS, DATA)


def message(added: list[tuple[str, int, tuple[str, str]]], removed: list[tuple[str, tuple[str, str]]]) -> bytes:
    made = dns.update.UpdateMessage("Alice.example")
    for owner, ttl, (kind, text) in added:
        made.add(dns.name.from_text(owner), ttl, kind, text)
    for owner, (kind, text) in removed:
        made.delete(dns.name.from_text(owner), kind, text)
    return made.to_wire(max_size=65535)


@given(st.lists(ADDED, max_size=6), st.lists(st.tuples(OWNERS, DATA), max_size=4))
def test_what_is_written_is_read(added: list, removed: list) -> None:
    raw = message(added, removed)
    found = update.read(raw)
    parsed = dns.message.from_wire(raw)
    assert isinstance(parsed, dns.update.UpdateMessage)
    expected = set()
    for rrset in parsed.update:
        rrclass = rrset.deleting or rrset.rdclass
        for data in rrset:
            expected.add((rrset.name.to_wire().lower(), rrset.rdtype, rrclass, data.to_digestable()))
    got = {(one.name, one.type, one.rrclass, update.canonical(one.type, one.data)) for one in found.updates}
    assert got == expected
    assert found.zone == b"\x05alice\x07example\0"
    assert found.prerequisites == ()


@given(st.lists(ADDED, min_size=1, max_size=4), st.data())
def test_a_part_of_one_is_none(added: list, data: st.DataObject) -> None:
    raw = message(added, [])
    end = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(ParseError):
        update.read(raw[:end])


@given(st.lists(ADDED, min_size=1, max_size=4), st.data())
def test_a_damaged_one_is_read_or_refused(added: list, data: st.DataObject) -> None:
    raw = bytearray(message(added, []))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ParseError):
        found = update.read(bytes(raw))
        for one in (*found.prerequisites, *found.updates):
            if one.data:
                update.canonical(one.type, one.data)


@given(st.binary(max_size=300))
def test_anything_is_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(ParseError):
        update.read(raw)


def test_more_records_than_are_looked_at() -> None:
    head = bytes.fromhex("0001 2800 0001 0000 ffff 0000") + b"\x05alice\x07example\0" + bytes.fromhex("0006 0001")
    with pytest.raises(update.TooManyRecords):
        update.read(head)


@pytest.mark.parametrize("zones", ["0000", "0002"])
def test_not_of_one_zone(zones: str) -> None:
    head = bytes.fromhex(f"0001 2800 {zones} 0000 0000 0000") + b"\x05alice\x07example\0" + bytes.fromhex("0006 0001")
    with pytest.raises(ParseError, match="one zone"):
        update.read(head * 2)


def test_a_zone_section_without_soa() -> None:
    raw = bytes.fromhex("0001 2800 0001 0000 0000 0000") + b"\x05alice\x07example\0" + bytes.fromhex("0001 0001")
    with pytest.raises(ParseError, match="no SOA"):
        update.read(raw)


def test_names_in_data_are_compared_in_any_case() -> None:
    one, other = (names.from_text(text) for text in (b"Mail.Example.", b"mail.example."))
    assert update.canonical(codes.MX, b"\0\x0a" + one) == update.canonical(codes.MX, b"\0\x0a" + other)
    assert update.canonical(codes.TXT, b"\x01A") != update.canonical(codes.TXT, b"\x01a")
