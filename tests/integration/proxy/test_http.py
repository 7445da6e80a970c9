"""The plain port: real curl, real web servers, real redis."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.proxy.conftest import Services
from tests.support.processes import CommandLine


def answer(gateway: Any, request: bytes) -> bytes:
    """All that comes back for these bytes, to the end."""
    with gateway.connect() as visitor:
        visitor.sendall(request)
        return read_to_end(visitor)


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while part := sock.recv(65536):
        data += part
    return data


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = sock.recv(1)
        assert part, f"ended after {data!r}"
        data += part
    return data


@pytest.fixture
def web(serving: Callable[..., Any], web_server: Any, services: Services) -> Any:
    """A web server that web.example leads to."""
    server = serving(web_server, "web.example")
    services.put("web.example", http=server.port)
    return server


def test_page_over_http(web: Any, gateway: Any) -> None:
    tested = gateway()
    assert tested.page("http://web.example/") == "page of web.example"
    [visit] = tested.visits(1)
    assert visit["listener"] == "http"
    assert visit["host"] == "web.example"
    assert visit["source"] == "127.0.0.1"
    assert visit["target"] == f"127.0.0.1:{web.port}"
    assert visit["outcome"] == "closed"
    assert visit["to_target"] > 60
    assert visit["to_visitor"] > 19


@pytest.mark.usefixtures("web")
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nhOST:WEB.Example.:80\r\nConnection: close\r\n\r\n",
        b"GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\nhost: web.example\n\n",
    ],
)
def test_t6_names_in_all_their_forms(gateway: Any, request_bytes: bytes) -> None:
    assert answer(gateway(), request_bytes).endswith(b"page of web.example")


def test_t6_a_head_a_byte_at_a_time(web: Any, gateway: Any) -> None:
    tested = gateway()
    with tested.connect() as visitor:
        visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n":
            visitor.sendall(bytes((byte,)))
        assert read_to_end(visitor).endswith(b"page of web.example")
    assert web.accepted == 1


def test_unknown_host_is_told_and_nothing_is_dialled(web: Any, gateway: Any) -> None:
    tested = gateway()
    done = tested.curl("http://other.example/", "-i")
    assert done.stdout.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"<h1>404 Not Found</h1>" in done.stdout
    assert tested.status("http://other.example/", "--head") == 404
    assert tested.status("http://sub.web.example/") == 404
    assert {visit["outcome"] for visit in tested.visits(3)} == {"unknown_host"}
    assert web.accepted == 0


def test_t6_a_bad_request_is_told_and_nothing_is_dialled(web: Any, gateway: Any) -> None:
    tested = gateway()
    requests = {
        b"GET / HTTP/1.1\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: web.example\r\nHost: other.example\r\n\r\n": 400,
        b"GET http://other.example/ HTTP/1.1\r\nHost: web.example\r\n\r\n": 400,
        b"\x16\x03\x01\x02\x00\x01": 400,
        b"GET / HTTP/1.1\r\nHost: web.example\r\nX: " + b"x" * 70_000 + b"\r\n\r\n": 431,
        b"CONNECT web.example:443 HTTP/1.1\r\nHost: web.example\r\n\r\n": 501,
        b"GET / HTTP/2.0\r\nHost: web.example\r\n\r\n": 505,
    }
    assert {sent: int(answer(tested, sent).split()[1]) for sent in requests} == requests
    assert {visit["outcome"] for visit in tested.visits(len(requests))} == {"bad_request"}
    assert web.accepted == 0


def test_t5_a_head_without_end_is_refused_at_64_kib(web: Any, gateway: Any) -> None:
    tested = gateway()
    head = b"GET / HTTP/1.1\r\nHost: web.example\r\nX: " + b"x" * 200_000
    assert answer(tested, head).startswith(b"HTTP/1.1 431 ")
    assert web.accepted == 0


def test_http2_without_negotiation_gets_a_clear_end(web: Any, gateway: Any) -> None:
    tested = gateway()
    done = tested.curl("http://web.example/", "--http2-prior-knowledge", "--verbose", check=False)
    assert done.returncode == 16  # CURLE_HTTP2
    assert b"GOAWAY, error=13" in done.stderr  # HTTP_1_1_REQUIRED
    assert tested.visits(1)[0]["outcome"] == "http2_preface"
    assert web.accepted == 0


@pytest.mark.usefixtures("web")
def test_t11_later_requests_of_a_connection_follow_the_first(gateway: Any) -> None:
    """Documented behaviour: the connection belongs to the service that its first request named."""
    with gateway().connect() as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
        assert read_until(visitor, b"page of web.example")
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n")
        assert read_to_end(visitor).endswith(b"page of web.example")


@pytest.mark.usefixtures("web")
@pytest.mark.parametrize("encoding", ["Content-Length", "chunked"])
def test_big_body_to_the_target(gateway: Any, tmp_path: Path, encoding: str, a_big_body: bytes) -> None:
    file = tmp_path / "body"
    file.write_bytes(a_big_body)
    options = ["--data-binary", f"@{file}", *(["-H", "Transfer-Encoding: chunked"] if encoding == "chunked" else [])]
    assert gateway().page("http://web.example/", *options) == hashlib.sha256(a_big_body).hexdigest()


@pytest.mark.usefixtures("web")
def test_big_body_to_the_visitor(gateway: Any, a_big_body: bytes) -> None:
    tested = gateway()
    received = tested.curl("http://web.example/big").stdout
    assert hashlib.sha256(received).digest() == hashlib.sha256(a_big_body).digest()
    assert tested.visits(1)[0]["to_visitor"] > len(a_big_body)


def test_upgraded_connection_carries_any_bytes(
    serving: Callable[..., Any], tcp_server: Any, services: Services, gateway: Any
) -> None:
    """As a WebSocket does: after the upgrade both sides send when they like, NUL and CR LF included."""

    def upgrade(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nserver first"
        )
        while data := connection.recv(65536):
            connection.sendall(data[::-1])

    services.put("ws.example", http=serving(tcp_server, upgrade).port)
    with gateway().connect() as visitor:
        visitor.sendall(b"GET /ws HTTP/1.1\r\nHost: ws.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        assert read_until(visitor, b"server first").startswith(b"HTTP/1.1 101 ")
        for frame in (b"\x81\x05hello", b"\0\r\n\r\n\xff"):
            visitor.sendall(frame)
            assert read_until(visitor, frame[::-1]) == frame[::-1]


def test_a_service_without_a_plain_port_is_unknown_here(web: Any, services: Services, gateway: Any) -> None:
    services.put("tls-only.example", tls=web.port)
    tested = gateway()
    assert tested.status("http://tls-only.example/") == 404
    assert web.accepted == 0


def test_a_tunnelled_service_is_not_connected(web: Any, services: Services, gateway: Any) -> None:
    services.put("tunnel.example", http=web.port, secret="7:s3cr3t-tunnel-key")
    tested = gateway()
    assert tested.status("http://tunnel.example/") == 503
    assert tested.visits(1)[0]["outcome"] == "no_tunnel"
    assert web.accepted == 0
    assert "s3cr3t" not in tested.process.log  # T-13


def test_t15_a_denied_target_is_not_dialled(web: Any, services: Services, gateway: Any) -> None:
    """127.0.0.1 is opened by this test's settings, 127.0.0.2 leads to the same server and is not."""
    services.put("inner.example", address="127.0.0.2", http=web.port)
    services.put("mapped.example", address="::ffff:127.0.0.2", http=web.port)
    tested = gateway()
    assert tested.status("http://inner.example/") == 502
    assert tested.status("http://mapped.example/") == 502
    for visit in tested.visits(2):
        assert visit["outcome"] == "target_denied"
        assert visit["detail"] == "a loopback address"
    assert web.accepted == 0


