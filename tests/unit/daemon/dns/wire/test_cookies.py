"""DNS cookies: the vectors of RFC 9018 Appendix A, and what RFC 7873 makes of a query with or without one."""

from __future__ import annotations

import ipaddress
import itertools

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.wire.cookies import Cookies, is_wellformed

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
OTHER = bytes.fromhex("445536bcd2513298075a5d379663c962")
CLIENT = bytes.fromhex("2464c4abcf10c957")
ADDRESS = ipaddress.ip_address("198.51.100.100").packed
THEN = 1_559_731_985
FRESH = bytes.fromhex("2464c4abcf10c957010000005cf79f111f8130c3eee29480")


class TestVectors:
    """RFC 9018 Appendix A."""

    def test_learning_a_new_server_cookie(self) -> None:
        assert Cookies([SECRET]).check(CLIENT, ADDRESS, THEN) == ("client", FRESH)

    def test_the_same_client_learning_a_renewed_cookie(self) -> None:
        renewed = bytes.fromhex("2464c4abcf10c957010000005cf7a871d4a564a1442aca77")
        assert Cookies([SECRET]).check(FRESH, ADDRESS, 1_559_734_385) == ("valid", renewed)

    def test_another_client_learning_a_renewed_cookie(self) -> None:
        """Reserved bytes that are not zero count; two hours old, it is good for no more than to be renewed (§4.3)."""
        address = ipaddress.ip_address("203.0.113.203").packed
        sent = bytes.fromhex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")
        renewed = bytes.fromhex("fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e")
        assert Cookies([SECRET]).check(sent, address, 1_559_727_985) == ("valid", sent)
        assert Cookies([SECRET]).check(sent, address, 1_559_734_700) == ("bad", renewed)

    def test_ipv6_and_a_renewed_secret(self) -> None:
        address = ipaddress.ip_address("2001:db8:220:1:59de:d0f4:8769:82b8").packed
        old = bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715")
        sent = bytes.fromhex("22681ab97d52c298010000005cf7c57926556bd0934c72f8")
        renewed = bytes.fromhex("22681ab97d52c298010000005cf7c609a6bb79d16625507a")
        assert Cookies([OTHER, old]).check(sent, address, 1_559_741_961) == ("valid", renewed)
        assert Cookies([OTHER]).check(sent, address, 1_559_741_961) == ("bad", renewed)


@pytest.mark.parametrize(
    ("age", "outcome", "same"),
    [
        (0, "valid", True),
        (1799, "valid", True),
        (1800, "valid", False),
        (3600, "valid", False),
        (3601, "bad", False),
        (-300, "valid", True),
        (-301, "bad", False),
    ],
)
def test_age_of_a_cookie(age: int, outcome: str, same: bool) -> None:
    """RFC 9018 §4.3."""
    checked = Cookies([SECRET]).check(FRESH, ADDRESS, THEN + age)
    assert (checked.outcome, checked.reply == FRESH) == (outcome, same)


def test_time_goes_on_after_2106() -> None:
    cookies = Cookies([SECRET])
    made = cookies.check(CLIENT, ADDRESS, 2**32 - 10).reply
    assert cookies.check(made, ADDRESS, 2**32 + 10) == ("valid", made)


@given(st.binary(min_size=8, max_size=40).filter(is_wellformed), st.integers(0, 191))
def test_no_cookie_but_ours_for_this_address_is_valid(option: bytes, bit: int) -> None:
    cookies = Cookies([SECRET, OTHER])
    assert cookies.check(option, ADDRESS, THEN).outcome == ("client" if len(option) == 8 else "bad")
    flipped = (int.from_bytes(FRESH, "big") ^ 1 << bit).to_bytes(24, "big")
    assert cookies.check(flipped, ADDRESS, THEN).outcome == "bad"
    assert cookies.check(FRESH, ADDRESS[:3] + b"\x65", THEN).outcome == "bad"


def test_rollover_of_the_secret_on_a_fleet() -> None:
    """RFC 9018 §5: whichever stage two servers are in, cookies of the one are valid at the other."""
    stages = [[SECRET], [SECRET, OTHER], [OTHER, SECRET], [OTHER]]
    for one, next_one in itertools.pairwise(stages):
        for here, there in ((one, next_one), (next_one, one)):
            made = Cookies(here).check(CLIENT, ADDRESS, THEN).reply
            assert Cookies(there).check(made, ADDRESS, THEN).outcome == "valid"


