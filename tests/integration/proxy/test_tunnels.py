"""Reverse tunnels by the real commands: `tfgateway proxy`, `tfgateway tunnel`, curl; services come from redis."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tfgateway.redis_schema.keys import TUNNELS_PREFIX
from tfgateway.redis_schema.tunnels import decode_tunnels, fingerprint
from tfgateway.tunnel.handshake import encode_handshake
from tfgateway.tunnel.yamux.frames import Flag, Kind, encode

from tests.integration.proxy.conftest import Services
from tests.support import procfs
from tests.support.processes import CommandLine, Process, RedisServer, StartProcess

SECRET = "7:s3cr3t-tunnel-key"
LIMIT = 30.0


class Client:
    """A running `tfgateway tunnel --json`."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def phases(self) -> list[str]:
        return [line["phase"] for line in self.lines()]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.process.log.splitlines() if line.startswith("{")]

    def wait_for(self, phase: str, count: int = 1) -> Client:
        self.process.wait_for(lambda: self.phases().count(phase) >= count, f"{count} times {phase}")
        return self

    def descriptors(self) -> int:
        return len(procfs.descriptors(self.process.pid))

    def memory(self) -> int:
        return procfs.memory(self.process.pid)


@pytest.fixture
def tunnel(tfgateway: CommandLine) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def start(port: int, *options: str, secret: str = SECRET) -> Client:
        arguments = ("tunnel", f"--remote=127.0.0.1:{port}", "--json", "--backoff=0.1", *options)
        if secret:
            arguments = (*arguments, f"--secret={secret}")
        clients.append(Client(tfgateway(*arguments, config="", ready=False)))
        return clients[-1]

    yield start
    for client in clients:
        client.process.kill()


@pytest.fixture
def site(serving: Any, web_server: Any, certificate: Any) -> tuple[str, ...]:
    """Options for the client: a page over HTTP and one over TLS."""
    plain = serving(web_server, "plain")
    secure = serving(web_server, "secure", certificate.context())
    return f"--local=127.0.0.1:{plain.port}", f"--local-tls=127.0.0.1:{secure.port}"


def raw(port: int, secret: str = SECRET, *, finish: bool = True) -> socket.socket:
    """What an old client sends."""
    sock = socket.create_connection(("127.0.0.1", port), LIMIT)
    said = encode_handshake(secret.encode())
    octets = encode(Kind.WINDOW_UPDATE, Flag.SYN, 1, 0) + encode(Kind.DATA, 0, 1, len(said)) + said
    sock.sendall(octets + (encode(Kind.WINDOW_UPDATE, Flag.FIN, 1, 0) if finish else b""))
    return sock


def test_a_page_over_http_and_https(
    gateway: Any, services: Services, tunnel: Any, site: Any, certificate: Any, a_big_body: bytes
) -> None:
    services.put("web.example", secret=SECRET)
    services.put("also.web.example", secret=SECRET)  # one secret, several domains
    tested = gateway()
    client = tunnel(tested.tunnels, *site).wait_for("connected")
    assert tested.page("http://web.example/") == "page of plain"
    assert tested.page("https://web.example/", "--cacert", str(certificate.path)) == "page of secure"
    assert tested.page("http://also.web.example/") == "page of plain"
    assert tested.curl("http://web.example/big").stdout == a_big_body
    assert tested.curl("https://web.example/big", "--cacert", str(certificate.path)).stdout == a_big_body
    visits = tested.visits(5)
    assert [visit["outcome"] for visit in visits] == ["closed"] * 5
    assert {visit["target"] for visit in visits} == {"tunnel"}
    assert tested.metric("tfgateway_tunnels") == 1
    assert tested.metric("tfgateway_tunnel_streams_total", outcome="closed") == 5
    assert tested.metric("tfgateway_tunnel_bytes_total", direction="to_visitor") > 2 * len(a_big_body)
    assert SECRET not in tested.process.log  # T-13
    assert client.process.stop() == 0


