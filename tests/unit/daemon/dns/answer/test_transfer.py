"""Zone transfers (D-10, RFC 5936, RFC 1995) and the signatures of who asks for them (RFC 8945)."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import replace

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.tsig
import dns.xfr
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.dns.answer import rate_limit
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.transfer import Allowed
from tfgateway.dns.server import configure
from tfgateway.dns.server.secrets import Secrets, TsigKey
from tfgateway.dns.wire.cookies import Cookies
from tfgateway.errors import ConfigError

from tests.unit.daemon.dns.conftest import CLIENT, NOW

KEYS = Secrets(
    tsig=(
        TsigKey(name="Secondary.example", secret=b"s" * 32),
        TsigKey(name="other.example.", secret=b"o" * 64, algorithm="hmac-sha512"),
    )
).keys
SECONDARY, OTHER = b"\x09secondary\x07example\0", b"\x05other\x07example\0"
HERE = ipaddress.ip_network("192.0.2.0/24")
OPEN = ServerOptions(transfers=[Allowed(HERE)])
SIGNED = ServerOptions(keys=KEYS, transfers=[Allowed(HERE, SECONDARY)])
ZONES = {
    "z.": {
        "@": {
            "mx": [{"host": "mail.z."}],
            "cname": [{"host": "www.z."}],
            "txt": [{"text": "a\\b"}, {"text": "x" * 300}],
        },
        "www": {"a": [{"ip": "203.0.113.5"}], "aaaa": [{"ip": "2001:db8::5"}]},
        "*": {"caa": [{"flag": 0, "tag": "issue", "value": "ca.example"}]},
        "cut": {"ns": [{"host": "ns.cut.z."}], "cname": [{"host": "www.z."}]},
        "ns.cut": {"a": [{"ip": "203.0.113.6"}]},
        "hidden.cut": {"txt": [{"text": "below a cut"}]},
        "alias": {"cname": [{"host": "www.z."}]},
        "_sip._tcp": {"srv": [{"priority": 1, "weight": 2, "port": 5060, "target": "www.z."}]},
        "empty": {},
    }
}


def sign(query: dns.message.Message, key: bytes = SECONDARY, **options) -> bytes:
    query.use_tsig(KEYS[key], **options)
    return bytes(query.to_wire())


def transfer(world, query: dns.message.Message, wire: bytes | None = None, client: bytes = CLIENT) -> list[bytes]:
    """All messages over TCP."""
    reply = world.reply(wire or query.to_wire(), "tcp", client)
    return [reply.message] if reply.rest is None else [reply.message, *feed(reply.rest)]


def feed(rest):
    while True:
        try:
            yield rest.send(NOW)
        except StopIteration:
            return


def load(origin: str, query: dns.message.Message, messages: list[bytes], **inbound) -> dns.zone.Zone:
    """The zone, as dnspython's secondary makes it; it checks order, ids, questions and signatures."""
    zone = inbound.pop("zone", None) or dns.zone.Zone(origin)
    context = None
    with dns.xfr.Inbound(zone, query.question[0].rdtype, **inbound) as sink:
        for number, wire in enumerate(messages, 1):
            message = dns.message.from_wire(
                wire,
                keyring=query.keyring,
                request_mac=query.mac,
                xfr=True,
                origin=zone.origin,
                tsig_ctx=context,
                multi=True,
                one_rr_per_rrset=query.question[0].rdtype == dns.rdatatype.IXFR,
            )
            assert bool(message.had_tsig) == bool(query.keyring)
            context = message.tsig_ctx
            assert sink.process_message(message) == (number == len(messages))
    return zone


@pytest.fixture(autouse=True)
def then(monkeypatch: pytest.MonkeyPatch) -> None:
    """dnspython signs and checks with the time of the tests' queries."""
    monkeypatch.setattr("dns.message.time", type("clock", (), {"time": staticmethod(lambda: NOW)}))