def test_t1_an_address_that_is_no_literal_is_no_service(web: Any, services: Services, gateway: Any) -> None:
    for domain, address in (("empty.example", ""), ("name.example", "localhost")):
        services.put(domain, address=address, http=web.port)
    tested = gateway()
    assert tested.status("http://empty.example/") == 404
    assert tested.status("http://name.example/") == 404
    assert tested.process.log.count("addr is not an IP address") == 2
    assert tested.page("http://web.example/") == "page of web.example"


def test_t8_t9_names_in_redis_that_would_capture_others(web: Any, services: Services, gateway: Any) -> None:
    services.put("", http=web.port, tls=web.port)
    services.put("CATCH_ALL", http=web.port, tls=web.port)
    tested = gateway()
    assert tested.status("http://other.example/") == 404
    assert answer(tested, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    assert answer(tested, b"GET / HTTP/1.1\r\nHost:\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    assert web.accepted == 0


@pytest.fixture
def router_toml(tmp_path: Path, serving: Callable[..., Any], web_server: Any) -> str:
    """An old file: a service in capitals, one that redis names too, CATCH_ALL, one that cannot be used."""
    ports = {name: serving(web_server, name).port for name in ("static", "override", "catch-all")}
    path = tmp_path / "router.toml"
    path.write_text(
        "\n".join(
            [
                "[server]",
                'addr = "0.0.0.0"',
                'dbbackend = { type = "redis", addr = "127.0.0.1", password = "s3cr3t" }',
                f'services."Static.Example" = {{ addr = "127.0.0.1", httpport = {ports["static"]} }}',
                f'services."web.example" = {{ ADDR = "127.0.0.1", HttpPort = {ports["override"]} }}',
                f'services.CATCH_ALL = {{ addr = "127.0.0.1", httpport = {ports["catch-all"]} }}',
                'services."bad.example" = { addr = "localhost", clientsecret = "" }',
                'services."tunnel.example" = { clientsecret = "s3cr3t" }',
            ]
        )
    )
    return f'router_toml = "{path}"'


@pytest.mark.usefixtures("web")
def test_t19_static_services_come_first_and_catch_all_last(
    router_toml: str, services: Services, gateway: Any, web: Any
) -> None:
    services.put("redis.example", http=web.port)
    tested = gateway(router_toml)
    assert tested.page("http://STATIC.example/") == "page of static"
    assert tested.page("http://web.example/") == "page of override"
    assert tested.page("http://redis.example/") == "page of web.example"
    assert tested.page("http://other.example/") == "page of catch-all"
    assert answer(tested, b"GET / HTTP/1.0\r\n\r\n").endswith(b"page of catch-all")  # T-8
    assert "bad.example" in tested.process.log
    assert "s3cr3t" not in tested.process.log  # T-13


def test_a_missing_router_toml_is_a_wrong_configuration(tfgateway: CommandLine, configuration: Any) -> None:
    text, _ = configuration('router_toml = "/nonexistent/router.toml"')
    done = tfgateway.run("proxy", config=text)
    assert done.returncode == 2
    assert "tfgateway: error: proxy.router_toml: /nonexistent/router.toml: cannot be read" in done.stderr


def test_t13_text_of_strangers_is_escaped_in_the_log(gateway: Any) -> None:
    tested = gateway()
    assert answer(tested, b"GET / HTTP/1.1\r\nHost: \x1b[31mred\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert answer(tested, b'GET / HTTP/1.1\r\nHost: a"b\r\n\r\n').startswith(b"HTTP/1.1 400 ")
    tested.visits(2)
    assert "\x1b" not in tested.process.log


def test_acme_http_01_reaches_the_service(serving: Any, tcp_server: Any, services: Services, gateway: Any) -> None:
    """Its owner proves the name himself: the gateway answers nothing of its own."""
    asked = []

    def authority(connection: socket.socket) -> None:
        asked.append(connection.recv(65536).split(b"\r\n")[0])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nproof")

    services.put("acme.example", http=serving(tcp_server, authority).port)
    tested = gateway()
    assert tested.page("http://acme.example/.well-known/acme-challenge/t0k3n") == "proof"
    assert asked == [b"GET /.well-known/acme-challenge/t0k3n HTTP/1.1"]


def test_names_of_internationalised_domains(serving: Any, web_server: Any, gateway: Any, tmp_path: Path) -> None:
    """As an operator writes them in both files, and as browsers ask for them."""
    port = serving(web_server, "books").port
    old = tmp_path / "router.toml"
    old.write_text(f'[server.services."Bücher.example"]\naddr = "127.0.0.1"\nhttpport = {port}\n', "utf-8")
    new = f'[[proxy.services]]\nnames = ["straße.example"]\ntargets = [{{ address = "127.0.0.1", http_port = {port} }}]'
    tested = gateway(f'router_toml = "{old}"', new)
    for host in ("xn--bcher-kva.example", "XN--bcher-KVA.example", "xn--strae-oqa.example"):
        assert tested.page(f"http://{host}/") == "page of books"
    assert tested.status("http://xn--bcher-oqa.example/") == 404
