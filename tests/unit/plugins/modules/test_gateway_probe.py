"""Asking a gateway from outside."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import pytest
from ansible_collections.tfgrid.gateway.plugins.modules import gateway_probe
from tfgateway.proxy.parse.clienthello import ClientHelloParser
from tfgateway.tunnel.yamux.connection import Role, YamuxConnection
from tfgateway.tunnel.yamux.windows import WindowBudget


def served(answer: Callable[[socket.socket], None]) -> int:
    """A port at which one connection is answered."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, listening.accept()[0] as link:
            answer(link)

    threading.Thread(target=serve, daemon=True).start()
    port: int = listening.getsockname()[1]
    return port


def reply(**change: object) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(gateway_probe.soa_query("gw1.example", 7)))
    message.flags |= dns.flags.AA
    if not change.get("empty"):
        message.answer = [dns.rrset.from_text("gw1.example.", 60, "IN", "SOA", "ns1.example. h.example. 1 2 3 4 5")]
    message.set_rcode(change.get("rcode", dns.rcode.NOERROR))  # type: ignore[arg-type]
    if change.get("lame"):
        message.flags &= ~dns.flags.AA
    return message.to_wire()


def test_the_query_is_one_for_the_zones_start() -> None:
    (question,) = dns.message.from_wire(gateway_probe.soa_query("gw1.example.", 7)).question
    assert question.to_text() == "gw1.example. IN SOA"


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (reply(), ""),
        (reply(rcode=dns.rcode.SERVFAIL), "RCODE 2"),
        (reply(lame=True), "not authoritative"),
        (reply(empty=True), "no SOA record"),
        (b"short", "no DNS message"),
        (gateway_probe.soa_query("gw1.example", 7), "not the reply to the query"),
    ],
)
def test_only_an_authoritative_answer_is_well(wire: bytes, why: str) -> None:
    assert gateway_probe.check_reply(wire, 7) == why


def test_http() -> None:
    assert (
        gateway_probe.ask_http("127.0.0.1", served(lambda link: link.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n"))) == ""
    )
    assert gateway_probe.ask_http("127.0.0.1", served(lambda link: link.sendall(b"SSH-2.0-x"))) == "no HTTP answer"


def test_tls_is_asked_for_a_name_and_an_alert_or_an_orderly_end_are_answers() -> None:
    asked = []

    def answer(link: socket.socket, alert: bytes) -> None:
        asked.append(ClientHelloParser().feed(link.recv(4096)))
        link.sendall(alert)

    for alert in (b"\x15\x03\x03\0\x02\x02\x70", b""):
        assert gateway_probe.ask_tls("127.0.0.1", served(lambda link, alert=alert: answer(link, alert))) == ""
    assert [hello and hello.server_name for hello in asked] == ["gateway-probe.invalid"] * 2


def test_tls_that_is_reset_or_silent_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(link: socket.socket) -> None:
        link.recv(4096)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with pytest.raises(ConnectionResetError):
        gateway_probe.ask_tls("127.0.0.1", served(reset))
    monkeypatch.setattr(gateway_probe, "_ATTEMPT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        gateway_probe.ask_tls("127.0.0.1", silent.getsockname()[1])


def test_the_tunnel_port_answers_before_it_has_heard_a_secret() -> None:
    def answer(link: socket.socket) -> None:
        connection = YamuxConnection(Role.SERVER, max_streams=1, budget=WindowBudget(0))
        assert list(connection.receive(memoryview(link.recv(4096)))) == []
        link.sendall(b"".join(connection.outgoing))

    assert gateway_probe.ask_tunnel("127.0.0.1", served(answer)) == ""
    for other in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        port = served(lambda link, other=other: (link.recv(4096), link.sendall(other)))
        assert gateway_probe.ask_tunnel("127.0.0.1", port) == "no tunnel server"


def test_what_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    wanted = {"address": "127.0.0.1", "zone": "", "dns_port": 0, "http_port": port, "tls_port": 0, "tunnel_port": 0}
    assert "refused" in gateway_probe.probe({**wanted, "timeout": 0.1})["http"]