class TestContent:
    def test_whole_zone(self, gateway) -> None:
        query = dns.message.make_query("z", "AXFR")
        messages = transfer(gateway(ZONES, service=OPEN), query)
        assert len(messages) == 1
        loaded = load("z.", query, messages)
        lines = [
            f"{name.derelativize(loaded.origin)} {ttl} IN {rdata.rdtype.name} {rdata.to_text(loaded.origin, False)}"
            for name, ttl, rdata in loaded.iterate_rdatas()
        ]
        assert sorted(lines) == sorted(
            [
                "z. 300 IN SOA ns1.gateway.example. hostmaster.z. 1 86400 7200 3600000 300",
                "z. 300 IN NS ns1.gateway.example.",
                "z. 300 IN NS ns2.gateway.example.",
                "z. 300 IN MX 0 mail.z.",
                'z. 300 IN TXT "a\\\\b"',
                'z. 300 IN TXT "' + "x" * 255 + '" "' + "x" * 45 + '"',
                '*.z. 300 IN CAA 0 issue "ca.example"',
                "_sip._tcp.z. 300 IN SRV 1 2 5060 www.z.",
                "alias.z. 300 IN CNAME www.z.",
                "cut.z. 300 IN NS ns.cut.z.",
                'hidden.cut.z. 300 IN TXT "below a cut"',
                "ns.cut.z. 300 IN A 203.0.113.6",
                "www.z. 300 IN A 203.0.113.5",
                "www.z. 300 IN AAAA 2001:db8::5",
            ]
        )

    def test_first_and_last_record_are_the_soa(self, gateway) -> None:
        message = dns.message.from_wire(
            transfer(gateway(ZONES, service=OPEN), dns.message.make_query("Z", "AXFR"))[0], one_rr_per_rrset=True
        )
        assert [message.answer[at].rdtype for at in (0, -1)] == [dns.rdatatype.SOA] * 2
        assert sum(rrset.rdtype == dns.rdatatype.SOA for rrset in message.answer) == 2
        assert message.flags & dns.flags.AA
        assert len({rrset.to_text() for rrset in message.answer}) == len(message.answer) - 1

    def test_large_zone_is_cut_into_messages_of_bounded_size(self, gateway) -> None:
        fields = {f"n{number}": {"txt": [{"text": "x" * (number % 700)}]} for number in range(1, 1000)}
        fields["big"] = {"txt": [{"text": "y" * 62_000}]}
        world = gateway({"z.": fields}, service=SIGNED)
        query = dns.message.make_query("z", "AXFR", use_edns=0)
        wire = sign(query)
        messages = transfer(world, query, wire)
        assert 20 < len(messages) < 60
        sizes = sorted(map(len, messages))
        assert sizes[-2] <= 16 * 1024 + 200
        assert 62_000 < sizes[-1] <= 65_535
        zone = load("z.", query, messages)
        assert len(zone.nodes) == 1000
        assert [dns.message.from_wire(item, xfr=True, keyring=False).edns for item in messages[:2]] == [0, -1]

    def test_changes_meanwhile_do_not_show(self, gateway) -> None:
        fields = {f"n{number}": {"txt": [{"text": "x" * 400}]} for number in range(200)}
        world = gateway({"z.": fields}, service=OPEN)
        query = dns.message.make_query("z", "AXFR")
        reply = world.reply(query.to_wire(), "tcp")
        zone = world.table.get(b"\x01z\0")
        zone.apply([(b"\x04n100\x01z\0", None), (b"\x03new\x01z\0", dict(zone.copy())[b"\x02n1\x01z\0"])])
        zone.stamp(2)
        world.table.remove(b"\x01z\0")
        names = load("z.", query, [reply.message, *feed(reply.rest)]).nodes
        assert dns.name.from_text("n100", None) in names
        assert dns.name.from_text("new", None) not in names


