"""Connections that end in every way: half-closed, reset, silent, too many, cut at the end; nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.proxy.conftest import Services
from tests.support.processes import CommandLine
from tests.support.waiting import until

HEAD = b"GET / HTTP/1.1\r\nHost: raw.example\r\n\r\n"
ADDED = len("CDN-Loop: tfgateway-0123456789abcdef-01234567\r\n")


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, f"ended after {data!r}"
        data += part
    return data


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.fixture
def raw(
    serving: Callable[..., Any], tcp_server: Any, services: Services
) -> Callable[[Callable[[socket.socket], None]], Any]:
    """Call it with what the target of raw.example does with a connection."""

    def start(handle: Callable[[socket.socket], None]) -> Any:
        server = serving(tcp_server, handle)
        services.put("raw.example", http=server.port, tls=server.port)
        return server

    return start


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def echo_after_the_end(connection: socket.socket) -> None:
    connection.sendall(read_to_end(connection))


def test_half_close_of_the_visitor(raw: Any, gateway: Any) -> None:
    raw(echo_after_the_end)
    tested = gateway()
    with tested.connect() as visitor:
        visitor.sendall(HEAD + b"body")
        visitor.shutdown(socket.SHUT_WR)
        assert read_to_end(visitor) == HEAD + b"body"
    assert tested.visits(1)[0]["outcome"] == "closed"


def test_half_close_of_the_target(raw: Any, gateway: Any) -> None:
    received = []

    def answer_first(connection: socket.socket) -> None:
        connection.sendall(b"answer")
        connection.shutdown(socket.SHUT_WR)
        received.append(read_to_end(connection))

    raw(answer_first)
    tested = gateway()
    with tested.connect() as visitor:
        visitor.sendall(HEAD)
        assert read_to_end(visitor) == b"answer"
        visitor.sendall(b"still open this way")
    assert tested.visits(1)[0]["outcome"] == "closed"
    until(lambda: received, "the target has read to the end")
    assert received == [HEAD + b"still open this way"]


@pytest.mark.parametrize("begin", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: raw.example\r\n"])
def test_t2_a_slow_head_meets_its_deadline(raw: Any, gateway: Any, begin: bytes) -> None:
    """Slowloris: a line now and then does not put the deadline off."""
    server = raw(echo)
    tested = gateway("head_timeout = 1.0")
    with tested.connect() as visitor:
        started = time.monotonic()
        visitor.sendall(begin)
        reply = b""
        visitor.settimeout(0.05)
        while not reply and time.monotonic() - started < 30:
            with contextlib.suppress(TimeoutError):
                reply = visitor.recv(65536)
            if not reply:
                visitor.sendall(b"x")
        assert time.monotonic() - started >= 0.9
        assert reply.startswith(b"HTTP/1.1 408 ")
    assert tested.visits(1)[0]["outcome"] == "head_timeout"
    assert server.accepted == 0


@pytest.mark.parametrize("listener", ["http", "tls"])
@pytest.mark.parametrize("begin", [b"", b"\x16\x03\x01\x02"])
def test_t2_a_silent_visitor_meets_the_deadline(gateway: Any, listener: str, begin: bytes) -> None:
    tested = gateway("head_timeout = 0.2")
    with tested.connect(getattr(tested, listener)) as visitor:
        if listener == "tls":
            visitor.sendall(begin)
        assert read_to_end(visitor) == b""
    assert tested.visits(1)[0]["outcome"] == "head_timeout"


def test_t2_a_target_that_hangs(services: Services, gateway: Any) -> None:
    """A full backlog: Linux drops further SYNs, as a host behind a silent firewall does."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        services.put("hangs.example", http=server.getsockname()[1])
        tested = gateway("dial_timeout = 0.3")
        assert tested.status("http://hangs.example/") == 504
    assert tested.visits(1)[0]["outcome"] == "dial_timeout"


def test_a_target_that_refuses(services: Services, gateway: Any, free_port: Callable[[], int]) -> None:
    services.put("dead.example", http=free_port())
    tested = gateway()
    assert tested.status("http://dead.example/") == 502
    [visit] = tested.visits(1)
    assert (visit["outcome"], visit["detail"]) == ("dial_failed", "Connection refused")


def test_resets_are_no_errors(raw: Any, gateway: Any) -> None:
    def reset_after_an_answer(connection: socket.socket) -> None:
        if b"reset" in connection.recv(65536):
            connection.sendall(b"some")
            reset(connection)
        else:
            connection.recv(65536)

    raw(reset_after_an_answer)
    tested = gateway()
    with tested.connect() as visitor:
        visitor.sendall(HEAD + b"reset")
        assert read_to_end(visitor) == b"some"
    visitor = tested.connect()
    visitor.sendall(HEAD)
    tested.process.wait_for(lambda: tested.metric("tfgateway_proxy_dial_seconds_count") == 2, "a second dial")
    reset(visitor)
    assert [visit["outcome"] for visit in tested.visits(2)] == ["reset", "reset"]
    assert '"level": "error"' not in tested.process.log
    assert "Traceback" not in tested.process.log


