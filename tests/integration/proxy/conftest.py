"""A proxy process with its redis, and servers for it to lead to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tfgateway.redis_schema.keys import service_key
from tfgateway.redis_schema.services import Service, encode_service

from tests.support import metrics, procfs
from tests.support.processes import CommandLine, Process, RedisServer

LIMIT = 30.0
"""Seconds after which something that does not come is a failure: far more than a slow machine needs."""

BIG = 20_000_000
"""Octets of a big body."""


def big_body(size: int = BIG) -> bytes:
    """Always the same octets, in which no block repeats another."""
    return b"".join(hashlib.sha256(number.to_bytes(8)).digest() for number in range(size // 32))


CDN_LOOP = re.compile(rb"CDN-Loop: tfgateway-[0-9a-f]{16}-[0-9a-f]{8}\r\n")
"""What the proxy adds to the first request of a connection."""


class _Accepted(socket.socket):
    """A connection whose server does not see what the proxy has added."""

    def recv(self, *arguments: int) -> bytes:
        return CDN_LOOP.sub(b"", super().recv(*arguments))


class Server:
    """A TCP server in threads: ``handle`` gets each accepted, blocking socket and need not close it."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self.accepted = 0
        self._handle = handle
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.accepted += 1
                connection = _Accepted(fileno=connection.detach())
                connection.settimeout(LIMIT)
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._handle(connection)


class _Pages(BaseHTTPRequestHandler):
    """Says who it is; ``/big`` is a big body; a POST is answered with the SHA-256 of what came."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(big_body() if self.path == "/big" else f"page of {self.server.title}".encode())  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        digest = hashlib.sha256()
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers["Content-Length"])
            while left:
                part = self.rfile.read(min(left, 65536))
                digest.update(part)
                left -= len(part)
        self._answer(digest.hexdigest().encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class WebServer(ThreadingHTTPServer):
    """A web server on a free port; over TLS with a context."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, title: str, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)
        self.title = title
        self.accepted = 0
        self.port: int = self.server_address[1]
        if context is not None:
            # The handshake belongs to the thread of the connection, not to the one that accepts.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def get_request(self) -> tuple[Any, Any]:
        self.accepted += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor who breaks off is part of the tests."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


