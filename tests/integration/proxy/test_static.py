"""Static services of gateway.toml: targets, checks, allow-lists, PROXY protocol; limits; a worker that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfgateway import settings
from tfgateway.diagnosis.static_services import TargetState, static_targets
from tfgateway.net import proxyproto

from tests.integration.proxy.conftest import Services
from tests.support.processes import CommandLine, StartProcess

HEAD = b"GET / HTTP/1.1\r\nHost: raw.example\r\n\r\n"


def service(*lines: str, name: str = "web.example") -> str:
    return "\n".join(["[[proxy.services]]", f'names = ["{name}"]', *lines])


def targets(*ports: int, kind: str = "http_port", address: str = "127.0.0.1") -> str:
    listed = [f'{{ address = "{address}", {kind} = {port} }}' for port in ports]
    return f"targets = [{', '.join(listed)}]"


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


@pytest.fixture
def webs(serving: Callable[..., Any], web_server: Any) -> list[Any]:
    return [serving(web_server, name) for name in ("one", "two")]


def test_round_robin_over_targets_one_of_them_by_name(webs: list[Any], gateway: Any) -> None:
    listed = f'{{ address = "127.0.0.1", http_port = {webs[0].port} }}, '
    listed += f'{{ address = "localhost", http_port = {webs[1].port} }}'
    tested = gateway(service(f"targets = [{listed}]"))
    pages = Counter(tested.page("http://web.example/") for _ in range(6))
    assert pages == {"page of one": 3, "page of two": 3}


def test_a_visitor_of_a_dead_target_gets_another_one(
    webs: list[Any], gateway: Any, free_port: Callable[[], int]
) -> None:
    tested = gateway(service(targets(free_port(), webs[0].port)))
    assert {tested.page("http://web.example/") for _ in range(4)} == {"page of one"}


def test_a_visitor_of_a_target_that_the_kernel_refuses_at_once_gets_another_one(webs: list[Any], gateway: Any) -> None:
    """ENETUNREACH and EINVAL from connect(2) itself: nothing is on its way that could fail later."""
    addresses = ("255.255.255.255", 80), ("fe80::1", 80), ("127.0.0.1", webs[0].port)
    listed = ", ".join(f'{{ address = "{address}", http_port = {port} }}' for address, port in addresses)
    tested = gateway(service(f"targets = [{listed}]"))
    assert [tested.page("http://web.example/") for _ in range(6)] == ["page of one"] * 6


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_checks_take_a_target_out_and_bring_it_back(
    serving: Any,
    web_server: Any,
    tcp_server: Any,
    webs: list[Any],
    gateway: Any,
    free_port: Callable[[], int],
    kind: str,
) -> None:
    """By TCP: it does not listen. By HTTP: it listens, and says 500."""
    status = [500]

    def sick(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 %d x\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo" % status[0])

    bad = serving(tcp_server, sick).port if kind == "http" else free_port()
    check = f'check = {{ type = "{kind}", path = "/", interval = 0.1, timeout = 2, rise = 2, fall = 2 }}'
    tested = gateway(service(targets(webs[0].port, bad), check))
    tested.process.wait_log("target is down")
    up = {"service": "web.example", "target": f"127.0.0.1:{bad}"}
    tested.process.wait_for(lambda: tested.metric("tfgateway_proxy_target_up", **up) == 0, "the figure")
    assert {tested.page("http://web.example/") for _ in range(4)} == {"page of one"}
    if kind == "http":
        status[0] = 200
    else:
        back = socket.create_server(("127.0.0.1", bad), backlog=64)
        threading.Thread(target=lambda: [sick_page(back.accept()[0]) for _ in range(10_000)], daemon=True).start()
    tested.process.wait_log("target is up")
    tested.process.wait_for(lambda: tested.page("http://web.example/") == "two", "its turn")
    assert tested.metric("tfgateway_proxy_target_checks_total", outcome="failed", **up) >= 2


def sick_page(connection: socket.socket) -> None:
    with connection:
        connection.settimeout(1.0)
        try:
            if connection.recv(65536):
                connection.sendall(b"HTTP/1.1 200 x\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo")
        except OSError:
            pass


def test_without_any_target_that_works_there_is_a_503(gateway: Any, free_port: Callable[[], int]) -> None:
    check = "check = { interval = 0.1, fall = 1 }"
    tested = gateway(service(targets(free_port()), check))
    tested.process.wait_log("target is down")
    assert tested.status("http://web.example/") == 503
    assert tested.visits(1)[0]["outcome"] == "no_target"


def test_an_allow_list_keeps_others_out(webs: list[Any], gateway: Any) -> None:
    tested = gateway(
        service(targets(webs[0].port), 'allow = ["192.0.2.0/24"]'),
        service(targets(webs[1].port), 'allow = ["127.0.0.0/8"]', name="open.example"),
    )
    assert tested.status("http://web.example/") == 403
    assert tested.page("http://open.example/") == "page of two"
    assert webs[0].accepted == 0
    options = ["-connect", f"127.0.0.1:{tested.tls}", "-servername", "web.example"]
    done = subprocess.run(["openssl", "s_client", *options], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert b"alert number 49" in done.stderr  # access_denied


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_t18_a_target_is_told_who_the_visitor_is(serving: Any, tcp_server: Any, gateway: Any, version: str) -> None:
    received = []

    def target(connection: socket.socket) -> None:
        received.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n")

    port = serving(tcp_server, target).port
    tested = gateway(service(targets(port), f'proxy_protocol = "{version}"', name="raw.example"))
    with tested.connect() as visitor:
        visitor.sendall(HEAD)
        assert visitor.recv(65536).startswith(b"HTTP/1.1 200")
        mine = visitor.getsockname()[1]
    ports = mine.to_bytes(2) + tested.http.to_bytes(2)
    expected = {
        "v1": b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (mine, tested.http),
        "v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([127, 0, 0, 1]) * 2 + ports,
    }
    assert received == [expected[version] + HEAD]


def test_t18_a_trusted_balancer_announces_the_visitor(serving: Any, tcp_server: Any, gateway: Any) -> None:
    """Its header may come in pieces; the source that it names is in the log, in the limits and told to the target."""
    received = []

    def target(connection: socket.socket) -> None:
        received.append(connection.recv(65536))

    port = serving(tcp_server, target).port
    tested = gateway(
        'proxy_protocol_from = ["127.0.0.0/8"]',
        service(targets(port), 'proxy_protocol = "v1"', 'allow = ["192.0.2.0/24"]', name="raw.example"),
    )
    header = b"PROXY TCP4 192.0.2.7 203.0.113.1 1234 80\r\n"
    with tested.connect() as balancer:
        for piece in (header[:9], header[9:] + HEAD[:5], HEAD[5:]):
            balancer.sendall(piece)
            time.sleep(0.05)
        read_to_end(balancer)
    with tested.connect() as direct:
        direct.sendall(HEAD)
        assert read_to_end(direct) == b""
    first, second = sorted(tested.visits(2), key=lambda visit: visit["outcome"] != "closed")
    assert (first["source"], first["outcome"]) == ("192.0.2.7", "closed")
    assert (second["source"], second["outcome"]) == ("127.0.0.1", "bad_proxy_header")
    assert received == [header + HEAD]


@pytest.mark.parametrize("version", [1, 2])
def test_t18_a_visitor_announced_as_ipv4_inside_ipv6_is_an_ipv4_visitor(
    version: int, serving: Any, tcp_server: Any, gateway: Any
) -> None:
    """For allow lists, limits, log and the header for the target: else all of them would be one source."""
    received = []

    def target(connection: socket.socket) -> None:
        received.append(connection.recv(65536))

    port = serving(tcp_server, target).port
    tested = gateway(
        'proxy_protocol_from = ["127.0.0.0/8"]',
        "max_connections_per_source = 1",
        service(targets(port), 'proxy_protocol = "v1"', 'allow = ["198.51.100.0/24"]', name="raw.example"),
    )
    header = proxyproto.encode(version, proxyproto.Addresses("::ffff:198.51.100.9", 1234, "::ffff:203.0.113.1", 80))
    other = proxyproto.encode(version, proxyproto.Addresses("::ffff:198.51.100.8", 1234, "::ffff:203.0.113.1", 80))
    with tested.connect() as waiting, tested.connect() as balancer:
        waiting.sendall(other)
        balancer.sendall(header + HEAD)
        read_to_end(balancer)
    (visit,) = (visit for visit in tested.visits(2) if visit["outcome"] != "no_request")
    assert (visit["source"], visit["outcome"]) == ("198.51.100.9", "closed")
    assert received == [b"PROXY TCP4 198.51.100.9 203.0.113.1 1234 80\r\n" + HEAD]


def test_t2_whoever_is_silent_longest_gives_way(
    serving: Any, tcp_server: Any, services: Services, gateway: Any
) -> None:
    services.put("raw.example", http=serving(tcp_server, lambda sock: sock.sendall(sock.recv(100))).port)
    tested = gateway("max_unmatched = 2")
    silent = [tested.connect() for _ in range(3)]
    for one in silent:
        one.sendall(b"GET ")
        tested.process.wait_for(lambda: True, "a moment")
        time.sleep(0.05)
    assert silent[0].recv(65536).startswith(b"HTTP/1.1 503 ")
    with tested.connect() as visitor:
        visitor.sendall(HEAD)
        assert visitor.recv(100) == HEAD
    silent[2].sendall(HEAD[4:])
    assert silent[2].recv(100) == HEAD
    for one in silent:
        one.close()


def test_the_access_log_is_off_or_a_share(webs: list[Any], configuration: Any, tfgateway: CommandLine) -> None:
    text, ports = configuration(service(targets(webs[0].port)))
    for share, lines in (("0.0", 0), ("0.25", 2)):
        process = tfgateway("proxy", config=text.replace("access_log = 1.0", f"access_log = {share}"))
        for _ in range(8):
            url = f"http://127.0.0.1:{ports['http']}/"
            request = urllib.request.Request(url, headers={"Host": "web.example", "Connection": "close"})
            assert urllib.request.urlopen(request, timeout=30).read() == b"page of one"
        process.stop()
        assert process.log.count('"event": "connection"') == lines


def test_a_log_that_cannot_be_written_costs_no_visitor(
    webs: list[Any], configuration: Any, start_process: StartProcess, tmp_path: Path
) -> None:
    """On a full disk each line fails, also those that are about a failure."""
    text, ports = configuration(service(targets(webs[0].port)), 'allow = ["127.0.0.1/32"]')
    (tmp_path / "gateway.toml").write_text(text)
    program = Path(sys.executable).with_name("tfgateway")
    command = f"exec {program} --config {tmp_path / 'gateway.toml'} proxy 2> /dev/full"
    process = start_process("proxy", ["sh", "-c", command]).wait_ready()
    before = process.workers
    for _ in range(20):
        request = urllib.request.Request(f"http://127.0.0.1:{ports['http']}/", headers={"Host": "web.example"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.read() == b"page of one"
    assert process.workers == before
    assert process.stop() == 0


def test_t20_a_connection_that_lasts_finds_dead_targets(
    serving: Any, tcp_server: Any, services: Services, gateway: Any
) -> None:
    server = serving(tcp_server, lambda sock: sock.sendall(sock.recv(100)) or sock.recv(1))
    services.put("raw.example", http=server.port)
    tested = gateway()

    def kept_alive() -> bool:
        listed = subprocess.run(
            ["ss", "-tnoH", "dport", f"= :{server.port}"], capture_output=True, text=True, check=True
        )
        return "timer:(keepalive" in listed.stdout

    with tested.connect() as visitor:
        visitor.sendall(HEAD)
        assert visitor.recv(100) == HEAD
        tested.process.wait_for(kept_alive, "the kernel's timer")


def workers_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def visitors_of(port: int, worker: int) -> set[int]:
    """Ports of the visitors whose connections a process has."""
    command = ["ss", "-tnpH", "state", "established", "sport", f"= :{port}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in listed if f"pid={worker}," in line}


def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(webs: list[Any], gateway: Any) -> None:
    tested = gateway("workers = 2", service(targets(webs[0].port)))
    killed, survivor = workers_of(tested.process.pid)
    request = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n"

    def answered(visitor: socket.socket) -> bool:
        answer = b""
        try:
            visitor.sendall(request)
            while not answer.endswith(b"page of one"):
                if not (part := visitor.recv(65536)):
                    return False
                answer += part
        except ConnectionError:
            return False
        return True

    with contextlib.ExitStack() as stack:
        # The kernel spreads them over both.
        visitors = [stack.enter_context(tested.connect()) for _ in range(16)]
        assert all(map(answered, visitors))
        there, gone = visitors_of(tested.http, survivor), visitors_of(tested.http, killed)
        assert there
        assert gone
        os.kill(killed, signal.SIGKILL)
        assert {visitor.getsockname()[1] for visitor in visitors if answered(visitor)} == there
        # Who comes before there is a replacement waits for it.
        assert {tested.page("http://web.example/") for _ in range(8)} == {"page of one"}
        tested.process.wait_for(
            lambda: len(workers_of(tested.process.pid)) == 2 and killed not in workers_of(tested.process.pid),
            "its replacement",
        )
        assert survivor in workers_of(tested.process.pid)
        assert {visitor.getsockname()[1] for visitor in visitors if answered(visitor)} == there
    assert {tested.page("http://web.example/") for _ in range(8)} == {"page of one"}
    assert re.search(r"Traceback", tested.process.log) is None


def test_reload_under_load_refuses_and_cuts_nobody(
    webs: list[Any], services: Services, gateway: Any, a_big_body: bytes
) -> None:
    """New visitors all the time, one who keeps his connection, one whose download takes longer than the reload."""
    services.put("web.example", http=webs[0].port)
    tested = gateway("workers = 2")
    request = b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: %s\r\n\r\n"
    ending = threading.Event()
    served = Counter[str]()

    def visit_again_and_again() -> None:
        while not ending.is_set():
            try:
                with tested.connect() as visitor:
                    visitor.sendall(request % b"close")
                    answer = read_to_end(visitor)
                served["good" if answer.endswith(b"page of one") else repr(answer)] += 1
            except OSError as error:
                served[repr(error)] += 1

    visitors = [threading.Thread(target=visit_again_and_again) for _ in range(4)]
    with tested.connect() as faithful, tested.connect() as slow:
        slow.sendall(b"GET /big HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
        for visitor in visitors:
            visitor.start()
        size = 0
        for _ in range(2):
            before = set(workers_of(tested.process.pid))
            reached = served["good"]
            tested.process.send_signal(signal.SIGHUP)
            tested.process.wait_for(
                lambda before=before: len(set(workers_of(tested.process.pid)) - before) == 2, "the next workers"
            )
            tested.process.wait_for(lambda reached=reached: served["good"] > reached + 50, "visitors")
            faithful.sendall(request % b"keep-alive")
            answer = b""
            while not answer.endswith(b"page of one"):
                part = faithful.recv(65536)
                assert part, "cut"
                answer += part
            size += len(slow.recv(65536))
        ending.set()
        for visitor in visitors:
            visitor.join()
        while part := slow.recv(1 << 20):
            size += len(part)
    assert set(served) == {"good"}
    assert len(a_big_body) < size < len(a_big_body) + 1000


def test_state_shows_the_targets(
    webs: list[Any], configuration: Any, tfgateway: CommandLine, free_port: Callable[[], int]
) -> None:
    dead = free_port()
    text, _ = configuration(service(targets(webs[0].port, dead), "check = { interval = 0.1, fall = 1 }"))
    process = tfgateway("proxy", config=text)
    process.wait_log("target is down")
    found, trouble = asyncio.run(static_targets(settings.parse(text.encode())))
    assert trouble == ""
    assert found == (
        TargetState("web.example", f"127.0.0.1:{webs[0].port}", up=True, connections=0),
        TargetState("web.example", f"127.0.0.1:{dead}", up=False, connections=0),
    )
    process.stop()
    found, trouble = asyncio.run(static_targets(settings.parse(text.encode())))
    assert found == ()
    assert "cannot be read" in trouble
