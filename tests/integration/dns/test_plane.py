"""The DNS plane as a process, fed by a real redis, asked by the tools that everybody uses."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.support import metrics
from tests.support.processes import CommandLine, Process, RedisServer

LIMIT = 30.0
"""Seconds after which something that does not happen is a failure."""
ADDRESS = {"a": [{"ip": "203.0.113.5", "ttl": 3600}], "aaaa": [{"ip": "2001:db8::5", "ttl": 3600}]}


@dataclass
class Plane:
    process: Process
    redis: RedisServer
    port: int
    metrics_port: int
    config: str

    def write(self, zone: str, **fields: object) -> None:
        with self.redis.client() as client:
            client.hset(zone, mapping={field: json.dumps(value) for field, value in fields.items()})

    def ask(self, name: str, kind: str = "A", *, tcp: bool = False, **options: object) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)
        ask = dns.query.tcp if tcp else dns.query.udp
        return ask(query, "127.0.0.1", timeout=LIMIT, port=self.port)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        self.process.wait_for(condition, what)

    def answers(self, name: str, kind: str = "A") -> list[str]:
        return [item.to_text() for rrset in self.ask(name, kind).answer for item in rrset]

    def tool(self, *arguments: str) -> list[str]:
        """Output lines of dig or kdig (`+short`)."""
        command = [*arguments, "-p", str(self.port), "+short", "+time=10"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
        return done.stdout.splitlines()

    def metrics(self) -> dict[str, float]:
        return metrics.scrape(self.metrics_port)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), LIMIT)


@pytest.fixture
def start(redis_server: RedisServer, tfgateway: CommandLine, free_port: Callable[[], int]) -> Callable[..., Plane]:
    def make(
        ready: bool = True, listen: str = '"127.0.0.1:{port}", "[::1]:{port}"', dns: str = "", workers: int = 1
    ) -> Plane:
        port, metrics_port = free_port(), free_port()
        config = f"""
            [redis]
            url = "{redis_server.url}"
            [gateway]
            name_servers = ["ns1.gateway.example", "ns2.gateway.example"]
            [dns]
            workers = {workers}
            listen = [{listen.format(port=port)}]
            metrics = "127.0.0.1:{metrics_port}"
            {dns}
        """
        return Plane(tfgateway("dns", config=config, ready=ready), redis_server, port, metrics_port, config)

    return make


@pytest.fixture
def plane(redis_server: RedisServer, start) -> Plane:
    with redis_server.client() as client:
        client.hset("gw1.example.", "www", json.dumps(ADDRESS))
    return start()


def frame(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


def read_frame(stream: socket.socket) -> dns.message.Message | None:
    head = stream.recv(2, socket.MSG_WAITALL)
    if len(head) < 2:
        return None
    (size,) = struct.unpack("!H", head)
    return dns.message.from_wire(stream.recv(size, socket.MSG_WAITALL))


@pytest.mark.parametrize("tool", ["dig", "kdig"])
@pytest.mark.parametrize("server", ["@127.0.0.1", "@::1"])
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_dig_and_kdig_over_udp_tcp_and_both_families(plane, tool, server, transport) -> None:
    assert plane.tool(tool, server, "www.gw1.example", "A", transport) == ["203.0.113.5"]
    assert plane.tool(tool, server, "WwW.gW1.example", "AAAA", transport) == ["2001:db8::5"]
    assert plane.tool(tool, server, "gw1.example", "NS", transport) == ["ns1.gateway.example.", "ns2.gateway.example."]


def test_write_is_served_at_once(plane) -> None:
    """No negative answer outlives the write."""
    assert plane.ask("new.gw1.example").rcode() == dns.rcode.NXDOMAIN
    plane.write("gw1.example.", new=ADDRESS)
    plane.wait_for(lambda: plane.answers("new.gw1.example") == ["203.0.113.5"], "the new name")
    plane.write("gw1.example.", new={"a": [{"ip": "203.0.113.6"}]})
    plane.wait_for(lambda: plane.answers("new.gw1.example") == ["203.0.113.6"], "the changed name")
    with plane.redis.client() as client:
        client.hdel("gw1.example.", "new")
    plane.wait_for(lambda: plane.ask("new.gw1.example").rcode() == dns.rcode.NXDOMAIN, "the name's end")
    plane.write("alice.example.", __owner__={"txt": [{"text": "x"}]})
    plane.wait_for(lambda: plane.answers("__owner__.alice.example", "TXT") == ['"x"'], "the new zone")
    with plane.redis.client() as client:
        client.delete("alice.example.")
    plane.wait_for(lambda: plane.ask("alice.example").rcode() == dns.rcode.REFUSED, "the zone's end")


def test_d5_redis_stopped_what_was_known_is_served(plane) -> None:
    plane.redis.stop()
    plane.wait_for(lambda: "redis is away" in plane.process.log, "the loss of redis")
    assert plane.answers("www.gw1.example") == ["203.0.113.5"]
    assert plane.ask("nope.gw1.example").rcode() == dns.rcode.NXDOMAIN
    age = plane.metrics()["tfgateway_dns_mirror_age_seconds"]
    plane.wait_for(lambda: plane.metrics()["tfgateway_dns_mirror_age_seconds"] > age, "an ageing mirror")

    plane.redis.start()
    plane.write("gw1.example.", back=ADDRESS)
    plane.wait_for(lambda: plane.answers("back.gw1.example"), "what was written after the return of redis")
    assert plane.answers("www.gw1.example") == ["203.0.113.5"]


@dataclass
class Seen:
    """What somebody who asks again and again for the same name hears, changes only."""

    port: int
    heard: list[str]
    done: threading.Event

    def ask(self) -> None:
        query = dns.message.make_query("www.gw1.example", "A")
        while not self.done.is_set():
            try:
                reply = dns.query.udp(query, "127.0.0.1", timeout=LIMIT, port=self.port)
                word = " ".join([dns.rcode.to_text(reply.rcode()), *(item.to_text() for item in reply.answer)])
            except Exception as error:
                word = repr(error)
            if self.heard[-1:] != [word]:
                self.heard.append(word)


def restarted(plane: Plane) -> None:
    plane.redis.kill()
    plane.wait_for(lambda: "redis is away" in plane.process.log, "the loss of redis")
    plane.redis.start()


def slow(plane: Plane) -> None:
    os.kill(plane.redis.pid, signal.SIGSTOP)
    time.sleep(1)
    os.kill(plane.redis.pid, signal.SIGCONT)


def lost_its_data(plane: Plane) -> None:
    plane.redis.kill()
    plane.redis.forget()
    plane.redis.start()
    plane.wait_for(lambda: plane.ask("www.gw1.example").rcode() == dns.rcode.REFUSED, "the zone's end")
    plane.write("gw1.example.", www=ADDRESS)


def emptied(plane: Plane) -> None:
    with plane.redis.client() as client:
        client.flushall()
    plane.wait_for(lambda: plane.ask("www.gw1.example").rcode() == dns.rcode.REFUSED, "the zone's end")
    plane.write("gw1.example.", www=ADDRESS)


@pytest.mark.parametrize(("fault", "gone"), [(restarted, False), (slow, False), (lost_its_data, True), (emptied, True)])
def test_whatever_redis_does_every_query_is_answered_with_what_it_said_last(plane, fault, gone) -> None:
    served = "NOERROR www.gw1.example. 300 IN A 203.0.113.5"
    seen = Seen(plane.port, [], threading.Event())
    asking = threading.Thread(target=seen.ask)
    asking.start()
    try:
        plane.wait_for(lambda: seen.heard, "an answer")
        fault(plane)
        plane.write("gw1.example.", new=ADDRESS)
        plane.wait_for(lambda: plane.answers("new.gw1.example"), "what was written afterwards")
        plane.wait_for(lambda: seen.heard[-1] == served, "the next answer")
    finally:
        seen.done.set()
        asking.join()
    assert seen.heard == ([served, "REFUSED", served] if gone else [served])


def test_latency_is_a_histogram_on_the_page(plane) -> None:
    for _ in range(3):
        plane.answers("www.gw1.example")
    counted = plane.metrics()
    buckets = [value for name, value in counted.items() if name.startswith("tfgateway_dns_latency_seconds_bucket{le=")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == counted['tfgateway_dns_latency_seconds_bucket{le="+Inf"}']
    assert buckets[-1] == counted["tfgateway_dns_latency_seconds_count"] == 3
    assert 0 < counted["tfgateway_dns_latency_seconds_sum"] < 3 * LIMIT


def test_d14_queries_do_not_reach_redis(plane) -> None:
    def commands() -> int:
        with plane.redis.client() as client:
            return sum(stat["calls"] for stat in client.info("commandstats").values())

    with plane.redis.client() as client:
        plane.wait_for(lambda: client.exists("tfgateway:serials"), "the saved serial")
    before = commands()
    for number in range(100):
        assert plane.ask(f"a.b.c.n{number}.gw1.example").rcode() == dns.rcode.NXDOMAIN
        assert plane.answers("www.gw1.example")
    # The mirror looks after its copy, a few commands a second; 200 queries would be as many commands at least.
    assert commands() - before < 100


def test_flushall_is_honoured(plane) -> None:
    with plane.redis.client() as client:
        client.flushall()
    plane.wait_for(lambda: plane.ask("www.gw1.example").rcode() == dns.rcode.REFUSED, "the end of all zones")
    assert plane.metrics()["tfgateway_dns_zones"] == 0
    plane.write("gw1.example.", www=ADDRESS)
    plane.wait_for(lambda: plane.answers("www.gw1.example") == ["203.0.113.5"], "the zone's return")


def test_not_ready_is_not_listening(redis_server: RedisServer, start) -> None:
    redis_server.stop()
    plane = start(ready=False)
    plane.wait_for(lambda: plane.process.status.endswith("waiting for redis"), "a status")
    plane.wait_for(lambda: plane.metrics().get("tfgateway_dns_mirror_age_seconds") == float("inf"), "its metrics")
    with pytest.raises(ConnectionRefusedError):
        plane.connect()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", plane.port))
        udp.send(bytes(12))
        with pytest.raises(ConnectionRefusedError):
            udp.recv(512)
    assert "READY=1" not in plane.process.notifications
    redis_server.start()
    plane.process.wait_ready()
    assert plane.ask("gw1.example").rcode() == dns.rcode.REFUSED


def test_a_node_boots_and_serves_without_redis(plane, start, tmp_path, monkeypatch) -> None:
    plane.process.stop()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    serving = start()
    file = tmp_path / "dns.snapshot"
    serving.wait_for(file.exists, "a snapshot")
    written = file.stat().st_ino
    os.utime(file, (0, 0))  # as if nothing had changed since: longer ago than what is served without redis
    serving.wait_for(lambda: time.time() - file.stat().st_mtime < LIMIT, "word that it is still right")
    assert file.stat().st_ino == written, "nothing changed: nothing is to be written"
    serial = serving.answers("gw1.example", "SOA")
    serving.process.stop()
    serving.redis.stop()
    booted = start()
    assert booted.answers("www.gw1.example") == ["203.0.113.5"]
    assert booted.ask("nope.gw1.example").rcode() == dns.rcode.NXDOMAIN
    assert "serving from disk" in booted.process.log
    assert booted.metrics()["tfgateway_dns_mirror_age_seconds"] < LIMIT
    booted.redis.start()
    booted.write("gw1.example.", www=ADDRESS, back=ADDRESS)
    booted.wait_for(lambda: booted.answers("back.gw1.example"), "what redis says")
    assert int(booted.answers("gw1.example", "SOA")[0].split()[2]) > int(serial[0].split()[2])


def test_what_was_known_is_served_for_a_while_only(redis_server: RedisServer, start) -> None:
    with redis_server.client() as client:
        client.hset("gw1.example.", "www", json.dumps(ADDRESS))
    plane = start(dns="serve_stale = 3")
    redis_server.stop()
    plane.wait_for(lambda: plane.ask("www.gw1.example", use_edns=0).extended_errors(), "a remark that it may be old")
    reply = plane.ask("www.gw1.example", use_edns=0)
    assert reply.rcode() == dns.rcode.NOERROR
    assert [option.code for option in reply.extended_errors()] == [dns.edns.EDECode.STALE_ANSWER]
    plane.wait_for(lambda: plane.ask("www.gw1.example").rcode() == dns.rcode.SERVFAIL, "the end of serve_stale")
    assert plane.ask("nope.gw1.example").rcode() == dns.rcode.SERVFAIL
    redis_server.start()
    plane.write("gw1.example.", www=ADDRESS)
    plane.wait_for(lambda: plane.answers("www.gw1.example") == ["203.0.113.5"], "answers again")


def test_d2_damaged_json_is_skipped_and_logged(plane) -> None:
    with plane.redis.client() as client:
        client.hset("gw1.example.", mapping={"bad": '{"a":[{"ip":"<nil>"},{"ip":"203.0.113.9"}]', "good": "{}"})
        client.hset("gw1.example.", "mixed", '{"a":[{"ip":"<nil>"},{"ip":"203.0.113.9"}]}')
        client.set("string.", "no hash")
    plane.wait_for(lambda: plane.answers("mixed.gw1.example") == ["203.0.113.9"], "the sound element")
    assert plane.answers("www.gw1.example") == ["203.0.113.5"]
    plane.process.wait_log("damaged element skipped")
    assert plane.metrics()["tfgateway_dns_damaged_elements_total"] >= 2
    assert plane.ask("string").rcode() == dns.rcode.REFUSED


def test_serial_is_the_same_after_a_restart_and_only_grows(plane, tfgateway: CommandLine) -> None:
    def serial() -> int:
        return plane.ask("gw1.example", "SOA").answer[0][0].serial

    first = serial()
    with plane.redis.client() as client:
        plane.wait_for(lambda: client.hexists("tfgateway:serials", "gw1.example."), "a saved serial")
    assert plane.process.stop() == 0
    plane.process = tfgateway("dns", config=plane.config)
    assert serial() == first
    plane.write("gw1.example.", new=ADDRESS)
    plane.wait_for(lambda: plane.answers("new.gw1.example"), "the new name")
    second = serial()
    assert second > first
    # While redis is away it goes on in memory, and is saved when redis is back.
    with plane.redis.client() as client:
        client.delete("tfgateway:serials")
    plane.redis.stop()
    plane.redis.start()
    plane.write("gw1.example.", newer=ADDRESS)
    plane.wait_for(lambda: plane.answers("newer.gw1.example"), "the newer name")
    third = serial()
    assert third > second
    with plane.redis.client() as client:
        plane.wait_for(
            lambda: (client.hget("tfgateway:serials", "gw1.example.") or b"").startswith(b"%d " % third), "the serial"
        )


def test_workers_agree_on_the_serial_whenever_they_loaded_what(plane, start, tmp_path, monkeypatch) -> None:
    def serials() -> set[int]:
        """Each question comes from another port, and goes to either worker."""
        return {tested.ask("gw1.example", "SOA").answer[0][0].serial for _ in range(40)}

    plane.process.stop()
    with plane.redis.client() as client:
        client.delete("tfgateway:serials")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    tested = start(workers=2)
    tested.wait_for(lambda: len(serials()) == 1, "one serial for the first data")
    tested.wait_for(lambda: "snapshot written" in tested.process.log, "a snapshot")
    known = serials()
    tested.process.stop()
    tested.redis.stop()
    tested = start(workers=2)
    assert tested.process.log.count("serving from disk") == 2
    assert serials() == known
    tested.redis.start()
    tested.wait_for(lambda: tested.process.log.count("in sync with redis") == 2, "word of redis")
    assert serials() == known

    late = tested.process.workers[0]
    os.kill(late, signal.SIGSTOP)
    tested.write("gw1.example.", new=ADDRESS)
    with tested.redis.client() as client:
        tested.wait_for(
            lambda: int(client.hget("tfgateway:serials", "gw1.example.").split()[0]) not in known, "a new serial"
        )
        issued = int(client.hget("tfgateway:serials", "gw1.example.").split()[0])
    tested.wait_for(lambda: int(time.time()) > issued, "another second")
    os.kill(late, signal.SIGCONT)
    tested.wait_for(lambda: len(serials()) == 1 and serials().isdisjoint(known), "one serial for the second data")
    with tested.redis.client() as client:
        assert serials() == {int(client.hget("tfgateway:serials", "gw1.example.").split()[0])}


def test_prefix_and_suffix_of_keys(redis_server: RedisServer, start) -> None:
    with redis_server.client() as client:
        client.hset("dns:gw1.example.:v1", "www", json.dumps(ADDRESS))
        client.hset("gw2.example.", "www", json.dumps(ADDRESS))
    plane = start(dns='key_prefix = "dns:"\nkey_suffix = ":v1"')
    assert plane.answers("www.gw1.example") == ["203.0.113.5"]
    assert plane.ask("www.gw2.example").rcode() == dns.rcode.REFUSED


def test_truncated_udp_is_asked_again_over_tcp_by_dig(plane) -> None:
    texts = [{"text": f"{number:03}" * 80} for number in range(30)]
    plane.write("gw1.example.", many={"txt": texts})
    plane.wait_for(lambda: plane.ask("many.gw1.example", "TXT", tcp=True).answer, "the records")
    assert plane.ask("many.gw1.example", "TXT", use_edns=0, payload=4096).flags & dns.flags.TC
    assert len(plane.tool("dig", "@127.0.0.1", "many.gw1.example", "TXT")) == 30
    counted = plane.metrics()
    assert counted['tfgateway_dns_queries_total{rcode="NOERROR",transport="tcp",type="TXT"}'] >= 2


def test_reply_comes_from_the_address_that_was_asked(redis_server: RedisServer, start) -> None:
    with redis_server.client() as client:
        client.hset("gw1.example.", "www", json.dumps(ADDRESS))
    plane = start(listen='"0.0.0.0:{port}", "[::]:{port}"')
    query = dns.message.make_query("www.gw1.example", "A").to_wire()
    for family, addresses in ((socket.AF_INET, ["127.0.0.1", "127.0.0.2", "127.8.8.8"]), (socket.AF_INET6, ["::1"])):
        for address in addresses:
            with socket.socket(family, socket.SOCK_DGRAM) as udp:
                udp.settimeout(LIMIT)
                udp.sendto(query, (address, plane.port))
                reply, peer = udp.recvfrom(512)
            assert peer[:2] == (address, plane.port)
            assert dns.message.from_wire(reply).answer


class TestTcp:
    """RFC 7766."""

    QUERY = dns.message.make_query("www.gw1.example", "A")

    def test_pipelined_queries_are_all_answered(self, plane) -> None:
        queries = [dns.message.make_query(f"n{number}.gw1.example", "A", id=number) for number in range(500)]
        with plane.connect() as stream:
            stream.sendall(b"".join(frame(query.to_wire()) for query in queries))
            replies = [read_frame(stream) for _ in queries]
        assert sorted(reply.id for reply in replies) == list(range(500))
        assert {reply.rcode() for reply in replies} == {dns.rcode.NXDOMAIN}

    def test_query_may_arrive_byte_by_byte(self, plane) -> None:
        with plane.connect() as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in frame(self.QUERY.to_wire()):
                stream.send(bytes([byte]))
            assert read_frame(stream).answer

    def test_replies_are_sent_although_the_client_has_sent_all_it_will(self, plane) -> None:
        with plane.connect() as stream:
            stream.sendall(frame(self.QUERY.to_wire()) * 3)
            stream.shutdown(socket.SHUT_WR)
            assert [read_frame(stream).id for _ in range(3)] == [self.QUERY.id] * 3
            assert read_frame(stream) is None

    def test_idle_connection_is_closed(self, start) -> None:
        plane = start(dns="tcp_idle = 0.2")
        with plane.connect() as silent, plane.connect() as slow:
            slow.sendall(frame(self.QUERY.to_wire())[:-1])
            assert read_frame(silent) is None
            assert read_frame(slow) is None
        plane.wait_for(lambda: plane.metrics()["tfgateway_dns_tcp_connections"] == 0, "all connections' end")

    def test_connections_are_limited_per_client_and_in_total(self, start) -> None:
        plane = start(dns="tcp_connections = 3\ntcp_connections_per_client = 2\ntcp_idle = 600")

        def works(stream: socket.socket) -> bool:
            try:
                stream.sendall(frame(self.QUERY.to_wire()))
                return read_frame(stream) is not None
            except ConnectionError:
                return False

        def connect(source: str) -> socket.socket:
            return socket.create_connection(("127.0.0.1", plane.port), LIMIT, (source, 0))

        first, second, third = connect("127.0.0.1"), connect("127.0.0.1"), connect("127.0.0.1")
        assert [works(stream) for stream in (first, second, third)] == [True, True, False]
        assert plane.metrics()['tfgateway_dns_drops_total{reason="connections",transport="tcp"}'] == 1
        # When all are in use, one of the network that has most gives way: the one that has been idle longest.
        other, late = connect("127.0.0.2"), connect("127.0.1.3")
        assert [works(stream) for stream in (other, late)] == [True, True]
        assert plane.metrics()['tfgateway_dns_drops_total{reason="gave_way",transport="tcp"}'] == 1
        assert [works(stream) for stream in (first, second, other, late)] == [False, True, True, True]
        for stream in (first, second, third, other, late):
            stream.close()

    @pytest.mark.parametrize("idle", [2, 600], ids=["by silence", "by its rate"])
    def test_slow_reader_holds_no_other_and_is_dropped(self, start, redis_server: RedisServer, idle: int) -> None:
        with redis_server.client() as client:
            texts = [{"text": f"{number:03}" * 80} for number in range(200)]
            client.hset("gw1.example.", mapping={"big": json.dumps({"txt": texts}), "www": json.dumps(ADDRESS)})
        plane = start(dns=f"tcp_idle = {idle}")
        big = frame(dns.message.make_query("big.gw1.example", "TXT").to_wire())
        with plane.connect() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(0.5)
            with pytest.raises(TimeoutError):  # the server stops reading what it cannot answer
                for _ in range(100_000):
                    slow.sendall(big * 100)
            assert plane.ask("www.gw1.example", tcp=True).answer
            assert plane.ask("www.gw1.example").answer
            plane.wait_for(lambda: plane.metrics()["tfgateway_dns_tcp_connections"] == 0, "the slow reader's end")

    @pytest.mark.parametrize("garbage", [b"\0\0", b"\0\x05hello", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 20000])
    def test_garbage_ends_the_connection_or_gets_formerr(self, plane, garbage) -> None:
        with plane.connect() as stream:
            stream.sendall(garbage)
            stream.shutdown(socket.SHUT_WR)
            reply = read_frame(stream)
            assert reply is None or reply.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.NOTAUTH)
        assert plane.ask("www.gw1.example", tcp=True).answer


def test_oversized_datagrams_are_malformed_and_short_ones_dropped_and_counted(plane) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(LIMIT)
        udp.connect(("127.0.0.1", plane.port))
        udp.send(dns.message.make_query("www.gw1.example", "A").to_wire() + bytes(5000))
        assert dns.message.from_wire(udp.recv(4096)).rcode() == dns.rcode.FORMERR
        udp.send(b"short")
        reply = bytearray(dns.message.make_query("www.gw1.example", "A").to_wire())
        reply[2] |= 0x80
        udp.send(reply)
    assert plane.answers("www.gw1.example")
    counted = plane.metrics()
    for reason in ("short", "response"):
        assert counted[f'tfgateway_dns_drops_total{{reason="{reason}",transport="udp"}}'] == 1
    assert counted["tfgateway_dns_zones"] == 1
    assert counted["tfgateway_dns_names"] == 2


def test_sigterm_ends_it_orderly(plane) -> None:
    with plane.connect() as stream:
        stream.sendall(frame(TestTcp.QUERY.to_wire()))
        assert read_frame(stream).answer
        assert plane.process.stop() == 0
        assert read_frame(stream) is None
    assert '"level": "error"' not in plane.process.log


def test_sigterm_while_it_waits_for_redis(redis_server: RedisServer, start) -> None:
    redis_server.stop()
    plane = start(ready=False)
    plane.wait_for(lambda: plane.process.status.endswith("waiting for redis"), "a status")
    assert plane.process.stop() == 0


@pytest.mark.parametrize(
    ("wrong", "code", "line"),
    [
        ("", 2, "gateway.name_servers: name at least one"),
        ('[gateway]\nname_servers = ["a..b"]', 2, "gateway.name_servers: 'a..b': empty label"),
    ],
)
def test_settings_that_cannot_work_are_one_clear_line(
    tfgateway: CommandLine, redis_server: RedisServer, free_port: Callable[[], int], wrong, code, line
) -> None:
    listen = f'[dns]\nlisten = ["127.0.0.1:{free_port()}"]\nmetrics = "127.0.0.1:{free_port()}"'
    done = tfgateway.run("dns", config=f'[redis]\nurl = "{redis_server.url}"\n{wrong}\n{listen}')
    assert done.returncode == code
    assert done.stderr.startswith(f"tfgateway: error: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("kind", "name"), [(socket.SOCK_DGRAM, "udp"), (socket.SOCK_STREAM, "tcp")])
def test_port_that_is_taken_is_one_clear_line(
    tfgateway: CommandLine, free_port: Callable[[], int], redis_server: RedisServer, kind, name
) -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", port))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        done = tfgateway.run(
            "dns",
            config=f"""
                [redis]
                url = "{redis_server.url}"
                [gateway]
                name_servers = ["ns1.gateway.example"]
                [dns]
                listen = ["127.0.0.1:{port}"]
                metrics = "127.0.0.1:{free_port()}"
                [workers]
                address_timeout = 0.1
            """,
        )
    assert done.returncode == 1
    assert f"tfgateway: error: cannot listen on 127.0.0.1:{port}/{name}: Address already in use" in done.stderr


def test_port_that_becomes_free_is_taken_at_once_with_everything_loaded(
    tfgateway: CommandLine, free_port: Callable[[], int], redis_server: RedisServer
) -> None:
    port, tcp_port = free_port(), free_port()
    with redis_server.client() as client:
        client.hset("gw1.example.", "www", json.dumps(ADDRESS))
    query = dns.message.make_query("www.gw1.example", "A")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
        old.bind(("127.0.0.1", port))
        process = tfgateway(
            "dns",
            config=f"""
                [redis]
                url = "{redis_server.url}"
                [gateway]
                name_servers = ["ns1.gateway.example"]
                [dns]
                workers = 2
                listen = ["127.0.0.1:{tcp_port}", "127.0.0.1:{port}"]
                metrics = "127.0.0.1:{free_port()}"
            """,
            ready=False,
        )
        process.wait_for(lambda: "in use" in process.status, "the address is waited for")
        with pytest.raises(ConnectionRefusedError):  # all addresses or none
            socket.create_connection(("127.0.0.1", tcp_port))
        assert "READY=1" not in process.notifications
    process.wait_ready()
    answer = dns.query.udp(query, "127.0.0.1", port=port, timeout=5)
    assert [record.address for record in answer.answer[0]] == ["203.0.113.5"]
    process.wait_for(lambda: "in use" not in process.status, "nothing is waited for")


def test_changes_in_a_burst_do_not_stop_answers(plane) -> None:
    longest = 0.0
    with plane.redis.client() as client:
        for batch in range(10):
            pipe = client.pipeline(transaction=False)
            for number in range(1000):
                pipe.hset("gw1.example.", f"n{batch}-{number}", json.dumps(ADDRESS))
            pipe.execute()
            before = time.monotonic()
            assert plane.answers("www.gw1.example") == ["203.0.113.5"]
            longest = max(longest, time.monotonic() - before)
    plane.wait_for(lambda: plane.answers("n9-999.gw1.example"), "the last of them")
    assert plane.metrics()["tfgateway_dns_names"] == 10_002
    assert longest < LIMIT