class TestWhoMay:
    def refused(
        self, world, name: str = "z", kind: str = "AXFR", transport: str = "tcp", client: bytes = CLIENT
    ) -> bool:
        reply = world.reply(dns.message.make_query(name, kind).to_wire(), transport, client)
        assert reply.rest is None
        return dns.message.from_wire(reply.message).rcode() == dns.rcode.REFUSED

    def test_nobody_by_default(self, gateway) -> None:
        world = gateway(ZONES)
        for kind in ("AXFR", "IXFR"):
            for transport in ("udp", "tcp"):
                for name in ("z", "www.z", "elsewhere"):
                    assert self.refused(world, name, kind, transport)
        assert world.counts.transfers == {"refused": 12}

    def test_networks(self, gateway) -> None:
        world = gateway(ZONES, service=OPEN)
        assert self.refused(world, client=bytes([192, 0, 3, 1]))
        assert self.refused(world, client=ipaddress.ip_address("2001:db8::1").packed)
        assert len(transfer(world, dns.message.make_query("z", "AXFR"))) == 1

    def test_not_over_udp(self, gateway) -> None:
        """RFC 5936 §4.2."""
        assert self.refused(gateway(ZONES, service=OPEN), transport="udp")

    def test_not_below_the_apex_and_not_elsewhere(self, gateway) -> None:
        """RFC 5936 §2.2.1; the old server sent a zone to who asked for any name in it."""
        world = gateway(ZONES, service=OPEN)
        for name in ("www.z", "elsewhere", "."):
            assert world.ask(name, "AXFR", "tcp").rcode() == dns.rcode.NOTAUTH

    def test_key_that_is_asked_for(self, gateway) -> None:
        world = gateway(ZONES, service=SIGNED)
        assert self.refused(world)
        query = dns.message.make_query("z", "AXFR")
        assert dns.message.from_wire(transfer(world, query, sign(query, OTHER))[0], keyring=False).rcode() == 5
        query = dns.message.make_query("z", "AXFR")
        assert len(load("z.", query, transfer(world, query, sign(query))).nodes) == 8
        query = dns.message.make_query("z", "AXFR")
        assert self.refused(world, client=bytes([192, 0, 3, 1]))
        assert world.counts.tsig == {"valid": 2}

    def test_too_old_data(self, gateway) -> None:
        world = gateway(ZONES, service=OPEN)
        world.table.set_age(stale=True, expired=True)
        assert world.ask("z", "AXFR", "tcp").rcode() == dns.rcode.SERVFAIL

    def test_settings(self, tmp_path) -> None:
        from tfgateway.settings import DnsSettings, TransferSettings

        path = tmp_path / "secrets.toml"
        settings = DnsSettings(secrets=str(path), transfer=(TransferSettings(network="192.0.2.0/24", key="a.example"),))
        path.write_text('[[tsig]]\nname = "A.example."\nsecret = "c2VjcmV0"\n')
        service = configure.service(settings)
        assert service.transfers == [Allowed(HERE, b"\x01a\x07example\0")]
        assert service.keys[b"\x01a\x07example\0"].secret == b"secret"
        for content, told in (
            ("", "the key 'a.example' is not in the file dns.secrets"),
            ('[[tsig]]\nname = "a..b"\nsecret = "c2VjcmV0"', "name of a TSIG key: 'a..b': empty label"),
            ('[[tsig]]\nname = "a"\nsecret = ""', "the secret is empty"),
            ('[[tsig]]\nname = "a"\nalgorithm = "hmac-md5"\nsecret = "c2VjcmV0"', "the algorithm has to be one of"),
            ('[[tsig]]\nname = "a"\nsecret = "c2VjcmV0x"', "secrets.toml: Invalid base64 encoded string"),
            ('cookies = ["c2VjcmV0"]', "Expected `str` matching regex"),
            ("c2VjcmV0", "is not TOML"),
        ):
            path.write_text(content)
            with pytest.raises(ConfigError, match=told) as caught:
                configure.service(settings)
            assert "c2VjcmV0" not in str(caught.value)
        path.unlink()
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            configure.service(settings)