class TestReplies:
    @pytest.fixture
    def world(self, gateway):
        fields = {"www": {"a": [{"ip": "203.0.113.5"}]}, "big": {"txt": [{"text": "x" * 470}]}}
        return gateway({"z.": fields}, service=ServerOptions(cookies=Cookies([SECRET])))

    @staticmethod
    def ask(world, option: bytes | None, transport: str = "udp", name: str = "www.z", **options) -> tuple:
        """(rcode, flags, option of the reply, records, proven)"""
        sent = [] if option is None else [dns.edns.GenericOption(10, option)]
        query = dns.message.make_query(name, "TXT" if name == "big.z" else "A", use_edns=0, options=sent, **options)
        reply = world.reply(query.to_wire(), transport, client=ADDRESS, now=THEN)
        message = dns.message.from_wire(reply.message)
        got = [item.to_wire() for item in message.options if item.otype == 10]
        assert len(got) <= 1
        return message.rcode(), message.flags, (got or [None])[0], len(message.answer), reply.proven

    def test_client_learns_its_cookie_and_proves_its_address_by_it(self, world) -> None:
        for transport in ("udp", "tcp"):
            assert self.ask(world, CLIENT, transport) == (
                0,
                dns.flags.QR | dns.flags.AA | dns.flags.RD,
                FRESH,
                1,
                False,
            )
            assert self.ask(world, FRESH, transport)[2:] == (FRESH, 1, True)
        assert world.counts.cookies == {"client": 2, "valid": 2}

    def test_bad_cookie_is_answered_with_a_good_one(self, world) -> None:
        for bad in (CLIENT + b"x" * 16, FRESH[:-1], FRESH + b"x" * 16, CLIENT + b"\2" + FRESH[9:]):
            assert self.ask(world, bad)[2:] == (FRESH, 1, False)
        assert world.counts.cookies == {"bad": 4}

    @pytest.mark.parametrize("length", [0, 7, 9, 15, 41, 200])
    def test_malformed_cookie_is_formerr(self, world, length: int) -> None:
        """RFC 7873 §5.2.2."""
        assert self.ask(world, b"x" * length)[:4:2] == (dns.rcode.FORMERR, None)
        assert world.counts.cookies == {"malformed": 1}

    def test_no_cookie_for_who_sends_none(self, world) -> None:
        assert self.ask(world, None)[2:] == (None, 1, False)
        assert not world.counts.cookies

    def test_first_of_two_counts(self, world) -> None:
        options = [dns.edns.GenericOption(10, FRESH), dns.edns.GenericOption(10, b"x")]
        query = dns.message.make_query("www.z", "A", use_edns=0, options=options)
        assert world.reply(query.to_wire(), client=ADDRESS, now=THEN).proven

    def test_errors_carry_it_too(self, world) -> None:
        assert self.ask(world, CLIENT, name="elsewhere")[:3:2] == (dns.rcode.REFUSED, FRESH)

    def test_it_counts_towards_the_size(self, world) -> None:
        assert not self.ask(world, None, name="big.z", payload=532)[1] & dns.flags.TC
        code, flags, cookie, records, _ = self.ask(world, CLIENT, name="big.z", payload=532)
        assert (code, flags & dns.flags.TC, cookie, records) == (0, dns.flags.TC, FRESH, 0)

    def test_query_for_nothing_but_a_cookie(self, world) -> None:
        """RFC 7873 §5.4."""
        header = b"\xbe\xef\0\0" + b"\0\0\0\0\0\0\0\1"
        for option, code in ((b"\0\x0a\0\x08" + CLIENT, 0), (b"", dns.rcode.FORMERR)):
            reply = world.reply(
                header + b"\0\0\x29\4\xd0\0\0\0\0\0" + bytes([len(option)]) + option, "udp", ADDRESS, THEN
            )
            message = dns.message.from_wire(reply.message)
            assert (message.rcode(), message.question) == (code, [])
            assert [item.to_wire() for item in message.options] == ([FRESH] if option else [])

    def test_they_can_be_off(self, gateway) -> None:
        world = gateway({"z.": {"www": {"a": [{"ip": "203.0.113.5"}]}}})
        assert self.ask(world, CLIENT)[2:] == (None, 1, False)
        assert self.ask(world, b"x")[0] == 0


class TestRequired:
    @pytest.fixture
    def world(self, gateway):
        service = ServerOptions(cookies=Cookies([SECRET]), cookies_required=True)
        return gateway({"z.": {"www": {"a": [{"ip": "203.0.113.5"}]}}}, service=service)

    def test_over_udp_a_valid_cookie_is_needed(self, world) -> None:
        ask = TestReplies.ask
        assert ask(world, FRESH)[:4:3] == (0, 1)
        for option in (CLIENT, FRESH[:-1]):
            code, flags, cookie, records, _ = ask(world, option)
            assert (code, flags & dns.flags.TC, cookie, records) == (dns.rcode.BADCOOKIE, 0, FRESH, 0)
        code, flags, cookie, records, _ = ask(world, None)
        assert (code, flags & (dns.flags.TC | dns.flags.AA), cookie, records) == (0, dns.flags.TC, None, 0)
        assert world.counts.queries["udp", 1, 23] == 2

    def test_tcp_proves_the_address(self, world) -> None:
        assert TestReplies.ask(world, None, "tcp")[3] == 1
        assert TestReplies.ask(world, CLIENT, "tcp")[3] == 1

    def test_malformed_query_is_told_so(self, world) -> None:
        assert world.exchange(b"\xbe\xef\0\0\0\1" + bytes(6))[3] == dns.rcode.FORMERR
