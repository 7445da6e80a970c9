"""Tunnels over several worker processes: any visitor, any worker, reload under load, kill -9."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.proxy.conftest import Services
from tests.support.processes import CommandLine

SECRET = "7:s3cr3t-tunnel-key"
LIMIT = 30.0


def phases(client: Any) -> list[str]:
    return [json.loads(line)["phase"] for line in client.log.splitlines() if line.startswith("{")]


@pytest.fixture
def connected(
    gateway: Any, services: Services, serving: Any, web_server: Any, certificate: Any, tfgateway: CommandLine
) -> Iterator[tuple[Any, Any]]:
    """(gateway with three workers, client)."""
    services.put("web.example", secret=SECRET)
    tested = gateway("workers = 3", "tunnel_grace = 20", "drain_timeout = 20", "max_connections_per_source = 9000")
    plain = serving(web_server, "plain")
    secure = serving(web_server, "secure", certificate.context())
    local = (f"--local=127.0.0.1:{plain.port}", f"--local-tls=127.0.0.1:{secure.port}", f"--secret={SECRET}")
    client = tfgateway(
        "tunnel", f"--remote=127.0.0.1:{tested.tunnels}", "--backoff=0.1", "--json", *local, config="", ready=False
    )
    client.wait_for(lambda: "connected" in phases(client), "connected")
    yield tested, client
    client.kill()


def page(tested: Any, context: ssl.SSLContext | None = None) -> bytes:
    """One visit, one connection. Errors: whatever breaks."""
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", tested.http, timeout=LIMIT)
        connection.request("GET", "/", headers={"Host": "web.example", "Connection": "close"})
    else:
        sock = context.wrap_socket(tested.connect(tested.tls), server_hostname="web.example")
        connection = http.client.HTTPConnection("web.example", timeout=LIMIT)
        connection.sock = sock
        connection.request("GET", "/", headers={"Connection": "close"})
    with contextlib.closing(connection):
        return connection.getresponse().read()


@contextlib.contextmanager
def load(visit: Callable[[], bytes], expected: bytes) -> Iterator[list[str]]:
    """Visits one after the other in the background; gives what went wrong, and how many went well as its last."""
    problems: list[str] = []
    stop = threading.Event()
    done = 0

    def run() -> None:
        nonlocal done
        while not stop.is_set():
            try:
                found = visit()
                if found != expected:
                    problems.append(repr(found[:100]))
            except Exception as error:  # any failure counts
                problems.append(repr(error))
            done += 1

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield problems
    finally:
        stop.set()
        for thread in threads:
            thread.join(LIMIT)
        assert done > 10


def trust(certificate: Any) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.path))


def test_any_worker_serves_any_visitor(connected: Any, certificate: Any) -> None:
    tested, client = connected
    for _ in range(15):
        assert page(tested) == b"page of plain"
        assert page(tested, trust(certificate)) == b"page of secure"
    # The kernel spreads visitors over three listening sockets; the session is in one worker.
    tested.process.wait_for(lambda: tested.outcomes().count("closed") == 30, "thirty visits")
    assert tested.outcomes().count("handed_over") > 0
    assert tested.metric("tfgateway_tunnels") == 1
    assert client.running


def test_reload_under_load_loses_no_visitor_and_the_client_notices_nothing(
    connected: Any, certificate: Any, a_big_body: bytes
) -> None:
    tested, client = connected
    context = trust(certificate)
    # A visitor whose answer is on its way while worker after worker is replaced.
    slow = tested.connect()
    slow.sendall(b"GET /big HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
    received = slow.recv(100_000)
    before = set(tested.process.workers)
    with (
        load(lambda: page(tested), b"page of plain") as plain,
        load(lambda: page(tested, context), b"page of secure") as tls,
    ):
        for _ in range(2):
            workers = set(tested.process.workers)
            tested.process.send_signal(signal.SIGHUP)
            tested.process.wait_for(
                lambda workers=workers: len(found := set(tested.process.workers)) == 3 and not found & workers,
                "three other workers",
            )
            received += slow.recv(1_000_000)
    assert (plain, tls) == ([], [])
    assert not before & set(tested.process.workers)
    while data := slow.recv(1_000_000):
        received += data
    slow.close()
    assert received.partition(b"\r\n\r\n")[2] == a_big_body
    assert phases(client).count("connected") == 1
    assert tested.metric("tfgateway_tunnel_registrations_total", outcome="moved") >= 2
    assert page(tested) == b"page of plain"


def test_t21_reload_under_load_loses_no_visitor_of_a_tunnel_inside_tls(
    gateway: Any,
    services: Services,
    serving: Any,
    web_server: Any,
    certificate: Any,
    tfgateway: CommandLine,
    free_port: Callable[[], int],
    a_big_body: bytes,
) -> None:
    """Its session cannot move: the client comes back before the old one ends, and who is in the old one stays."""
    services.put("web.example", secret=SECRET)
    port = free_port()
    tested = gateway("workers = 2", "max_connections_per_source = 9000", *certificate.for_tunnels(port))
    options = (f"--ca={certificate.path}", "--tls-name=web.example", f"--secret={SECRET}", "--backoff=0.1")
    local = f"--local=127.0.0.1:{serving(web_server, 'plain').port}"
    client = tfgateway("tunnel", f"--remote=127.0.0.1:{port}", "--json", local, *options, config="", ready=False)
    client.wait_for(lambda: "connected" in phases(client), "connected")
    before = set(tested.process.workers)
    with tested.connect() as slow:
        slow.sendall(b"GET /big HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
        received = slow.recv(100_000)
        with load(lambda: page(tested), b"page of plain") as problems:
            tested.process.send_signal(signal.SIGHUP)
            client.wait_for(lambda: phases(client).count("connected") == 2, "connected again")
            tested.process.wait_for(lambda: len(before & set(tested.process.workers)) == 1, "the end of the idle one")
        assert problems == []
        while data := slow.recv(1_000_000):
            received += data
    assert received.partition(b"\r\n\r\n")[2] == a_big_body
    tested.process.wait_for(lambda: not before & set(tested.process.workers), "the end of the other")
    assert page(tested) == b"page of plain"
    assert phases(client) == ["connecting", "waiting", "connected"] * 2
    client.kill()


def test_kill_9_of_the_worker_that_has_the_session(connected: Any) -> None:
    tested, client = connected
    for worker in tested.process.workers:  # one of them has it
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                assert page(tested) == b"page of plain"
            except OSError:  # the connections of the killed worker break, as do those in its queue
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                break
    client.wait_for(lambda: phases(client).count("connected") >= 2, "connected again")
    tested.process.wait_for(lambda: len(tested.process.workers) == 3, "three workers")
    tested.process.wait_for(lambda: tested.metric("tfgateway_tunnels") == 1, "one tunnel")
    for _ in range(10):
        assert page(tested) == b"page of plain"


def test_stop_ends_the_sessions_and_a_start_takes_them_back(
    connected: Any, tfgateway: CommandLine, configuration: Any
) -> None:
    tested, client = connected
    assert tested.process.stop() == 0
    client.wait_for(lambda: "retrying" in phases(client), "retrying")
    assert client.stop() == 0
