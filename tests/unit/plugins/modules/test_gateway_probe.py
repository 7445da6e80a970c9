"""Asking a gateway from outside."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import pytest
from ansible_collections.tfgrid.gateway.plugins.modules import gateway_probe


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


def test_http_and_the_tunnel_port() -> None:
    assert (
        gateway_probe.ask_http("127.0.0.1", served(lambda link: link.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n"))) == ""
    )
    assert gateway_probe.ask_http("127.0.0.1", served(lambda link: link.sendall(b"SSH-2.0-x"))) == "no HTTP answer"
    assert gateway_probe.ask_tunnel("127.0.0.1", served(lambda _link: None)) == ""


def test_what_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    wanted = {"address": "127.0.0.1", "zone": "", "dns_port": 0, "http_port": port, "tls_port": 0, "tunnel_port": 0}
    assert "refused" in gateway_probe.probe({**wanted, "timeout": 0.1})["http"]
