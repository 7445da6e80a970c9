"""The real process against floods, garbage and clients that stall."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections import Counter

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from .conftest import LIMIT, ask

ADDRESS = {"a": [{"ip": "203.0.113.5"}]}
QUERY = dns.message.make_query("www.gw1.example", "A", use_edns=0)
CHAIN = {"alias": {"cname": [{"host": "www.gw1.example."}]}, "cut": {"ns": [{"host": "ns.cut.gw1.example."}]}}
ZONES = {"gw1.example.": {"www": ADDRESS, "*.wild": ADDRESS, **CHAIN}}


def mutants(count: int) -> list[bytes]:
    """Random bytes, and queries that were damaged."""
    dice = random.Random(7)
    found = []
    for _ in range(count):
        if dice.random() < 0.2:
            found.append(dice.randbytes(dice.randint(0, 100)))
            continue
        name = dice.choice(["www.gw1.example", "alias.gw1.example", "x.cut.gw1.example", "a.wild.gw1.example", "other"])
        options = [dns.edns.GenericOption(dice.choice([3, 10, 11, 15]), dice.randbytes(dice.randint(0, 30)))]
        edns = dice.choice([None, 0])
        query = dns.message.make_query(
            name, dice.choice(["A", "MX", "ANY", "AXFR"]), use_edns=edns, options=options if edns == 0 else None
        )
        wire = bytearray(query.to_wire())
        for _ in range(dice.randint(0, 4)):
            at = dice.randrange(len(wire))
            match dice.randrange(4):
                case 0:
                    wire[at] = dice.randrange(256)
                case 1:
                    wire[at:at] = dice.randbytes(dice.randint(1, 4))
                case 2 if len(wire) > 12:
                    del wire[at:]
                    wire = wire or bytearray(1)
                case _:
                    wire[at:at] = wire[12:at]
        found.append(bytes(wire))
    return found


def test_garbage_costs_no_answer_and_leaves_no_error(gateway) -> None:
    running = gateway(ZONES)
    sent = mutants(10_000)
    replies = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", running.port))
        udp.settimeout(0.2)
        for number, message in enumerate(sent):
            udp.send(message)
            if number % 50 == 0:
                try:
                    while True:
                        reply = udp.recv(65535)
                        assert reply[2] & 0x80
                        replies[reply[3] & 0xF] += 1
                        udp.settimeout(0.001)
                except TimeoutError:
                    pass
    assert {0, 1, 4, 5} <= replies.keys()
    for start in range(0, len(sent), 500):  # and framed over TCP, the last one cut off
        with socket.create_connection(("127.0.0.1", running.port), LIMIT) as stream:
            try:
                stream.sendall(b"".join(struct.pack("!H", len(item)) + item for item in sent[start : start + 500])[:-1])
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(65536):
                    pass
            except OSError:
                pass  # whoever sends no queries is cut off
    assert ask(running.port, "www.gw1.example").answer
    assert ask(running.port, "www.gw1.example", tcp=True).answer
    assert '"level": "error"' not in running.process.log
    assert "Traceback" not in running.process.log


def test_replies_are_never_answered(gateway) -> None:
    running = gateway(ZONES)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", running.port))
        udp.settimeout(LIMIT)
        for message in mutants(2000):
            if len(message) > 2:
                udp.send(message[:2] + bytes([message[2] | 0x80]) + message[3:])
        udp.send(QUERY.to_wire())
        assert dns.message.from_wire(udp.recv(65535)).id == QUERY.id
        udp.settimeout(0.2)
        with pytest.raises(TimeoutError):
            udp.recv(65535)
    assert running.metrics()['tfgateway_dns_drops_total{reason="response",transport="udp"}'] > 1500


class TestRateLimit:
    """D-12."""

    @staticmethod
    def flood(port: int, source: str, count: int, wire: bytes) -> Counter:
        """How many of the queries get a whole reply, a truncated one, none."""
        seen = Counter()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((source, 0))
            udp.connect(("127.0.0.1", port))
            for number in range(count):
                udp.send(wire)
                last = number == count - 1
                while sum(seen.values()) < count:
                    udp.settimeout(0.3 if last else 0.0005)
                    try:
                        reply = udp.recv(65535)
                    except (TimeoutError, BlockingIOError):
                        break
                    seen["truncated" if reply[2] & 2 else "whole"] += 1
        seen["none"] = count - sum(seen.values())
        return seen

    def test_flood_from_one_network(self, gateway) -> None:
        running = gateway(ZONES, dns="[dns.rate_limit]\nexempt = []\nresponses = 20\nnxdomains = 20\nerrors = 20")
        for name in ("www.gw1.example", "nope.gw1.example", "elsewhere"):
            wire = dns.message.make_query(name, "A", use_edns=0).to_wire()
            seen = self.flood(running.port, "127.0.77.1", 400, wire)
            if name == "elsewhere":
                # An error is as small as a truncated reply: half of what is too many goes out as it is.
                assert seen["truncated"] == 0
                assert 100 < seen["none"] < 200
                continue
            # A second's credit, and what a slow machine's clock adds; half of the rest truncated.
            assert 20 <= seen["whole"] < 150
            assert abs(seen["truncated"] - seen["none"]) <= 2
        # The neighbour of the flood suffers with it, but over TCP, with a cookie, or in another network it is answered.
        wire = QUERY.to_wire()
        self.flood(running.port, "127.0.77.1", 100, wire)  # now: a second later, some few are answered again
        assert self.flood(running.port, "127.0.77.9", 10, wire)["whole"] == 0
        assert self.flood(running.port, "127.0.78.1", 10, wire)["whole"] == 10
        assert ask(running.port, "www.gw1.example", tcp=True, source="127.0.77.1").answer
        option = dns.edns.GenericOption(10, b"12345678")
        reply = ask(running.port, "www.gw1.example", source="127.0.77.9", use_edns=0, options=[option], tcp=True)
        (cookie,) = reply.options
        proven = dns.message.make_query("www.gw1.example", "A", use_edns=0, options=[cookie]).to_wire()
        assert self.flood(running.port, "127.0.77.9", 100, proven)["whole"] == 100
        metrics = running.metrics()
        for kind in ("responses", "nxdomains", "errors"):
            assert metrics[f'tfgateway_dns_rate_limited_total{{kind="{kind}",outcome="slipped"}}'] > 10
            assert metrics[f'tfgateway_dns_rate_limited_total{{kind="{kind}",outcome="dropped"}}'] > 10
        assert metrics['tfgateway_dns_cookies_total{outcome="valid"}'] == 100

    def test_log_only(self, gateway) -> None:
        running = gateway(ZONES, dns='[dns.rate_limit]\nexempt = []\nresponses = 20\nmode = "log"')
        assert self.flood(running.port, "127.0.77.1", 300, QUERY.to_wire())["whole"] == 300
        assert running.metrics()['tfgateway_dns_rate_limited_total{kind="responses",outcome="logged"}'] > 100


def test_stalled_transfers_hold_up_nobody(gateway) -> None:
    fields = {f"n{number}": {"txt": [{"text": "x" * 1000}]} for number in range(10_000)}
    running = gateway({**ZONES, "big.example.": fields}, dns='tcp_idle = 3\n[[dns.transfer]]\nnetwork = "127.0.0.0/8"')
    query = dns.message.make_query("big.example", "AXFR").to_wire()
    stalled = []
    for _ in range(5):
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.settimeout(LIMIT)
        stream.connect(("127.0.0.1", running.port))
        stream.sendall(struct.pack("!H", len(query)) + query)
        stalled.append(stream)
    for _ in range(20):
        assert ask(running.port, "www.gw1.example").answer
        assert ask(running.port, "www.gw1.example", tcp=True).answer
    running.process.wait_for(lambda: running.metrics()["tfgateway_dns_tcp_connections"] == 0, "the stalled ones' end")
    for stream in stalled:
        stream.close()
    assert '"level": "error"' not in running.process.log


def test_names_that_others_look_for_in_a_delegated_zone(gateway) -> None:
    """The explorer asks for ``__owner__``, a certificate authority for ``_acme-challenge``."""
    owner, token = '{"identity":"3NAkUYqm5iPRmNAnmLfjwdreqDssvsebj4uPUt9BxFPm","owner":"7"}', "gfj9Xq-Rg85nM"
    running = gateway(
        {"alice.example.": {"__owner__": {"txt": [{"text": owner}]}, "_acme-challenge": {"txt": [{"text": token}]}}}
    )
    for name, text in (("__owner__", owner), ("_acme-challenge", token), ("_ACME-Challenge", token)):
        reply = ask(running.port, f"{name}.alice.example", "TXT")
        assert [b"".join(item.strings).decode() for item in reply.answer[0]] == [text]
    assert ask(running.port, "alice.example", "CAA").rcode() == dns.rcode.NOERROR  # asked before a certificate is made


def test_idle_connections_end_sooner_when_many_are_open(gateway) -> None:
    """RFC 7766 §6.2.3: with 40 s for each, they would outlast the test's patience."""
    running = gateway(ZONES, dns="tcp_idle = 40\ntcp_connections = 4")
    query = struct.pack("!H", len(QUERY.to_wire())) + QUERY.to_wire()
    with socket.create_connection(("127.0.0.1", running.port), LIMIT) as first:
        first.sendall(query)
        assert first.recv(65536)
        late = [socket.create_connection(("127.0.0.1", running.port), LIMIT) for _ in range(3)]
        assert late[-1].recv(1) == b""
        first.sendall(query)  # it began to wait when there was room
        assert first.recv(65536)
        for stream in late:
            stream.close()


def test_one_network_that_takes_all_connections_keeps_nobody_else_out(gateway) -> None:
    """Sixty sources of one /24 with connections of their own that go on asking; another client asks all the time."""
    running = gateway(ZONES, dns="tcp_idle = 600\ntcp_connections = 60")
    query = struct.pack("!H", len(QUERY.to_wire())) + QUERY.to_wire()
    where = ("127.0.0.1", running.port)
    held: list[socket.socket] = []
    answered = 0
    try:
        for number in range(180):
            held.append(socket.create_connection(where, LIMIT, (f"127.0.0.{number % 60 + 2}", 0)))
            with contextlib.suppress(OSError):  # it may have given way at once
                held[-1].sendall(query)
            if number < 120:
                continue
            with socket.create_connection(where, LIMIT, ("127.0.9.9", 0)) as other:
                other.sendall(query)
                answered += other.recv(65536) != b""
    finally:
        for one in held:
            one.close()
    assert answered == 60
    assert running.metrics()['tfgateway_dns_drops_total{reason="gave_way",transport="tcp"}'] >= 60
