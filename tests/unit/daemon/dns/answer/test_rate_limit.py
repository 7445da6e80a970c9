"""Response rate limiting (D-12): credits and debts, what counts together, what a client is told."""

from __future__ import annotations

import asyncio
import ipaddress

import dns.flags
import dns.message
import dns.rcode
import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.answer import rate_limit
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.rate_limit import DROP, SEND, SLIP, RateLimiter, RateLimits
from tfgateway.dns.answer.respond import truncated
from tfgateway.dns.server import rate_limit_log
from tfgateway.dns.wire.cookies import Cookies
from tfgateway.telemetry.logs import logger

RATES = {rate_limit.POSITIVE: 10, rate_limit.NXDOMAIN: 5}
WWW = rate_limit.bucket(rate_limit.POSITIVE, b"\x03www\x01z\0")
FTP = rate_limit.bucket(rate_limit.POSITIVE, b"\x03ftp\x01z\0")
SECOND = 1_000_000


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


HERE = ip("192.0.2.1")


def flood(
    limiter: RateLimiter, count: int, start: int = 0, step: int = 0, client: bytes = HERE, about: int = WWW
) -> list:
    return [limiter.check(client, about, start + number * step) for number in range(count)]


def test_one_second_of_credit_then_dropped_and_slipped_in_turn() -> None:
    limiter = RateLimiter(RateLimits(RATES))
    assert flood(limiter, 14) == [SEND] * 10 + [DROP, SLIP, DROP, SLIP]
    assert limiter.over == {(rate_limit.POSITIVE, "dropped"): 2, (rate_limit.POSITIVE, "slipped"): 2}


@pytest.mark.parametrize(("slip", "seen"), [(0, [DROP] * 4), (1, [SLIP] * 4), (3, [DROP, DROP, SLIP, DROP])])
def test_slip(slip: int, seen: list[int]) -> None:
    assert flood(RateLimiter(RateLimits(RATES, slip=slip)), 14)[10:] == seen


def test_who_stays_within_the_rate_is_never_limited() -> None:
    assert set(flood(RateLimiter(RateLimits(RATES)), 1000, step=SECOND // 10)) == {SEND}


def test_flood_that_goes_on_gets_nothing_and_is_forgiven_after_the_window() -> None:
    limiter = RateLimiter(RateLimits(RATES, window=3, slip=0))
    # Twice the rate: the credit lasts for a second and a bit, then the debt only grows.
    seen = flood(limiter, 2000, step=SECOND // 20)
    assert SEND not in seen[25:]
    end = 100 * SECOND
    assert limiter.check(HERE, WWW, end + 1 * SECOND) == DROP
    assert limiter.check(HERE, WWW, end + 5 * SECOND) == SEND


def test_networks_and_accounts_count_apart() -> None:
    limiter = RateLimiter(RateLimits(RATES, slip=0))
    assert flood(limiter, 11)[-1] == DROP
    for client, about, verdict in (
        (ip("192.0.2.255"), WWW, DROP),
        (ip("192.0.3.1"), WWW, SEND),
        (HERE, FTP, SEND),
        (HERE, rate_limit.bucket(rate_limit.NXDOMAIN, b"\x03www\x01z\0"), SEND),
        (HERE, rate_limit.bucket(rate_limit.REFERRAL, b"\x03www\x01z\0"), SEND),
    ):
        assert limiter.check(client, about, 0) == verdict
    six = RateLimiter(RateLimits(RATES, slip=0))
    assert flood(six, 11, client=ip("2001:db8:0:1::1"))[-1] == DROP
    assert six.check(ip("2001:db8:0:ff::"), WWW, 0) == DROP
    assert six.check(ip("2001:db8:0:100::"), WWW, 0) == SEND


def test_prefixes_can_be_set() -> None:
    limiter = RateLimiter(RateLimits(RATES, slip=0, ipv4_prefix=32, ipv6_prefix=64))
    flood(limiter, 10)
    assert limiter.check(ip("192.0.2.2"), WWW, 0) == SEND
    assert limiter.check(HERE, WWW, 0) == DROP


def test_kind_without_a_rate_is_not_limited() -> None:
    assert set(flood(RateLimiter(RateLimits(RATES)), 500, about=rate_limit.bucket(rate_limit.ERROR, b""))) == {SEND}


def test_limit_of_everything_to_one_network() -> None:
    limiter = RateLimiter(RateLimits({**RATES, rate_limit.ALL: 20}, slip=0))
    buckets = [rate_limit.bucket(rate_limit.POSITIVE, b"%d" % number) for number in range(30)]
    assert [limiter.check(HERE, about, 0) for about in buckets] == [SEND] * 20 + [DROP] * 10
    assert limiter.over == {(rate_limit.ALL, "dropped"): 10}
    assert limiter.check(ip("192.0.3.1"), buckets[-1], 0) == SEND


def test_exempt_networks_and_log_only() -> None:
    exempt = [ipaddress.ip_network(item) for item in ("192.0.2.0/28", "2001:db8::/32")]
    limiter = RateLimiter(RateLimits(RATES, slip=0, exempt=exempt))
    assert set(flood(limiter, 50)) == {SEND}
    assert set(flood(limiter, 50, client=ip("2001:db8::1"))) == {SEND}
    assert flood(limiter, 11, client=ip("192.0.2.16"))[-1] == DROP
    assert limiter.report() == {"192.0.2.0/24": 11}
    logging = RateLimiter(RateLimits(RATES, log_only=True))
    assert set(flood(logging, 50)) == {SEND}
    assert logging.over == {(rate_limit.POSITIVE, "logged"): 40}
    assert flood(logging, 12, client=ip("2001:db8::1")) == [SEND] * 12
    assert logging.report() == {"192.0.2.0/24": 40, "2001:db8::/56": 2}
    assert logging.report() == {}


def test_memory_is_bounded_and_a_flood_is_not_forgotten_for_it() -> None:
    """Made-up sources push out what is not used; the bucket that is flooded stays limited."""
    limiter = RateLimiter(RateLimits(RATES, slip=0, table_size=1000))
    flood(limiter, 10)
    for number in range(20_000):
        limiter.check(number.to_bytes(3, "big") + b"\1", WWW, 0)
        assert len(limiter) <= 1000
        if number % 400 == 0:
            assert limiter.check(HERE, WWW, 0) == DROP
    for number in range(20_000):
        limiter.check(ip(f"100.{number >> 8}.{number & 255}.1"), WWW, 0)
        limiter.check(ip("203.0.113.1"), WWW, 0)
    assert len(limiter.report()) <= 100


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3 * SECOND)), max_size=200))
def test_no_network_gets_more_than_credit_and_rate(steps: list[tuple[int, int]]) -> None:
    limiter = RateLimiter(RateLimits(RATES, slip=0))
    now, sent = 0, 0
    for burst, pause in steps:
        sent += flood(limiter, burst * 5, start=now).count(SEND)
        assert sent <= 10 + 10 * now / SECOND
        now += pause