class TestIxfr:
    """RFC 1995; there is no history."""

    def ask(self, world, serial: int | None, transport: str) -> dns.message.Message:
        query = dns.message.make_query("z", "IXFR")
        if serial is not None:
            soa = f"ns. host. {serial} 1 1 1 1"
            query.authority.append(dns.rrset.from_text("z.", 0, "IN", "SOA", soa))
        return dns.message.from_wire(world.reply(query.to_wire(), transport).message, one_rr_per_rrset=True)

    @pytest.mark.parametrize(
        ("serial", "transport", "records"),
        [(1, "tcp", 1), (2, "tcp", 1), (0, "tcp", 15), (2**32 - 1, "tcp", 15), (0, "udp", 1), (1, "udp", 1)],
    )
    def test_soa_alone_or_the_whole_zone(self, gateway, serial, transport, records) -> None:
        world = gateway(ZONES, service=OPEN)
        reply = self.ask(world, serial, transport)
        assert (reply.rcode(), len(reply.answer)) == (0, records)
        assert reply.answer[0].rdtype == dns.rdatatype.SOA
        assert world.counts.transfers == {"current" if records == 1 else "full": 1}

    def test_without_a_serial_is_formerr(self, gateway) -> None:
        assert self.ask(gateway(ZONES, service=OPEN), None, "tcp").rcode() == dns.rcode.FORMERR


