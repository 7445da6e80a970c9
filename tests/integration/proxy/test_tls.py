"""The TLS port: real curl, openssl and OpenSSL-made hellos; TLS itself stays between visitor and target."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.proxy.conftest import Services

UNRECOGNIZED_NAME = bytes([21, 3, 3, 0, 2, 2, 112])
DECODE_ERROR = bytes([21, 3, 3, 0, 2, 2, 50])


@pytest.fixture
def web(serving: Callable[..., Any], web_server: Any, services: Services, certificate: Any) -> Any:
    """A web server over TLS that web.example leads to."""
    server = serving(web_server, "web.example", certificate.context())
    services.put("web.example", tls=server.port)
    return server


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def hello(name: str | None) -> bytes:
    """The first flight of an OpenSSL client."""
    return Client(name).hello()


class Client:
    """A TLS client whose every octet passes through our hands."""

    def __init__(self, name: str | None, *, protocols: int = 0) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if protocols:
            context.set_alpn_protocols([f"proto-{number:04}" for number in range(protocols)])
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def hello(self) -> bytes:
        """The first flight."""
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    def page(self, visitor: socket.socket) -> bytes:
        """Everything after the hello, which was sent: the handshake, a request, its answer."""
        self._drive(visitor, self._tls.do_handshake)
        self._tls.write(b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
        page = b""
        while part := self._drive(visitor, self._tls.read):
            page += part
        return page

    def _drive(self, visitor: socket.socket, step: Callable[[], bytes | None]) -> bytes:
        """Repeat a step of TLS, with what the other side sends in between; b"" at the end of the stream."""
        while True:
            try:
                return step() or b""
            except ssl.SSLWantReadError:
                visitor.sendall(self._outgoing.read())
                received = visitor.recv(65536)
                self._incoming.write(received)
                if not received:
                    self._incoming.write_eof()
            except ssl.SSLEOFError:
                return b""


def records(flight: bytes, size: int) -> bytes:
    """The same handshake messages in records of ``size`` octets."""
    message = b""
    while flight:
        end = 5 + int.from_bytes(flight[3:5])
        message += flight[5:end]
        flight = flight[end:]
    parts = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts)


def test_page_over_https_with_sni(web: Any, gateway: Any, certificate: Any) -> None:
    """The certificate that curl checks is the target's: TLS passes through untouched."""
    tested = gateway()
    assert tested.page("https://web.example/", "--cacert", str(certificate.path)) == "page of web.example"
    [visit] = tested.visits(1)
    assert visit["listener"] == "tls"
    assert visit["host"] == "web.example"
    assert visit["target"] == f"127.0.0.1:{web.port}"
    assert visit["outcome"] == "closed"


@pytest.mark.usefixtures("web")
def test_big_bodies_over_tls(gateway: Any, certificate: Any, tmp_path: Path, a_big_body: bytes) -> None:
    tested = gateway()
    trust = ("--cacert", str(certificate.path))
    file = tmp_path / "body"
    file.write_bytes(a_big_body)
    digest = hashlib.sha256(a_big_body)
    assert tested.page("https://web.example/", *trust, "--data-binary", f"@{file}") == digest.hexdigest()
    assert hashlib.sha256(tested.curl("https://web.example/big", *trust).stdout).digest() == digest.digest()


@pytest.mark.usefixtures("web")
@pytest.mark.parametrize(
    ("protocols", "cut"),
    [
        pytest.param(0, lambda flight: [flight[i : i + 1] for i in range(len(flight))], id="a byte at a time"),
        pytest.param(0, lambda flight: [records(flight, 7)], id="many records"),
        pytest.param(1500, lambda flight: [flight], id="hello of 18 KiB"),
        pytest.param(1500, lambda flight: [records(flight, 1000)[:9000], records(flight, 1000)[9000:]], id="both"),
    ],
)
def test_t7_a_hello_in_any_pieces(gateway: Any, protocols: int, cut: Callable[[bytes], list[bytes]]) -> None:
    tested = gateway()
    with tested.connect(tested.tls) as visitor:
        visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client("web.example", protocols=protocols)
        for piece in cut(client.hello()):
            visitor.sendall(piece)
        assert client.page(visitor).endswith(b"page of web.example")