def test_t2_an_idle_connection_ends(raw: Any, gateway: Any) -> None:
    raw(echo)
    tested = gateway("idle_timeout = 0.3")
    with tested.connect() as visitor:
        visitor.sendall(HEAD)
        assert read_to_end(visitor) == HEAD
    assert tested.visits(1)[0]["outcome"] == "idle"


@pytest.mark.parametrize("limit", ["max_connections = 2", "max_connections_per_source = 2"])
def test_t2_connections_over_a_limit_are_turned_away(raw: Any, gateway: Any, limit: str) -> None:
    raw(echo)
    tested = gateway(limit)
    with tested.connect() as first, tested.connect() as second:
        for visitor in (first, second):
            visitor.sendall(HEAD)
            assert read(visitor, len(HEAD)) == HEAD
        with tested.connect() as third:
            assert third.recv(65536).startswith(b"HTTP/1.1 503 ")
        with tested.connect(tested.tls) as fourth:
            assert read_to_end(fourth) == b""
        first.sendall(b"still served")
        assert read(first, 12) == b"still served"
    outcomes = [visit["outcome"] for visit in tested.visits(4)]
    assert sorted(outcomes) == ["closed", "closed", "too_many", "too_many"]
    with tested.connect() as fifth:
        fifth.sendall(HEAD)
        assert read(fifth, len(HEAD)) == HEAD


def test_no_source_is_refused_below_its_limit_whichever_worker_it_gets(raw: Any, gateway: Any) -> None:
    """All of a source's connections may come to one worker of two."""
    raw(echo)
    tested = gateway("workers = 2", "max_connections_per_source = 4")
    with contextlib.ExitStack() as stack:

        def served(source: str) -> bool:
            visitor = stack.enter_context(tested.connect(source=source))
            with contextlib.suppress(ConnectionError):
                visitor.sendall(HEAD)
                return visitor.recv(len(HEAD)) == HEAD
            return False

        for host in range(2, 12):
            assert [served(f"127.0.0.{host}") for _ in range(4)] == [True] * 4
        assert sum(served("127.0.0.2") for _ in range(20)) <= 4  # with the four that are open: twice its limit


def test_t10_out_of_descriptors_pauses_accepting(raw: Any, gateway: Any) -> None:
    raw(echo)
    tested = gateway()
    worker = tested.process.workers[0]
    _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    with tested.connect() as before:
        before.sendall(HEAD)
        assert read(before, len(HEAD)) == HEAD
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, hard))
        with tested.connect() as waiting:
            waiting.sendall(HEAD)
            tested.process.wait_log("accepting paused")
            before.sendall(b"still served")
            assert read(before, 12) == b"still served"
            time.sleep(1.0)
            assert tested.process.log.count("accepting paused") < 20  # it pauses, it does not spin
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (hard, hard))
            assert read(waiting, len(HEAD)) == HEAD


def test_t12_descriptors_return_to_the_base_line(
    raw: Any, services: Services, gateway: Any, free_port: Callable[[], int], certificate: Any
) -> None:
    """Every way to end, twenty times."""

    def target(connection: socket.socket) -> None:
        head = connection.recv(65536)
        if b"reset" in head:
            reset(connection)
        elif b"hang" in head:
            connection.recv(1)
        else:
            connection.sendall(head)

    raw(target)
    services.put("dead.example", http=free_port())
    services.put("tunnel.example", secret="s3cr3t")
    tested = gateway("head_timeout = 0.5", "idle_timeout = 0.5")
    assert tested.metric("tfgateway_proxy_services") == 3
    tested.curl("http://raw.example/", "-H", "Host: other.example")
    tested.visits(1)
    base_line = tested.descriptors()
    heads = [b"", b"GET", HEAD, HEAD + b"reset", HEAD + b"hang", b"rubbish\r\n", b"\x16\x03\x01\x00\x02\x01\x00"]
    heads += [HEAD.replace(b"raw.example", name) for name in (b"dead.example", b"tunnel.example", b"other.example")]
    visitors = []
    for _ in range(20):
        for head in heads:
            for port in (tested.http, tested.tls):
                visitor = tested.connect(port)
                visitor.sendall(head)
                visitors.append((visitor, bool(head)))
        while len(visitors) > 200:
            visitors.pop(0)[0].close()
    for number, (visitor, spoke) in enumerate(visitors):
        # Whoever resets before he has said anything was never accepted (TCP_DEFER_ACCEPT).
        (reset if number % 2 and spoke else socket.socket.close)(visitor)
    tested.visits(1 + 20 * len(heads) * 2)
    tested.wait_for_descriptors(base_line)
    assert tested.metric("tfgateway_proxy_connections_active", listener="http") == 0
    assert tested.metric("tfgateway_proxy_connections_active", listener="tls") == 0
    assert "Traceback" not in tested.process.log