class TestSignatures:
    """RFC 8945 §5."""

    def exchange(self, world, wire: bytes, transport: str = "udp", now: int = NOW) -> tuple:
        """(rcode, error of the TSIG record or None, MAC size, proven)"""
        reply = world.reply(wire, transport, now=now)
        message = dns.message.from_wire(reply.message, keyring=False)
        tsig = message.tsig[0] if message.tsig else None
        return message.rcode(), tsig and int(tsig.error), tsig and len(tsig.mac), reply.proven

    @pytest.mark.parametrize("key", [SECONDARY, OTHER])
    @pytest.mark.parametrize("transport", ["udp", "tcp"])
    def test_ordinary_answer_is_signed_too(self, gateway, key, transport) -> None:
        world = gateway(ZONES, service=replace(SIGNED, cookies=Cookies([bytes(16)])))
        for name, code in (("www.z", 0), ("nope.www.z", 3), ("elsewhere", 5)):
            query = dns.message.make_query(name, "A", use_edns=0)
            wire = sign(query, key)
            reply = world.reply(wire, transport)
            assert reply.proven
            message = dns.message.from_wire(reply.message, keyring=query.keyring, request_mac=query.mac)
            assert (message.had_tsig, message.rcode(), message.edns) == (True, code, 0)

    def test_it_counts_towards_the_size(self, gateway) -> None:
        world = gateway({"z.": {"t": {"txt": [{"text": "x" * 400}]}}}, service=SIGNED)
        query = dns.message.make_query("t.z", "TXT")
        assert not world.ask("t.z", "TXT").flags & dns.flags.TC
        reply = world.exchange(sign(query))
        assert len(reply) < 512
        assert dns.message.from_wire(reply, keyring=query.keyring, request_mac=query.mac).flags & dns.flags.TC

    def test_unknown_key(self, gateway) -> None:
        key = dns.tsig.Key("who.example.", b"s" * 32)
        query = dns.message.make_query("www.z", "A")
        query.use_tsig(key)
        for service in (SIGNED, ServerOptions()):
            assert self.exchange(gateway(ZONES, service=service), query.to_wire()) == (9, 17, 0, False)

    def test_known_key_with_another_algorithm(self, gateway) -> None:
        query = dns.message.make_query("www.z", "A")
        query.use_tsig(dns.tsig.Key("secondary.example.", b"s" * 32, "hmac-sha512"))
        assert self.exchange(gateway(ZONES, service=SIGNED), query.to_wire()) == (9, 17, 0, False)

    def test_wrong_secret_and_changed_message(self, gateway) -> None:
        world = gateway(ZONES, service=SIGNED)
        query = dns.message.make_query("www.z", "A")
        query.use_tsig(dns.tsig.Key("secondary.example.", b"t" * 32))
        assert self.exchange(world, query.to_wire()) == (9, 16, 0, False)
        wire = bytearray(sign(dns.message.make_query("www.z", "A")))
        wire[13] ^= 1
        assert self.exchange(world, bytes(wire)) == (9, 16, 0, False)
        assert world.counts.tsig == {"badsig": 2}

    @pytest.mark.parametrize(("skew", "error"), [(300, 0), (301, 18), (-300, 0), (-301, 18)])
    def test_clocks_that_differ(self, gateway, skew, error) -> None:
        world = gateway(ZONES, service=SIGNED)
        query = dns.message.make_query("www.z", "A")
        wire = sign(query)
        assert self.exchange(world, wire, now=NOW + skew) == (9 if error else 0, error, 32, not error)
        if error:  # signed, with our time (§5.2.3)
            message = dns.message.from_wire(world.reply(wire, now=NOW + skew).message, keyring=False)
            assert message.tsig[0].other == (NOW + skew).to_bytes(6, "big")
            with pytest.raises(dns.tsig.PeerBadTime):
                dns.message.from_wire(world.reply(wire, now=NOW + skew).message, query.keyring, query.mac)

    @pytest.mark.parametrize(("skew", "error"), [(300, 0), (301, 18)])
    def test_a_sender_who_allows_for_more(self, gateway, skew, error) -> None:
        """How long a signature is good, and has to be remembered, is not for its sender to say."""
        wire = sign(dns.message.make_query("www.z", "A"), fudge=65535)
        assert self.exchange(gateway(ZONES, service=SIGNED), wire, now=NOW + skew)[1] == error

    def test_forwarded_query_has_another_id(self, gateway) -> None:
        query = dns.message.make_query("www.z", "A")
        wire = b"\xaa\xaa" + sign(query)[2:]
        assert self.exchange(gateway(ZONES, service=SIGNED), wire)[0] == 0

    def test_misplaced_or_damaged_record_is_formerr(self, gateway) -> None:
        world = gateway(ZONES, service=SIGNED)
        wire = sign(dns.message.make_query("www.z", "A"))
        at = 12 + len(b"\x03www\x01z\0") + 4
        record = wire[at:]
        opt = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
        for counts, rest in (
            ((0, 0, 2), record + record),
            ((0, 0, 2), record + opt),
            ((1, 0, 0), record),
            ((0, 1, 0), record),
            ((0, 0, 1), record.replace(b"\0\xfa\0\xff", b"\0\xfa\0\1")),
            ((0, 0, 1), record.replace(b"\0\xfa\0\xff\0\0", b"\0\xfa\0\xff\0\1")),
            ((0, 0, 1), b"\xc0\x0c" + record[19:]),
            ((0, 0, 1), record[:19] + struct.pack("!HHIH", 250, 255, 0, 3) + b"\1a\0"),
        ):
            message = wire[:6] + struct.pack("!HHH", *counts) + wire[12:at] + rest
            assert self.exchange(world, message) == (dns.rcode.FORMERR, None, None, False)

    def test_errors_count_as_errors(self, gateway) -> None:
        wire = bytearray(sign(dns.message.make_query("www.z", "A")))
        wire[13] ^= 1
        assert gateway(ZONES, service=SIGNED).reply(bytes(wire)).bucket == rate_limit.bucket(rate_limit.ERROR, b"")

    def test_error_amplifies_little(self, gateway) -> None:
        """What the record of the reply repeats is what the query had."""
        query = dns.message.make_query("www.z", "A")
        query.use_tsig(dns.tsig.Key("x" * 60 + ".example.", b"s" * 32))
        wire = query.to_wire()
        assert len(gateway(ZONES).exchange(wire)) <= len(wire)

    @given(st.data())
    def test_no_bit_of_a_signed_query_can_be_changed(self, gateway, data) -> None:
        wire = sign(dns.message.make_query("www.z", "A", id=1))
        world = gateway(ZONES, service=SIGNED)
        bit = data.draw(st.integers(16, 8 * len(wire) - 1))  # the id is not signed
        changed = (int.from_bytes(wire, "big") ^ 1 << 8 * len(wire) - 1 - bit).to_bytes(len(wire), "big")
        reply = world.reply(changed)
        assert reply is None or not reply.proven or changed[at_name(wire) :].lower() == wire[at_name(wire) :].lower()


def at_name(wire: bytes) -> int:
    """Where the key's name begins: its case is not signed."""
    return 12 + len(b"\x03www\x01z\0") + 4