class TestReplies:
    """What replies count as, and what takes their place."""

    @pytest.fixture
    def world(self, gateway):
        return gateway(
            {
                "z.": {
                    "www": {"a": [{"ip": "203.0.113.5"}]},
                    "*.wild": {"a": [{"ip": "203.0.113.6"}]},
                    "a.ent": {"a": [{"ip": "203.0.113.7"}]},
                    "cut": {"ns": [{"host": "ns.cut.z."}]},
                    "alias": {"cname": [{"host": "nope.z."}]},
                }
            },
            service=ServerOptions(cookies=Cookies([bytes(16)])),
        )

    def bucket(self, world, name: str, kind: str = "A", **options) -> int:
        return world.reply(dns.message.make_query(name, kind, **options).to_wire()).bucket

    @pytest.mark.parametrize(
        ("name", "kind", "expected"),
        [
            ("WWW.z", "A", (rate_limit.POSITIVE, b"\x03www\x01z\0")),
            ("www.z", "TXT", (rate_limit.NODATA, b"\x03www\x01z\0")),
            ("one.wild.z", "A", (rate_limit.POSITIVE, b"\x01z\0")),
            ("two.wild.z", "A", (rate_limit.POSITIVE, b"\x01z\0")),
            ("ent.z", "A", (rate_limit.NODATA, b"\x01z\0")),
            ("one.z", "A", (rate_limit.NXDOMAIN, b"\x01z\0")),
            ("two.www.z", "A", (rate_limit.NXDOMAIN, b"\x01z\0")),
            ("alias.z", "A", (rate_limit.NXDOMAIN, b"\x05alias\x01z\0")),
            ("one.cut.z", "A", (rate_limit.REFERRAL, b"\x03cut\x01z\0")),
            ("two.cut.z", "A", (rate_limit.REFERRAL, b"\x03cut\x01z\0")),
            ("z", "NS", (rate_limit.POSITIVE, b"\x01z\0")),
            ("elsewhere", "A", (rate_limit.ERROR, b"")),
            ("z", "AXFR", (rate_limit.ERROR, b"")),
        ],
    )
    def test_account(self, world, name, kind, expected) -> None:
        assert self.bucket(world, name, kind) == rate_limit.bucket(*expected)

    @pytest.mark.parametrize("name", ["www.z", "nope.z", "x.cut.z"])
    @pytest.mark.parametrize("edns", [None, 0])
    def test_truncated(self, world, name, edns) -> None:
        options = [dns.edns.GenericOption(10, b"12345678")] if edns == 0 else None
        query = dns.message.make_query(name, "A", use_edns=edns, options=options)
        reply = world.reply(query.to_wire())
        short = dns.message.from_wire(truncated(reply))
        assert query.is_response(short)
        assert (short.rcode(), short.edns) == (dns.rcode.NOERROR, -1 if edns is None else 0)
        assert short.flags == dns.flags.QR | dns.flags.TC | dns.flags.RD
        assert (short.answer, short.authority, short.additional) == ([], [], [])
        # With the cookie that spares it the detour over TCP next time.
        assert len(short.options) == (0 if edns is None else 1)

    def test_error_is_not_truncated(self, world) -> None:
        reply = world.reply(dns.message.make_query("elsewhere", "A").to_wire())
        assert truncated(reply) == reply.message
        assert truncated(world.reply(bytes(12))) == world.exchange(bytes(12))


async def test_one_line_tells_of_a_flood() -> None:
    limiter = RateLimiter(RateLimits(RATES))
    flood(limiter, 30)
    flood(limiter, 15, client=ip("2001:db8::1"))
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(rate_limit_log.run(limiter, logger("dns"), interval=0.01))
        await asyncio.sleep(0.1)
        task.cancel()
    assert [entry["most"] for entry in logs] == ["192.0.2.0/24 20, 2001:db8::/56 5"]
    assert (logs[0]["responses"], logs[0]["networks"]) == (25, 2)
