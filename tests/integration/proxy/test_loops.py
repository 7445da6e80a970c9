"""Services that lead back to the gateway: one turn, not one connection after the other until a limit is reached."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.proxy.conftest import CDN_LOOP, Services
from tests.support.tls import client_hello

INTERNAL_ERROR = bytes([21, 3, 3, 0, 2, 2, 80])


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def ended(tested: Any) -> list[str]:
    return sorted(visit["outcome"] for visit in tested.visits(2))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("by_operator", [False, True])
def test_a_name_that_leads_to_the_gateways_own_port(
    workers: int, by_operator: bool, services: Services, gateway: Any, free_port: Callable[[], int]
) -> None:
    """Whichever worker gets what it or another one has dialled; the visitor learns why, in its own protocol."""
    http, tls = free_port(), free_port()
    lines = [
        f"workers = {workers}",
        f'[[proxy.services]]\nnames = ["own.example"]\n'
        f'targets = [{{ address = "127.0.0.1", http_port = {http}, tls_port = {tls} }}]',
    ]
    name = "own.example" if by_operator else "tenant.example"
    services.put("tenant.example", http=http, tls=tls)
    tested = gateway(*lines[: 1 + by_operator], http=http, tls=tls)
    with tested.connect() as visitor:
        visitor.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        assert read_to_end(visitor).startswith(b"HTTP/1.1 508 ")
    assert ended(tested) == ["closed", "loop"]
    with tested.connect(tested.tls, source="127.0.0.2") as visitor:
        visitor.sendall(client_hello(name))
        assert read_to_end(visitor) == INTERNAL_ERROR
    assert sorted(visit["outcome"] for visit in tested.visits(4)) == ["closed", "closed", "loop", "loop"]


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_without_any_mark_that_lead_to_the_gateways_own_port(
    workers: int, gateway: Any, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """No TLS at the TLS port: it is for the plain port of the service that takes what has no name."""
    tls = free_port()
    routes = tmp_path / "router.toml"
    routes.write_text(f'[server.services.CATCH_ALL]\naddr = "127.0.0.1"\nhttpport = {tls}\n')
    tested = gateway(f"workers = {workers}", f'router_toml = "{routes}"', tls=tls)
    with tested.connect(tls) as visitor:
        visitor.sendall(b"SSH-2.0-client\r\n")
        assert read_to_end(visitor) == b""
    assert ended(tested) == ["closed", "loop"]
    assert tested.process.log.count("visitor comes from this gateway itself") == 1


def test_a_client_on_this_host_is_no_loop(services: Services, gateway: Any, serving: Any, tcp_server: Any) -> None:
    """From an address of the gateway, and with a port that it dialled from before."""
    server = serving(tcp_server, lambda sock: sock.sendall(sock.recv(100)))
    services.put("raw.example", http=server.port)
    tested = gateway()
    head = b"GET / HTTP/1.1\r\nHost: raw.example\r\n\r\n"
    for _ in range(20):
        with tested.connect() as visitor:
            visitor.sendall(head)
            assert visitor.recv(100) == head
    assert {visit["outcome"] for visit in tested.visits(20)} == {"closed"}


def leads_to(*, http: int, tls: int) -> str:
    """A service of the operator, at another gateway."""
    return (
        '[[proxy.services]]\nnames = ["far.example"]\n'
        f'targets = [{{ address = "127.0.0.1", http_port = {http}, tls_port = {tls} }}]'
    )


def test_two_gateways_that_lead_to_each_other(gateway: Any, free_port: Callable[[], int]) -> None:
    """RFC 8586: the request comes back with what the first one added, and with the name that it had."""
    first_port, second_port = free_port(), free_port()
    first = gateway(leads_to(http=second_port, tls=1), http=first_port)
    second = gateway(leads_to(http=first_port, tls=1), http=second_port)
    with first.connect() as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: far.example\r\n\r\n")
        assert read_to_end(visitor).startswith(b"HTTP/1.1 508 ")
    assert ended(first) == ["closed", "loop"]
    assert [visit["outcome"] for visit in second.visits(1)] == ["closed"]


def test_two_gateways_that_lead_to_each_other_over_tls(gateway: Any, free_port: Callable[[], int]) -> None:
    """The same ClientHello comes back from an address that it did not come from."""
    first_port, second_port = free_port(), free_port()
    first = gateway(leads_to(http=1, tls=second_port), tls=first_port)
    second = gateway(leads_to(http=1, tls=first_port), tls=second_port)
    with first.connect(first_port, source="127.0.0.2") as visitor:
        visitor.sendall(client_hello("far.example"))
        assert read_to_end(visitor) == INTERNAL_ERROR
    assert ended(first) == ["closed", "loop"]
    assert [visit["outcome"] for visit in second.visits(1)] == ["closed"]
    assert first.process.log.count("connection was here before") == 1


def test_a_loop_over_tls_ends_also_when_the_visitor_has_the_address_of_a_gateway(
    gateway: Any, free_port: Callable[[], int]
) -> None:
    """Both are at 127.0.0.1 here: it could be a client that sends what it has recorded, so it ends a little later."""
    first_port, second_port = free_port(), free_port()
    first = gateway(leads_to(http=1, tls=second_port), tls=first_port)
    second = gateway(leads_to(http=1, tls=first_port), tls=second_port)
    with first.connect(first_port) as visitor:
        visitor.sendall(client_hello("far.example"))
        assert read_to_end(visitor) == INTERNAL_ERROR
    assert sorted(visit["outcome"] for visit in first.visits(18)) == ["closed"] * 17 + ["loop"]
    assert {visit["outcome"] for visit in second.visits(17)} == {"closed"}


def test_a_request_for_another_name_of_the_same_gateway_is_no_loop(services: Any, gateway: Any, serving: Any) -> None:
    """A service may use another one, and pass on the field as RFC 8586 asks it to."""
    seen: list[bytes] = []

    class Raw:
        """Keeps the first bytes of each connection."""

        def __init__(self) -> None:
            self._socket = socket.create_server(("127.0.0.1", 0))
            self.port = self._socket.getsockname()[1]
            threading.Thread(target=self._run, daemon=True).start()

        def _run(self) -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = self._socket.accept()
                    with connection:
                        seen.append(connection.recv(65536))
                        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

        def close(self) -> None:
            self._socket.close()

    raw = serving(Raw)
    for name in ("one.example", "two.example"):
        services.put(name, http=raw.port)
    tested = gateway()

    def ask(name: str, field: bytes = b"") -> bytes:
        with tested.connect() as visitor:
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (name.encode(), field))
            return read_to_end(visitor)[:13]

    assert ask("one.example") == b"HTTP/1.1 204 "
    (added,) = CDN_LOOP.findall(seen[0])
    assert seen[0] == b"GET / HTTP/1.1\r\n" + added + b"Host: one.example\r\n\r\n"
    assert ask("two.example", added) == b"HTTP/1.1 204 "
    assert ask("one.example", b"cdn-loop: other.example, " + added[len("CDN-Loop: ") :]) == b"HTTP/1.1 508 "
    assert ask("one.example", b"X-Copy: " + added[len("CDN-Loop: ") :]) == b"HTTP/1.1 204 "