def test_flags_and_variables_of_the_old_client(
    gateway: Any, services: Services, tmp_path: Path, serving: Any, web_server: Any, start_process: StartProcess
) -> None:
    services.put("web.example", secret=SECRET)
    tested = gateway()
    program = str(Path(sys.executable).with_name("tfgateway"))
    environ = {
        "TRC_SECRET": SECRET,
        "TRC_REMOTE": f"127.0.0.1:1,127.0.0.1:{tested.tunnels}",
        "TRC_LOCAL": f"127.0.0.1:{serving(web_server, 'plain').port}",
        "TRC_BACKOFF": "0.1",
    }
    process = start_process("tunnel", [program, "tunnel"], environ).wait_ready()
    assert tested.page("http://web.example/") == "page of plain"
    # The variable counts for TLS too: the plain service is reached, which is no TLS.
    assert "wrong version" in tested.curl("https://web.example/", "-k", check=False).stderr.decode()
    assert "STATUS=connected to 1 of 2" in process.notifications
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--remote=127.0.0.1"], "HOST:PORT"),
        (["--remote=127.0.0.1:18000", "--secret=7:x"], "no service"),
        (["--local=127.0.0.1:80", "--secret=7:x"], "no gateway"),
        (["--remote=127.0.0.1:18000", "--local=127.0.0.1:80"], "secret"),
        (["--remote=127.0.0.1:18000", "--local=127.0.0.1:80", "--secret="], "secret"),
        (["--remote=127.0.0.1:18000", "--local=127.0.0.1:0", "--secret=7:x"], "HOST:PORT"),
        (["--remote=127.0.0.1:1", "--local=127.0.0.1:8", "--secret=7:x", "--ca=/nowhere"], "--ca"),
    ],
)
def test_wrong_usage_is_exit_code_2(tfgateway: CommandLine, arguments: list[str], word: str) -> None:
    ended = tfgateway.run("tunnel", *arguments, config="")
    assert ended.returncode == 2
    assert word in ended.stderr


def test_t4_unknown_revoked_and_back_again(gateway: Any, services: Services, tunnel: Any, site: Any) -> None:
    services.put("other.example", secret="7:other")
    tested = gateway("tunnel_grace = 5")
    client = tunnel(tested.tunnels, *site).wait_for("waiting")
    assert tested.status("http://web.example/") == 404
    services.put("web.example", secret=SECRET)
    client.wait_for("connected")
    assert tested.page("http://web.example/") == "page of plain"
    services.remove("web.example")
    client.wait_for("retrying")
    assert tested.status("http://web.example/") == 404
    services.put("web.example", secret=SECRET)
    client.wait_for("connected", 2)
    assert tested.page("http://web.example/") == "page of plain"


def test_kill_9_of_the_client_and_a_visitor_who_waits_for_its_return(
    gateway: Any, services: Services, tunnel: Any, site: Any
) -> None:
    services.put("web.example", secret=SECRET)
    tested = gateway("tunnel_grace = 20")
    tunnel(tested.tunnels, *site).wait_for("connected").process.kill()
    pages: list[str] = []
    waiting = threading.Thread(target=lambda: pages.append(tested.page("http://web.example/")))
    waiting.start()
    time.sleep(0.3)
    assert not pages
    tunnel(tested.tunnels, *site).wait_for("connected")
    waiting.join(LIMIT)
    assert pages == ["page of plain"]
    tested.process.wait_for(lambda: tested.metric("tfgateway_tunnels") == 1, "one tunnel")


def test_takeover_by_a_newer_client_and_a_half_open_peer(
    gateway: Any, services: Services, tunnel: Any, site: Any
) -> None:
    services.put("web.example", secret=SECRET)
    tested = gateway()
    silent = raw(tested.tunnels)
    assert silent.recv(24, socket.MSG_WAITALL).hex() == "000100020000000100000000000100040000000100000000"
    tunnel(tested.tunnels, *site).wait_for("connected")
    assert silent.recv(1) == b""
    assert tested.page("http://web.example/") == "page of plain"
    silent.close()


def test_no_client_is_503_and_a_service_that_is_down_502(
    gateway: Any, services: Services, tunnel: Any, certificate: Any
) -> None:
    services.put("web.example", secret=SECRET)
    tested = gateway()
    assert tested.status("http://web.example/") == 503
    with tested.connect(tested.tls) as sock:
        hello = ssl.MemoryBIO()
        context = ssl.create_default_context()
        bio = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="web.example")
        with pytest.raises(ssl.SSLWantReadError):
            bio.do_handshake()
        sock.sendall(hello.read())
        assert sock.recv(100) == b""
    client = tunnel(tested.tunnels, "--local=127.0.0.1:1").wait_for("connected")
    assert tested.status("http://web.example/") == 502
    assert client.process.running  # T-16: a failed dial is one visitor's affair
    assert tested.metric("tfgateway_tunnels") == 1


