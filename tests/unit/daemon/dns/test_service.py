"""What a server tells about itself and its errors: NSID, CHAOS, Extended DNS Errors, keepalive."""

from __future__ import annotations

import dns.edns
import dns.message
import dns.rcode
import pytest
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.server import configure
from tfgateway.settings import DnsSettings

ZONES = {"z.": {"www": {"a": [{"ip": "203.0.113.5"}]}}}


def options(reply: dns.message.Message) -> dict[int, bytes]:
    return {int(item.otype): item.to_wire() for item in reply.options}


class TestNsid:
    """RFC 5001."""

    ASKED = dns.edns.GenericOption(3, b"")

    def test_told_to_who_asks(self, gateway) -> None:
        world = gateway(ZONES, service=ServerOptions(nsid=b"gw-01"))
        assert options(world.ask("www.z", use_edns=0, options=[self.ASKED])) == {3: b"gw-01"}
        assert options(world.ask("nope.z", "A", "tcp", use_edns=0, options=[self.ASKED])) == {3: b"gw-01"}
        assert options(world.ask("www.z", use_edns=0)) == {}

    def test_off_by_default(self, gateway) -> None:
        assert options(gateway(ZONES).ask("www.z", use_edns=0, options=[self.ASKED])) == {}


class TestChaos:
    """RFC 4892."""

    @pytest.fixture
    def world(self, gateway):
        settings = DnsSettings(chaos_id="gw-01", chaos_version="v1")
        return gateway(ZONES, service=configure.service(settings))

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("id.server", "gw-01"),
            ("HOSTNAME.bind", "gw-01"),
            ("version.server", "v1"),
            ("version.bind", "v1"),
        ],
    )
    @pytest.mark.parametrize("kind", ["TXT", "ANY"])
    def test_answers(self, world, name, text, kind) -> None:
        reply = world.ask(name, kind, rdclass="CH")
        assert [line.lower() for line in world.lines(reply.answer)] == [f'{name.lower()}. 0 ch txt "{text}"']

    @pytest.mark.parametrize(
        ("name", "kind"), [("id.server", "A"), ("authors.bind", "TXT"), ("www.z", "A"), ("z", "TXT")]
    )
    def test_all_else_is_refused(self, world, name, kind) -> None:
        assert world.ask(name, kind, rdclass="CH").rcode() == dns.rcode.REFUSED

    def test_names_mean_nothing_in_class_in(self, world) -> None:
        assert world.ask("id.server", "TXT").rcode() == dns.rcode.REFUSED

    def test_off_by_default(self, gateway) -> None:
        world = gateway(ZONES, service=configure.service(DnsSettings()))
        for name in ("id.server", "hostname.bind", "version.server", "version.bind"):
            assert world.ask(name, "TXT", rdclass="CH").rcode() == dns.rcode.REFUSED


class TestExtendedErrors:
    """RFC 8914."""

    @pytest.mark.parametrize(
        ("name", "kind", "rcode", "code"),
        [("elsewhere", "A", "REFUSED", 20), ("z", "AXFR", "REFUSED", 18), ("www.z", "A", "NOERROR", None)],
    )
    def test_codes(self, gateway, name, kind, rcode, code) -> None:
        reply = gateway(ZONES).ask(name, kind, use_edns=0)
        assert dns.rcode.to_text(reply.rcode()) == rcode
        assert options(reply) == ({} if code is None else {15: code.to_bytes(2, "big")})

    def test_not_without_edns(self, gateway) -> None:
        assert gateway(ZONES).ask("elsewhere").edns == -1

    def test_old_data_says_so_and_too_old_data_is_not_served(self, gateway) -> None:
        world = gateway(ZONES)
        told = []
        world.table.watch(lambda *change: told.append(change))
        world.table.set_age(stale=True, expired=False)
        for name in ("www.z", "nope.z"):
            assert options(world.ask(name, use_edns=0)) == {15: b"\0\3"}
        assert world.ask("www.z").answer
        assert options(world.ask("elsewhere", use_edns=0)) == {15: b"\0\x14"}
        world.table.set_age(stale=True, expired=True)
        world.table.set_age(stale=True, expired=True)
        assert told == [(b"\x01z\0", None)] * 2
        reply = world.ask("www.z", use_edns=0)
        assert (reply.rcode(), options(reply)) == (dns.rcode.SERVFAIL, {15: b"\0\x0e"})


class TestKeepalive:
    """RFC 7828."""

    ASKED = dns.edns.GenericOption(11, b"")

    def test_over_tcp_only(self, gateway) -> None:
        world = gateway(ZONES, service=ServerOptions(tcp_idle=12.5))
        assert options(world.ask("www.z", transport="tcp", use_edns=0, options=[self.ASKED])) == {11: b"\0\x7d"}
        assert options(world.ask("www.z", transport="tcp", use_edns=0)) == {}
        assert options(world.ask("www.z", transport="udp", use_edns=0, options=[self.ASKED])) == {}
