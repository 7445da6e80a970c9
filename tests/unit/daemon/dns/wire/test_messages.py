"""The ladder from bytes to a reply: header, question, EDNS, size."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

WWW = {"www": {"a": [{"ip": "203.0.113.5"}]}}
QUESTION = b"\x03wWw\x01Z\0" + struct.pack("!HH", 1, 1)


def packet(body: bytes = QUESTION, flags: int = 0, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return struct.pack("!HHHHHH", 0xBEEF, flags, *counts) + body


def opt(size: int = 1232, ttl: int = 0, data: bytes = b"", owner: bytes = b"\0") -> bytes:
    return owner + struct.pack("!HHIH", 41, size, ttl, len(data)) + data


@pytest.fixture
def world(gateway):
    return gateway({"z.": WWW})


@pytest.mark.parametrize("length", range(12))
def test_too_short_is_dropped(world, length) -> None:
    assert world.exchange(packet()[:length]) is None
    assert world.counts.drops["udp", "short"] == 1


@pytest.mark.parametrize("message", [packet(flags=0x8000), packet(flags=0xFFFF), packet(b"", 0x8000, (0, 0, 0, 0))])
def test_response_is_never_answered(world, message) -> None:
    assert world.exchange(message, "tcp") is None
    assert world.counts.drops["tcp", "response"] == 1
    assert not world.counts.queries


@pytest.mark.parametrize(
    ("message", "echoed"),
    [
        (packet(b"", counts=(0, 0, 0, 0)), b""),
        (packet(QUESTION * 2, counts=(2, 0, 0, 0)), b""),
        (packet(b"\xc0\x0c\0\x01\0\x01"), b""),
        (packet(b"\x40" + QUESTION), b""),
        (packet((b"\x3f" + b"a" * 63) * 4 + b"\0\0\x01\0\x01"), b""),
        *((packet(QUESTION[:length]), b"") for length in range(len(QUESTION))),
        (packet(QUESTION + b"\0"), QUESTION),
        (packet(counts=(1, 0, 0, 1)), QUESTION),
        (packet(counts=(1, 1, 0, 0)), QUESTION),
        (packet(counts=(1, 0, 65535, 65535)), QUESTION),
        (packet(QUESTION + opt()[:-1], counts=(1, 0, 0, 1)), QUESTION),
    ],
)
def test_malformed_gets_formerr_with_the_question_if_it_can_be_read(world, message, echoed) -> None:
    reply = world.exchange(message)
    assert reply[:2] == message[:2]
    assert reply[2:4] == b"\x80\x01"
    assert reply[12:] == echoed
    assert reply[4:12] == struct.pack("!HHHH", bool(echoed), 0, 0, 0)


def test_a_notify_is_none_of_ours(world) -> None:
    """Nothing is copied from elsewhere: NOTAUTH, as Knot says."""
    reply = world.exchange(packet(flags=dns.opcode.NOTIFY << 11))
    assert reply[2:4] == bytes([0x80 | dns.opcode.NOTIFY << 3, 9])


@pytest.mark.parametrize("opcode", [1, 2, 3, 5, 6, 15])
def test_other_opcodes_are_not_implemented(world, opcode) -> None:
    reply = world.exchange(packet(flags=opcode << 11))
    assert reply[2:4] == bytes([0x80 | opcode << 3, 4])
    assert reply[12:] == QUESTION
    # DSO has no question (RFC 8490 §5.4).
    assert world.exchange(packet(b"", opcode << 11, (0, 0, 0, 0)))[3] == 4


def test_question_is_repeated_with_its_case_and_the_owner_points_to_it(world) -> None:
    reply = world.exchange(packet())
    assert reply[12:] == QUESTION + b"\xc0\x0c\0\x01\0\x01" + struct.pack("!IH", 300, 4) + bytes([203, 0, 113, 5])


def test_case_is_folded_for_ascii_letters_only(gateway) -> None:
    world = gateway({"z.": {"\\195\\169": {"a": [{"ip": "203.0.113.5"}]}}})
    for name, rcode in ((b"\x02\xc3\xa9", 0), (b"\x02\xc3\x89", 3), (b"\x02\xe3\xa9", 3)):
        assert world.exchange(packet(name + b"\x01Z\0" + struct.pack("!HH", 1, 1)))[3] == rcode


def test_flags_of_a_reply(world) -> None:
    # RD is repeated; AA is ours; TC, RA, Z, AD and CD are cleared.
    assert world.exchange(packet(flags=0x07F0))[2:4] == b"\x85\x00"
    assert world.exchange(packet())[2:4] == b"\x84\x00"


class TestEdns:
    def test_no_opt_unless_asked(self, world) -> None:
        assert world.ask("www.z").edns == -1

    def test_opt_is_answered_with_our_size(self, world) -> None:
        reply = world.ask("www.z", use_edns=0, payload=4096)
        assert (reply.edns, reply.payload, reply.options) == (0, 1232, ())
        assert not reply.ednsflags & dns.flags.DO

    def test_do_is_repeated(self, world) -> None:
        assert world.ask("www.z", want_dnssec=True).ednsflags & dns.flags.DO

    def test_unknown_options_are_ignored(self, world) -> None:
        options = [dns.edns.GenericOption(65001, b"x" * 20), dns.edns.GenericOption(10, b"12345678")]
        reply = world.ask("www.z", use_edns=0, options=options)
        assert (reply.rcode(), reply.options) == (0, ())

    def test_refused_nxdomain_and_notimp_have_it_too(self, world) -> None:
        assert world.ask("elsewhere", use_edns=0).edns == 0
        assert world.ask("nope.z", use_edns=0).edns == 0
        not_supported = b"\0\x0f\0\2\0\x15"
        assert world.exchange(packet(QUESTION + opt(), 2 << 11, (1, 0, 0, 1))).endswith(opt(data=not_supported))

    @pytest.mark.parametrize("version", [1, 255])
    def test_other_version_is_badvers(self, world, version) -> None:
        message = packet(QUESTION + opt(ttl=version << 16, data=b"\0"), counts=(1, 0, 0, 1))
        reply = dns.message.from_wire(world.exchange(message))
        assert (reply.rcode(), reply.edns, reply.answer) == (dns.rcode.BADVERS, 0, [])
        assert world.counts.queries["udp", 1, 16] == 1

    @pytest.mark.parametrize(
        ("body", "counts"),
        [
            (opt() + opt(), (1, 0, 0, 2)),
            (opt(), (1, 1, 0, 0)),
            (opt(), (1, 0, 1, 0)),
            (opt(owner=b"\x01a\0"), (1, 0, 0, 1)),
            (opt(owner=b"\xc0\x0c"), (1, 0, 0, 1)),
            (opt(data=b"\0\x0a\0"), (1, 0, 0, 1)),
            (opt(data=b"\0\x0a\0\x09" + b"x" * 8), (1, 0, 0, 1)),
        ],
    )
    def test_malformed_opt_is_formerr(self, world, body, counts) -> None:
        reply = world.exchange(packet(QUESTION + body, counts=counts))
        assert reply[3] == 1
        assert reply[12:].startswith(QUESTION)

    def test_other_records_around_the_opt_do_not_matter(self, world) -> None:
        other = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + bytes(4)
        reply = world.exchange(packet(QUESTION + other * 3 + opt() + other, counts=(1, 1, 1, 3)))
        assert dns.message.from_wire(reply).edns == 0


class TestSize:
    @pytest.fixture
    def world(self, gateway):
        many = {"txt": [{"text": f"{number:03}" * 50} for number in range(10)]}
        mx = {"mx": [{"host": "mail.z."}]}
        mail = {"a": [{"ip": f"192.0.2.{number}"} for number in range(60)], "aaaa": [{"ip": "2001:db8::1"}]}
        ns = {"ns": [{"host": f"ns{number}.cut.z."} for number in range(20)]}
        glue = {f"ns{number}.cut": {"aaaa": [{"ip": f"2001:db8::{number}"}]} for number in range(20)}
        return gateway({"z.": {"many": many, "mx": mx, "mail": mail, "cut": ns, **glue}})

    @pytest.mark.parametrize(("payload", "limit"), [(None, 512), (0, 512), (600, 600), (1232, 1232), (65535, 1232)])
    def test_udp_is_capped_by_client_and_setting(self, world, payload, limit) -> None:
        options = {} if payload is None else {"use_edns": 0, "payload": payload}
        for name, kind in (("many.z", "TXT"), ("mail.z", "A"), ("mx.z", "MX"), ("cut.z", "A")):
            wire = world.exchange(dns.message.make_query(name, kind, **options).to_wire())
            assert len(wire) <= limit
            dns.message.from_wire(wire)

    def test_client_that_takes_less_than_512_bytes_takes_512(self, world) -> None:
        assert len(world.ask("mx.z", "MX", use_edns=0, payload=0).answer) == 1

    def test_no_byte_more_than_the_client_takes_and_none_wasted(self, gateway) -> None:
        for length in range(512, 556):
            # Header, question, pointer with the fixed part of a record, the lengths of two strings, and OPT.
            text = "x" * (length - 12 - 9 - 12 - 2 - 11)
            world = gateway({"z.": {"t": {"txt": [{"text": text}]}}})
            for payload, fits in ((length, True), (length - 1, length == 512)):
                query = dns.message.make_query("t.z", "TXT", use_edns=0, payload=payload)
                wire = world.exchange(query.to_wire())
                assert len(wire) == (length if fits else 32)

    def test_truncated_reply_says_so_and_tcp_has_it_all(self, world) -> None:
        reply = world.ask("many.z", "TXT", use_edns=0)
        assert reply.flags & dns.flags.TC
        assert (reply.answer, reply.authority, reply.additional, reply.edns) == ([], [], [], 0)
        reply = world.ask("many.z", "TXT", "tcp", use_edns=0)
        assert not reply.flags & dns.flags.TC
        assert len(reply.answer[0]) == 10

    def test_optional_additionals_go_before_anything_is_truncated(self, world) -> None:
        reply = world.ask("mx.z", "MX")
        assert not reply.flags & dns.flags.TC
        # The A records do not fit, the smaller AAAA does.
        assert world.lines(reply.additional) == ["mail.z. 300 IN AAAA 2001:db8::1"]
        assert len(world.ask("mx.z", "MX", "tcp").additional) == 2

    def test_referral_without_room_for_its_glue_is_truncated(self, world) -> None:
        """RFC 9471 §3.1."""
        assert world.ask("x.cut.z").flags & dns.flags.TC
        reply = world.ask("x.cut.z", transport="tcp")
        assert (len(reply.authority[0]), len(reply.additional)) == (20, 20)

    def test_more_than_64_kib_is_truncated_over_tcp_too(self, gateway) -> None:
        world = gateway({"z.": {"big": {"txt": [{"text": f"{number:05}" * 51} for number in range(300)]}}})
        assert world.ask("big.z", "TXT", "tcp").flags & dns.flags.TC

    def test_owner_beyond_the_reach_of_a_pointer_is_written_out(self, gateway) -> None:
        mx = [{"host": f"{number:04}{'x' * 50}.z."} for number in range(300)]
        last = f"0299{'x' * 50}"
        world = gateway({"z.": {"mx": {"mx": mx}, last: {"a": [{"ip": "192.0.2.1"}]}}})
        reply = world.ask("mx.z", "MX", "tcp")
        assert world.lines(reply.additional) == [f"{last}.z. 300 IN A 192.0.2.1"]


def test_queries_are_counted_by_transport_type_and_rcode(world) -> None:
    world.ask("www.z")
    world.ask("www.z")
    world.ask("nope.z", "AAAA", "tcp")
    world.ask("www.z", "TYPE65280")
    world.exchange(packet(b"", counts=(0, 0, 0, 0)))
    assert world.counts.queries == {("udp", 1, 0): 2, ("tcp", 28, 3): 1, ("udp", 0, 0): 1, ("udp", 0, 1): 1}
