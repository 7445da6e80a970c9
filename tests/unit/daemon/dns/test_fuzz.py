"""Hostile bytes: never an exception, never a reply to a reply, never a reply that cannot be read."""

from __future__ import annotations

import ipaddress
import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import dns.tsig
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.respond import truncated
from tfgateway.dns.answer.transfer import Allowed
from tfgateway.dns.server.secrets import Secrets, TsigKey
from tfgateway.dns.wire.cookies import Cookies

from .conftest import CLIENT, NOW

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


KEYS = Secrets(tsig=(TsigKey(name="key.", secret=b"s" * 32),)).keys
EVERYTHING = ServerOptions(
    cookies=Cookies([bytes(16), b"x" * 16]),
    nsid=b"gw-01",
    chaos={b"\x02id\x06server\0": b"gw-01"},
    keys=KEYS,
    transfers=[Allowed(ipaddress.ip_network("192.0.2.0/24"))],
)
"""With a service that does all it can, there is most to go wrong."""
OPTIONS = st.one_of(
    st.binary(max_size=45).map(lambda data: dns.edns.GenericOption(10, data)),
    st.just(dns.edns.GenericOption(10, Cookies([bytes(16)]).check(b"12345678", CLIENT, NOW).reply)),
    st.binary(max_size=4).map(lambda data: dns.edns.GenericOption(3, data)),
    st.binary(max_size=4).map(lambda data: dns.edns.GenericOption(11, data)),
    st.builds(dns.edns.GenericOption, st.integers(0, 65535), st.binary(max_size=20)),
)


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    use_edns = draw(st.sampled_from([None, 0, 1]))
    query = dns.message.make_query(
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from(["A", "AAAA", "TXT", "MX", "NS", "SOA", "ANY", "DS", "CAA", "AXFR", "IXFR", 65000])),
        rdclass=draw(st.sampled_from(["IN", "CH"])),
        use_edns=use_edns,
        payload=draw(st.integers(0, 65535)),
        want_dnssec=draw(st.booleans()),
        options=draw(st.lists(OPTIONS, max_size=3)) if use_edns == 0 else None,
    )
    if draw(st.booleans()):
        query.authority.append(dns.rrset.from_text("z.", 0, "IN", "SOA", "ns. host. 0 1 1 1 1"))
    if draw(st.booleans()):
        query.use_tsig(draw(st.sampled_from([KEYS[b"\x03key\0"], dns.tsig.Key("who.", b"t" * 32)])))
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
    return gateway(ZONES, service=EVERYTHING)


def check(world, message: bytes, transport: str) -> None:
    found = world.reply(message, transport)
    if found is None:
        assert len(message) < 12 or message[2] & 0x80
        return
    messages = [found.message, truncated(found)]
    while found.rest is not None and len(messages) < 100:
        try:
            messages.append(found.rest.send(NOW))
        except StopIteration:
            break
    for reply in messages:
        check_reply(message, reply, transport)


def check_reply(message: bytes, reply: bytes, transport: str) -> None:
    assert reply[:2] == message[:2]
    assert reply[2] & 0xF8 == 0x80 | message[2] & 0x78
    assert len(reply) <= (1232 if transport == "udp" else 65535)
    # dnspython has rules of its own about the questions of other opcodes.
    parsed = dns.message.from_wire(reply[:2] + bytes([reply[2] & 0x87]) + reply[3:], keyring=False)
    assert not parsed.flags & dns.flags.RA
    if parsed.question:
        assert reply[12:].startswith(message[12 : 12 + len(parsed.question[0].name.to_wire()) + 4])
    else:
        assert parsed.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.NOTAUTH)


transports = st.sampled_from(["udp", "tcp"])


@given(st.binary(max_size=600), transports)
@example(bytes(12), "udp")
def test_random_bytes(world, message: bytes, transport: str) -> None:
    check(world, message, transport)


@given(st.binary(min_size=10, max_size=10), st.binary(max_size=300), transports)
def test_random_bytes_after_a_header_of_one_question(world, start: bytes, rest: bytes, transport: str) -> None:
    check(world, start[:2] + bytes([start[2] & 0x7F, start[3]]) + struct.pack("!H", 1) + start[4:] + rest, transport)


@settings(max_examples=3 * settings.default.max_examples)
@given(mutated(), transports)
def test_mutated_queries(world, message: bytes, transport: str) -> None:
    check(world, message, transport)


@settings(max_examples=settings.default.max_examples // 2)
@given(queries(), transports)
def test_every_truncation_of_a_query(world, message: bytes, transport: str) -> None:
    for length in range(len(message) + 1):
        check(world, message[:length], transport)


@given(st.integers(0, 300), st.binary(max_size=40), transports)
def test_pointers_that_loop_lead_on_or_out(world, target: int, rest: bytes, transport: str) -> None:
    pointer = struct.pack("!H", 0xC000 | target)
    question = b"\x01a\x01z\0" + struct.pack("!HH", 1, 1)
    for counts, body in (
        ((1, 0, 0, 0), pointer + question[5:]),
        ((1, 0, 0, 0), b"\x01a" + pointer + question[5:]),
        ((1, 1, 0, 0), question + pointer + rest),
        ((1, 0, 0, 2), question + pointer + struct.pack("!HHIH", 1, 1, 0, 0) + b"\x01a" + pointer + rest),
        ((1, 0, 0, 1), question + pointer + struct.pack("!HHIH", 250, 255, 0, len(rest)) + rest),
    ):
        check(world, struct.pack("!HHHHHH", 1, 0, *counts) + body, transport)


@given(queries())
def test_reply_is_never_answered(world, message: bytes) -> None:
    reply = world.exchange(message)
    assert reply is not None
    assert world.exchange(reply) is None
