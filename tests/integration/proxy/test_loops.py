"""Services that lead back to the gateway: one turn, not one connection after the other until a limit is reached."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.proxy.conftest import Services

INTERNAL_ERROR = bytes([21, 3, 3, 0, 2, 2, 80])


def hello(name: str) -> bytes:
    """The first flight of an OpenSSL client."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


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
    with tested.connect(tested.tls) as visitor:
        visitor.sendall(hello(name))
        assert read_to_end(visitor) == INTERNAL_ERROR
    assert sorted(visit["outcome"] for visit in tested.visits(4)) == ["closed", "closed", "loop", "loop"]
    assert tested.process.log.count("visitor comes from this gateway itself") == 2


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