@dataclass
class Certificate:
    """A self-signed certificate of some names."""

    path: Path
    key: Path

    def for_tunnels(self, port: int) -> tuple[str, str, str]:
        """Lines for [proxy]: tunnels inside TLS."""
        return (
            f'listen_tunnels_tls = ["127.0.0.1:{port}"]',
            f'tunnel_certificate = "{self.path}"',
            f'tunnel_key = "{self.key}"',
        )

    def context(self, protocols: list[str] | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        if protocols:
            context.set_alpn_protocols(protocols)
        return context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For web.example and *.web.example."""
    directory = tmp_path_factory.mktemp("certificate")
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    names = "subjectAltName=DNS:web.example,DNS:*.web.example"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(made.key)]
    command = ["openssl", "req", "-x509", *key, "-subj", "/CN=web.example", "-addext", names, "-out", str(made.path)]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture
def serving() -> Iterator[Callable[..., Any]]:
    """``serving(Server, handle)`` and the like: closed after the test."""
    with contextlib.ExitStack() as stack:

        def start(kind: Callable[..., Any], *arguments: Any) -> Any:
            server = kind(*arguments)
            stack.callback(server.close)
            return server

        yield start


class Services:
    """Writes services to redis as the reconciler does."""

    def __init__(self, redis_server: RedisServer) -> None:
        self._redis = redis_server

    def put(self, domain: str, *, address: str = "127.0.0.1", http: int = 0, tls: int = 0, secret: str = "") -> None:
        self.put_raw(domain, encode_service(domain, Service(address, secret, tls, http, "7")))

    def put_raw(self, domain: str, value: bytes) -> None:
        with self._redis.client() as client:
            client.set(service_key(domain), value)

    def remove(self, domain: str) -> None:
        with self._redis.client() as client:
            client.delete(service_key(domain))


@pytest.fixture
def services(redis_server: RedisServer) -> Services:
    """What is put before the proxy starts, it knows when it is ready; later changes: ``gateway.process.wait_for``."""
    return Services(redis_server)


@dataclass
class Gateway:
    """A running proxy and its ports."""

    http: int
    tls: int
    tunnels: int
    metrics_port: int
    process: Process

    def connect(self, port: int | None = None, source: str = "127.0.0.1") -> socket.socket:
        """A blocking connection to the plain port, or to ``port``."""
        return socket.create_connection(("127.0.0.1", port or self.http), LIMIT, (source, 0))

    def curl(self, url: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """The real curl, led to the proxy whatever the name in ``url`` is."""
        port = self.tls if url.startswith("https:") else self.http
        command = ["curl", "-sS", "--noproxy", "*", "--max-time", str(LIMIT), "--connect-to", f"::127.0.0.1:{port}"]
        done = subprocess.run([*command, *options, url], capture_output=True, check=False)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done

    def page(self, url: str, *options: str) -> str:
        return self.curl(url, *options).stdout.decode()

    def status(self, url: str, *options: str) -> int:
        """The HTTP status."""
        return int(self.page(url, "-o", os.devnull, "-w", "%{http_code}", *options))

    def visits(self, count: int) -> list[dict[str, Any]]:
        """The access log once it has ``count`` lines."""
        self.process.wait_for(lambda: len(self._visits()) >= count, f"{count} lines in the access log")
        assert len(self._visits()) == count
        return self._visits()

    def outcomes(self) -> list[str]:
        """Of all visits so far."""
        return [visit["outcome"] for visit in self._visits()]

    def _visits(self) -> list[dict[str, Any]]:
        found = (json.loads(line) for line in self.process.log.splitlines() if line.startswith("{"))
        return [line for line in found if line["event"] == "connection"]

    def metric(self, name: str, **labels: str) -> float:
        """One figure of the metrics page; 0 when it is not there."""
        return metrics.value(self.metrics_port, name, **labels)

    def descriptors(self) -> int:
        """Of the worker."""
        return len(procfs.descriptors(self.process.workers[0]))

    def wait_for_descriptors(self, count: int) -> None:
        self.process.wait_for(lambda: self.descriptors() == count, f"{count} descriptors")

    def memory(self) -> int:
        """kB of the worker."""
        return procfs.memory(self.process.workers[0])

    def held(self) -> int:
        """Descriptors of the worker that has most, but for pipes: a few of them are kept for the next transfers."""
        while True:
            with contextlib.suppress(FileNotFoundError):  # a worker of the last generation has ended in between
                return max(
                    sum(not what.startswith("pipe:") for what in procfs.descriptors(worker))
                    for worker in self.process.workers
                )

    def at_rest(self) -> int:
        """``held`` when workers have found each other."""
        last = -1
        while (now := self.held()) != last:
            last = now
            if len(self.process.workers) > 1:
                time.sleep(0.2)
        return now


@pytest.fixture
def configuration(redis_server: RedisServer, free_port: Callable[[], int]) -> Callable[..., tuple[str, dict[str, int]]]:
    """Call it with lines for [proxy], and ports that are not free ones: the text of a gateway.toml, and its ports."""

    def make(*lines: str, **given: int) -> tuple[str, dict[str, int]]:
        ports = {name: given.get(name) or free_port() for name in ("http", "tls", "tunnels", "metrics_port")}
        text = "\n".join(
            [
                "[redis]",
                f'url = "{redis_server.url}"',
                "[proxy]",
                *(() if any(line.startswith("workers") for line in lines) else ("workers = 1",)),
                f'listen_http = ["127.0.0.1:{ports["http"]}"]',
                f'listen_tls = ["127.0.0.1:{ports["tls"]}"]',
                f'listen_tunnels = ["127.0.0.1:{ports["tunnels"]}"]',
                f'metrics = "127.0.0.1:{ports["metrics_port"]}"',
                'allowed_targets = ["127.0.0.1/32"]',
                "access_log = 1.0",
                *(() if any(line.startswith("tunnel_grace") for line in lines) else ("tunnel_grace = 0.2",)),
                *lines,
            ]
        )
        return text, ports

    return make


@pytest.fixture
def gateway(
    tfgateway: CommandLine, configuration: Callable[..., tuple[str, dict[str, int]]]
) -> Iterator[Callable[..., Gateway]]:
    """Call it with lines for [proxy]: a proxy that accepts visitors. What they took is given back after the test."""
    started: list[tuple[Gateway, int]] = []

    def start(*lines: str, **given: int) -> Gateway:
        text, ports = configuration(*lines, **given)
        one = Gateway(**ports, process=tfgateway("proxy", config=text))
        started.append((one, one.at_rest()))
        return one

    yield start
    for one, base_line in started:
        if one.process.running:
            one.process.wait_for(
                lambda one=one, base_line=base_line: one.held() <= base_line, f"return to {base_line} descriptors"
            )


@pytest.fixture
def tcp_server() -> type[Server]:
    return Server


@pytest.fixture
def web_server() -> type[WebServer]:
    return WebServer


@pytest.fixture(scope="session")
def a_big_body() -> bytes:
    """What the web server's ``/big`` is."""
    return big_body()
