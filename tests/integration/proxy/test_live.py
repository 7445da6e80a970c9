"""Services come, change and go while the proxy runs; redis may go away."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.proxy.conftest import Services
from tests.support.processes import CommandLine, RedisServer


def served(tested: Any, url: str, page: str) -> Callable[[], bool]:
    """A condition to wait for."""
    return lambda: tested.page(url) == page


@pytest.fixture
def webs(serving: Callable[..., Any], web_server: Any) -> dict[str, Any]:
    return {name: serving(web_server, name) for name in ("one", "two")}


def test_services_are_added_changed_and_removed_at_once(webs: dict[str, Any], services: Services, gateway: Any) -> None:
    tested = gateway()
    url = "http://web.example/"
    assert tested.status(url) == 404
    services.put("web.example", http=webs["one"].port)
    tested.process.wait_for(served(tested, url, "page of one"), "the service")
    services.put("web.example", http=webs["two"].port)
    tested.process.wait_for(served(tested, url, "page of two"), "its change")
    services.remove("web.example")
    tested.process.wait_for(lambda: tested.status(url) == 404, "its end")


def test_r2_a_redis_that_asks_for_a_password_is_read(
    webs: dict[str, Any], services: Services, tfgateway: CommandLine, configuration: Any, redis_server: RedisServer
) -> None:
    services.put("web.example", http=webs["one"].port)
    text, ports = configuration()
    with redis_server.client() as client:
        client.config_set("requirepass", "s3cr3t")
    tfgateway("proxy", config=text.replace("redis://", "redis://:s3cr3t@"))
    with socket.create_connection(("127.0.0.1", ports["http"]), 10) as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
        assert read_until(visitor, b"page of one")


def test_a_change_leaves_open_connections_alone(webs: dict[str, Any], services: Services, gateway: Any) -> None:
    services.put("web.example", http=webs["one"].port)
    tested = gateway()
    request = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n"
    with tested.connect() as visitor:
        visitor.sendall(request)
        assert read_until(visitor, b"page of one")
        services.remove("web.example")
        tested.process.wait_for(lambda: tested.status("http://web.example/") == 404, "its end")
        visitor.sendall(request)
        assert read_until(visitor, b"page of one")


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = sock.recv(65536)
        assert part, f"ended after {data!r}"
        data += part
    return data


def test_without_redis_known_services_go_on(
    webs: dict[str, Any], services: Services, gateway: Any, redis_server: RedisServer
) -> None:
    services.put("web.example", http=webs["one"].port)
    tested = gateway()
    redis_server.stop()
    tested.process.wait_log("redis is away")
    assert tested.page("http://web.example/") == "page of one"
    assert tested.status("http://other.example/") == 404
    redis_server.start()
    services.put("other.example", http=webs["two"].port)
    tested.process.wait_for(served(tested, "http://other.example/", "page of two"), "redis to be followed again")
    assert tested.page("http://web.example/") == "page of one"


def test_an_emptied_redis_is_believed(
    webs: dict[str, Any], services: Services, gateway: Any, redis_server: RedisServer
) -> None:
    services.put("web.example", http=webs["one"].port)
    tested = gateway()
    with redis_server.client() as client:
        client.flushall()
    tested.process.wait_for(lambda: tested.status("http://web.example/") == 404, "nothing to be served")
    services.put("web.example", http=webs["two"].port)
    tested.process.wait_for(served(tested, "http://web.example/", "page of two"), "the service again")


def test_damaged_values_are_skipped_and_logged(webs: dict[str, Any], services: Services, gateway: Any) -> None:
    services.put("good.example", http=webs["one"].port)
    services.put_raw("bad.example", b'{"Value":"czNjcjN0"}')
    services.put_raw("worse.example", b"\xff\x00 s3cr3t")
    services.put("turns-bad.example", http=webs["one"].port)
    tested = gateway()
    assert tested.page("http://good.example/") == "page of one"
    assert tested.status("http://bad.example/") == 404
    assert tested.status("http://worse.example/") == 404
    services.put_raw("turns-bad.example", b"{}")
    tested.process.wait_for(lambda: tested.status("http://turns-bad.example/") == 404, "the damage")
    for name in ("bad.example", "worse.example", "turns-bad.example"):
        assert f'"key": "/tcprouter/service/{name}"' in tested.process.log
    assert "s3cr3t" not in tested.process.log  # T-13
    assert "Traceback" not in tested.process.log
    services.put("bad.example", http=webs["two"].port)
    tested.process.wait_for(served(tested, "http://bad.example/", "page of two"), "the repair")


def test_nobody_is_accepted_before_the_services_are_known(
    webs: dict[str, Any], services: Services, tfgateway: CommandLine, configuration: Any, redis_server: RedisServer
) -> None:
    services.put("web.example", http=webs["one"].port)
    redis_server.stop()
    text, ports = configuration()
    process = tfgateway("proxy", config=text, ready=False)
    process.wait_log("redis is away")
    assert "READY=1" not in process.notifications
    for port in (ports["http"], ports["tls"]):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    redis_server.start()
    process.wait_ready()
    with socket.create_connection(("127.0.0.1", ports["http"]), 30) as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
        assert read_until(visitor, b"page of one")


def test_a_stop_while_waiting_for_redis(tfgateway: CommandLine, configuration: Any, redis_server: RedisServer) -> None:
    redis_server.stop()
    text, _ = configuration()
    process = tfgateway("proxy", config=text, ready=False)
    process.wait_log("redis is away")
    assert process.stop() == 0
