"""Hostile bytes: never an exception, never a reply to a reply, never a reply that cannot be read."""

from __future__ import annotations

import struct

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

ZONES = {
    "z.": {
        "@": {"mx": [{"host": "mail.z."}]},
        "mail": {"a": [{"ip": "192.0.2.1"}], "aaaa": [{"ip": "2001:db8::1"}]},
        "*": {"txt": [{"text": "x" * 300}], "a": [{"ip": f"192.0.2.{number}"} for number in range(80)]},
        "alias": {"cname": [{"host": "alias2.z."}]},
        "alias2": {"cname": [{"host": "www.cut.z."}]},
        "cut": {"ns": [{"host": "ns.cut.z."}]},
        "ns.cut": {"a": [{"ip": "192.0.2.2"}]},
    }
}
NAMES = ["z.", "mail.z.", "any.z.", "alias.z.", "x.cut.z.", "nope.mail.z.", "other.", ".", "A" * 60 + ".Z."]


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    query = dns.message.make_query(
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from(["A", "AAAA", "TXT", "MX", "NS", "SOA", "ANY", "DS", "CAA", "AXFR", 65000])),
        rdclass=draw(st.sampled_from(["IN", "CH"])),
        use_edns=draw(st.sampled_from([None, 0, 1])),
        payload=draw(st.integers(0, 65535)),
        want_dnssec=draw(st.booleans()),
    )
    return bytes(query.to_wire())


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    wire = bytearray(draw(queries()))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(wire)))
        match draw(st.sampled_from(["change", "insert", "delete", "repeat"])):
            case "change" if at < len(wire):
                wire[at] = draw(st.integers(0, 255))
            case "insert":
                wire[at:at] = draw(st.binary(max_size=8))
            case "delete":
                del wire[at : at + draw(st.integers(1, 8))]
            case _:
                wire[at:at] = wire[12:at]
    return bytes(wire)


@pytest.fixture(scope="module")
def world(gateway):
    return gateway(ZONES)


def check(world, message: bytes, transport: str) -> None:
    reply = world.exchange(message, transport)
    if reply is None:
        assert len(message) < 12 or message[2] & 0x80
        return
    assert reply[:2] == message[:2]
    assert reply[2] & 0xF8 == 0x80 | message[2] & 0x78
    assert len(reply) <= (1232 if transport == "udp" else 65535)
    # dnspython has rules of its own about the questions of other opcodes.
    parsed = dns.message.from_wire(reply[:2] + bytes([reply[2] & 0x87]) + reply[3:])
    assert not parsed.flags & dns.flags.RA
    if parsed.question:
        assert reply[12:].startswith(message[12 : 12 + len(parsed.question[0].name.to_wire()) + 4])
    else:
        assert parsed.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP)


transports = st.sampled_from(["udp", "tcp"])


@given(st.binary(max_size=600), transports)
@example(bytes(12), "udp")
def test_random_bytes(world, message: bytes, transport: str) -> None:
    check(world, message, transport)


@given(st.binary(min_size=10, max_size=10), st.binary(max_size=300), transports)
def test_random_bytes_after_a_header_of_one_question(world, start: bytes, rest: bytes, transport: str) -> None:
    check(world, start[:2] + bytes([start[2] & 0x7F, start[3]]) + struct.pack("!H", 1) + start[4:] + rest, transport)


@settings(max_examples=300)
@given(mutated(), transports)
def test_mutated_queries(world, message: bytes, transport: str) -> None:
    check(world, message, transport)


@given(queries(), transports)
def test_every_truncation_of_a_query(world, message: bytes, transport: str) -> None:
    for length in range(len(message) + 1):
        check(world, message[:length], transport)


@given(queries())
def test_reply_is_never_answered(world, message: bytes) -> None:
    reply = world.exchange(message)
    assert reply is not None
    assert world.exchange(reply) is None