def test_unknown_name_gets_an_alert_and_nothing_is_dialled(web: Any, gateway: Any) -> None:
    tested = gateway()
    for options in (["-servername", "other.example"], ["-noservername"]):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{tested.tls}", *options]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
        assert b"alert number 112" in done.stderr
    assert [visit["host"] for visit in tested.visits(2)] == ["other.example", ""]
    assert {visit["outcome"] for visit in tested.visits(2)} == {"unknown_host"}
    assert web.accepted == 0


def exchange(tested: Any, data: bytes) -> bytes:
    with tested.connect(tested.tls) as visitor:
        visitor.sendall(data)
        return read_to_end(visitor)


def test_t7_a_bad_hello_gets_an_alert(web: Any, gateway: Any) -> None:
    tested = gateway()
    damaged = bytearray(hello("web.example"))
    damaged[5] = 2
    assert exchange(tested, bytes(damaged)) == DECODE_ERROR
    assert exchange(tested, b"\x16\x03\x01\x40\x00\x01\x01\x00\x00" + bytes(20_000)) == DECODE_ERROR
    assert {visit["outcome"] for visit in tested.visits(2)} == {"bad_request"}
    assert web.accepted == 0


def test_plain_text_on_the_tls_port_is_closed_without_a_word(web: Any, gateway: Any) -> None:
    tested = gateway()
    assert exchange(tested, b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n") == b""
    assert tested.visits(1)[0]["outcome"] == "unknown_host"
    assert web.accepted == 0


def test_acme_tls_alpn_passes_untouched(
    serving: Callable[..., Any], tcp_server: Any, services: Services, gateway: Any, certificate: Any
) -> None:
    context = certificate.context(["acme-tls/1"])
    chosen = []

    def handshake(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            chosen.append(tls.selected_alpn_protocol())
            tls.recv(1)

    services.put("web.example", tls=serving(tcp_server, handshake).port)
    tested = gateway()
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{tested.tls}", "-servername", "web.example"]
    command += ["-alpn", "acme-tls/1"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    assert b"ALPN protocol: acme-tls/1" in done.stdout
    assert chosen == ["acme-tls/1"]


def test_a_service_that_cannot_be_reached_is_closed(
    web: Any, services: Services, gateway: Any, free_port: Callable[[], int]
) -> None:
    services.put("tunnel.example", secret="7:s3cr3t-tunnel-key")
    services.put("dead.example", tls=free_port())
    services.put("denied.example", address="127.0.0.2", tls=web.port)
    services.put("plain-only.example", http=web.port)
    tested = gateway()
    for name, reply, outcome in (
        ("tunnel.example", b"", "no_tunnel"),
        ("dead.example", b"", "dial_failed"),
        ("denied.example", b"", "target_denied"),  # T-15
        ("plain-only.example", UNRECOGNIZED_NAME, "unknown_host"),
    ):
        assert exchange(tested, hello(name)) == reply
        tested.process.wait_log(f'"{outcome}"')
    assert web.accepted == 0


def test_t8_nameless_traffic_goes_to_the_static_catch_all(
    serving: Callable[..., Any], tcp_server: Any, gateway: Any, tmp_path: Path
) -> None:
    """Without SNI to its TLS port, what is no TLS to its plain port, as the old router did."""

    def greet(name: bytes) -> Callable[[socket.socket], None]:
        return lambda connection: connection.sendall(name + connection.recv(3))

    plain, tls = (serving(tcp_server, greet(name)).port for name in (b"plain ", b"tls "))
    path = tmp_path / "router.toml"
    path.write_text(f'[server.services.CATCH_ALL]\naddr = "127.0.0.1"\nhttpport = {plain}\ntlsport = {tls}\n')
    tested = gateway(f'router_toml = "{path}"')
    assert exchange(tested, b"SSH-2.0-x\r\n") == b"plain SSH"
    assert exchange(tested, hello(None)) == b"tls \x16\x03\x01"
    assert exchange(tested, hello("other.example")) == b"tls \x16\x03\x01"