def test_t2_slowloris_on_handshake_and_frames_keeps_nobody_out(
    gateway: Any, services: Services, tunnel: Any, site: Any
) -> None:
    services.put("web.example", secret=SECRET)
    tested = gateway("head_timeout = 1.0")
    slow = [socket.create_connection(("127.0.0.1", tested.tunnels)) for _ in range(100)]
    for number, sock in enumerate(slow):
        sock.sendall(encode(Kind.WINDOW_UPDATE, Flag.SYN, 1, 0)[: number % 12 + 1])
    tunnel(tested.tunnels, *site).wait_for("connected")
    assert tested.page("http://web.example/") == "page of plain"
    for sock in slow:
        sock.settimeout(LIMIT)
        assert sock.recv(100) in (b"", encode(Kind.WINDOW_UPDATE, Flag.ACK, 1, 0))
        sock.close()
    assert tested.page("http://web.example/") == "page of plain"


def test_t2_an_idle_visitor_is_cut(
    gateway: Any, services: Services, tunnel: Any, serving: Any, tcp_server: Any
) -> None:
    def echo(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            sock.sendall(data)

    services.put("web.example", secret=SECRET)
    tested = gateway("idle_timeout = 2.0")
    client = tunnel(tested.tunnels, f"--local=127.0.0.1:{serving(tcp_server, echo).port}").wait_for("connected")
    head = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n"
    with tested.connect() as visitor:
        visitor.sendall(head)
        assert visitor.recv(len(head), socket.MSG_WAITALL) == head
        begun = time.monotonic()
        for _ in range(4):  # whoever says a word now and then stays
            time.sleep(0.6)
            visitor.sendall(b"x")
            assert visitor.recv(1) == b"x"
        assert time.monotonic() - begun > 2.0
        with pytest.raises(ConnectionResetError):
            visitor.recv(1)
    assert [visit["outcome"] for visit in tested.visits(1)] == ["idle"]
    assert tested.metric("tfgateway_tunnel_streams_total", outcome="idle") == 1
    assert client.process.running


def test_without_redis_clients_come_and_visitors_are_served(
    gateway: Any, services: Services, tunnel: Any, site: Any, redis_server: RedisServer
) -> None:
    """Of a reservation, and of the operator's own service behind a tunnel."""
    services.put("web.example", secret=SECRET)
    tested = gateway('[[proxy.services]]\nnames = ["own.example"]\ntunnel_secret = "operators-own"')
    redis_server.stop()
    tested.process.wait_log("redis is away")
    for secret, host in ((SECRET, "web.example"), ("operators-own", "own.example")):
        assert tested.status(f"http://{host}/") == 503
        tunnel(tested.tunnels, *site, secret=secret).wait_for("connected")
        assert tested.page(f"http://{host}/") == "page of plain"
    assert "operators-own" not in tested.process.log  # T-13


def test_64_kib_of_garbage_harm_nobody(gateway: Any, services: Services, tunnel: Any, site: Any) -> None:
    """On each port: raw, as a record of TLS, as payload of a stream that nobody opened, on one that is open."""
    services.put("web.example", secret=SECRET)
    tested = gateway("head_timeout = 1.0")
    tunnel(tested.tunnels, *site).wait_for("connected")
    for begin in (b"", b"\x16\x03\x01\x40\x00", bytes(8), encode(Kind.WINDOW_UPDATE, Flag.SYN, 1, 0)):
        garbage = begin + hashlib.shake_128(begin).digest(65536)
        for port in (tested.http, tested.tls, tested.tunnels):
            with tested.connect(port) as stranger, contextlib.suppress(ConnectionError):
                stranger.sendall(garbage)
                while stranger.recv(65536):
                    pass
        assert tested.page("http://web.example/") == "page of plain"
    assert "Traceback" not in tested.process.log
    assert '"level": "error"' not in tested.process.log


def test_t12_descriptors_and_memory_return_to_the_base_line(
    gateway: Any, services: Services, tunnel: Any, serving: Any, tcp_server: Any
) -> None:
    def page_or_flood(sock: socket.socket) -> None:
        if b"/flood" in sock.recv(65536):
            while True:
                sock.sendall(bytes(65536))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage")

    services.put("web.example", secret=SECRET)
    tested = gateway("max_connections_per_source = 5000")
    client = tunnel(tested.tunnels, f"--local=127.0.0.1:{serving(tcp_server, page_or_flood).port}")
    client.wait_for("connected")

    def crowd() -> None:
        for _ in range(3):
            urls = [part for _ in range(100) for part in ("http://web.example/", "-o", "/dev/null")]
            tested.curl(urls[0], "-o", "/dev/null", "-Z", "--parallel-max", "100", "-H", "Connection: close", *urls)
        for number in range(50):
            tested.connect().close()
            raw(tested.tunnels, f"7:nobody-{number}", finish=False).close()
        gone = [tested.connect() for _ in range(50)]
        for sock in gone:
            sock.sendall(b"GET /flood HTTP/1.1\r\nHost: web.example\r\n\r\n")
        for sock in gone:
            sock.recv(1000)
            sock.close()  # with much on its way: reset

    def at_rest() -> tuple[int, int]:
        last = (0, 0)
        deadline = time.monotonic() + LIMIT
        while (now := (tested.descriptors(), client.descriptors())) != last or tested.metric(
            "tfgateway_tunnel_streams_active"
        ):
            assert time.monotonic() < deadline
            last = now
            time.sleep(0.5)
        return now

    crowd()
    before = at_rest()
    used = tested.memory(), client.memory()
    crowd()
    crowd()
    after = at_rest()
    assert all(now <= then for now, then in zip(after, before, strict=True)), (before, after)
    for now, then in zip((tested.memory(), client.memory()), used, strict=True):
        assert now < then + 2000, "kB"
    assert tested.page("http://web.example/") == "page"


def test_t21_inside_tls_with_a_verified_certificate(
    gateway: Any,
    services: Services,
    tunnel: Any,
    site: Any,
    certificate: Any,
    free_port: Callable[[], int],
    a_big_body: bytes,
    tmp_path: Path,
) -> None:
    services.put("web.example", secret=SECRET)
    port = free_port()
    tested = gateway(*certificate.for_tunnels(port))
    refused = tunnel(port, *site, "--tls").wait_for("retrying")
    assert "certificate" in refused.lines()[-1]["reason"]
    refused.process.stop()
    wrong_name = tunnel(port, *site, f"--ca={certificate.path}").wait_for("retrying")
    assert "certificate" in wrong_name.lines()[-1]["reason"]
    wrong_name.process.stop()
    named = ("--ca", str(certificate.path), "--tls-name", "web.example")
    tunnel(port, *site, *named).wait_for("connected")
    assert tested.curl("http://web.example/big").stdout == a_big_body
    # Much the other way.
    body = tmp_path / "body"
    body.write_bytes(a_big_body)
    posted = tested.curl("http://web.example/", "--data-binary", f"@{body}")
    assert posted.stdout == hashlib.sha256(a_big_body).hexdigest().encode()


def test_the_workers_tell_redis_whom_they_have(
    gateway: Any, services: Services, tunnel: Any, site: Any, redis_server: RedisServer
) -> None:
    def told() -> dict[str, Any]:
        with redis_server.client() as client:
            found = [client.get(key) for key in client.scan_iter(TUNNELS_PREFIX + "*")]
        return {name: value for raw in found for name, value in decode_tunnels(raw or b"").items()}

    services.put("web.example", secret=SECRET)
    tested = gateway()
    client = tunnel(tested.tunnels, *site).wait_for("connected")
    tested.process.wait_for(told, "a tunnel in redis")
    assert told()[fingerprint(SECRET)].source == "127.0.0.1"
    client.process.stop()
    tested.process.wait_for(lambda: not told(), "no tunnel in redis")


def test_json_log_and_terminal_tell_how_it_stands(tunnel: Any, tmp_path: Path) -> None:
    client = tunnel(1, "--local=127.0.0.1:1").wait_for("retrying")
    last = client.lines()[-1]
    assert last["reason"] == "Connection refused"
    assert last["retry_in"] > 0
    client.process.stop()
    program = Path(sys.executable).with_name("tfgateway")
    command = f"{program} tunnel --remote 127.0.0.1:1 --local 127.0.0.1:1 --secret 7:x"
    shown = subprocess.run(
        ["timeout", "-s", "INT", "4", "script", "-qec", command, "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "127.0.0.1:1" in shown.stdout
    assert "retrying" in shown.stdout


def test_t18_a_static_service_gives_the_service_behind_the_tunnel_the_address(
    gateway: Any, tunnel: Any, serving: Any, tcp_server: Any
) -> None:
    heard = []

    def service(sock: socket.socket) -> None:
        heard.append(sock.recv(65536))

    tested = gateway(
        '[[proxy.services]]\nnames = ["home.example"]\ntunnel_secret = "7:s3cr3t-tunnel-key"\nproxy_protocol = "v1"'
    )
    port = serving(tcp_server, service).port
    tunnel(tested.tunnels, f"--local=127.0.0.1:{port}").wait_for("connected")
    with tested.connect() as visitor:
        near, far = visitor.getsockname(), visitor.getpeername()
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: home.example\r\n\r\n")
        assert visitor.recv(100) == b""
    line, _, rest = heard[0].partition(b"\r\n")
    assert line.decode() == f"PROXY TCP4 {near[0]} {far[0]} {near[1]} {far[1]}"
    assert rest in (b"", b"GET / HTTP/1.1\r\nHost: home.example\r\n\r\n")