def test_t12_memory_returns_to_the_base_line(raw: Any, gateway: Any) -> None:
    """Served, refused and reset, again and again."""
    raw(lambda connection: connection.sendall(connection.recv(65536)))
    tested = gateway()

    def crowd() -> None:
        for number in range(1500):
            with tested.connect() as visitor:
                visitor.sendall(HEAD if number % 3 else HEAD.replace(b"raw.", b"other."))
                if number % 5:
                    read_to_end(visitor)
                else:
                    reset(visitor)

    crowd()
    used = tested.memory()
    crowd()
    crowd()
    assert tested.memory() < used + 500, "kB"


def test_metrics(raw: Any, gateway: Any) -> None:
    raw(echo_after_the_end)
    tested = gateway()
    with tested.connect() as visitor:
        visitor.sendall(HEAD)
        tested.process.wait_for(
            lambda: tested.metric("tfgateway_proxy_connections_active", listener="http") == 1, "an active connection"
        )
        visitor.shutdown(socket.SHUT_WR)
        assert read_to_end(visitor) == HEAD
    assert tested.status("http://other.example/") == 404
    tested.visits(2)
    assert tested.metric("tfgateway_proxy_connections_total", listener="http", outcome="closed") == 1
    assert tested.metric("tfgateway_proxy_connections_total", listener="http", outcome="unknown_host") == 1
    assert tested.metric("tfgateway_proxy_bytes_total", direction="to_target") == len(HEAD) + ADDED
    assert tested.metric("tfgateway_proxy_bytes_total", direction="to_visitor") == len(HEAD)
    assert tested.metric("tfgateway_proxy_dial_seconds_count") == 1
    assert tested.metric("tfgateway_proxy_services") == 1
    assert 0 <= tested.metric("tfgateway_proxy_mirror_age_seconds") < 30


def test_sigterm_lets_connections_end(raw: Any, gateway: Any) -> None:
    raw(echo)
    tested = gateway()
    with tested.connect() as visitor:
        visitor.sendall(HEAD)
        assert read(visitor, len(HEAD)) == HEAD
        tested.process.send_signal(signal.SIGTERM)
        tested.process.wait_for(lambda: refused(tested.http), "refused connections")
        visitor.sendall(b"still served")
        assert read(visitor, 12) == b"still served"
        visitor.shutdown(socket.SHUT_WR)
        assert read_to_end(visitor) == b""
    assert tested.process.wait() == 0
    assert '"outcome": "closed"' in tested.process.log


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_cuts_what_does_not_end(raw: Any, gateway: Any) -> None:
    raw(echo)
    tested = gateway("drain_timeout = 0.3")
    with tested.connect() as visitor, tested.connect() as slow:
        slow.sendall(b"GET")
        visitor.sendall(HEAD)
        assert read(visitor, len(HEAD)) == HEAD
        assert tested.process.stop() == 0
        assert read_to_end(visitor) == b""
    assert tested.process.log.count('"outcome": "cut"') == 2


def test_an_address_in_use_is_one_clear_line(configuration: Any, tfgateway: CommandLine) -> None:
    text, ports = configuration()
    with socket.create_server(("127.0.0.1", ports["tls"])):
        done = tfgateway.run("proxy", config=text + "\n[workers]\naddress_timeout = 0.1\n")
    assert done.returncode == 1
    assert f"tfgateway: error: cannot listen on 127.0.0.1:{ports['tls']}/tcp: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_worker_accepts_for_one_that_is_silent(
    services: Services, gateway: Any, serving: Any, web_server: Any
) -> None:
    """Each visitor has the same chance to be in its sockets, and it is not replaced before the end of this test."""
    services.put("web.example", http=serving(web_server, "plain").port)
    tested = gateway("workers = 2", "[workers]\nhang_timeout = 600")
    victim = tested.process.workers[0]
    os.kill(victim, signal.SIGSTOP)
    assert [tested.page("http://web.example/") for _ in range(20)] == ["page of plain"] * 20
    assert victim in tested.process.workers
    os.kill(victim, signal.SIGCONT)
    assert tested.page("http://web.example/") == "page of plain"
