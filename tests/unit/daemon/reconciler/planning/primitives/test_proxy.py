"""proxy through plan and apply."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from tfgateway.explorer.models import ResultState
from tfgateway.identity.keys import Identity
from tfgateway.identity.sealing import encrypt_ecdh
from tfgateway.redis_schema.keys import service_key
from tfgateway.redis_schema.services import Service, decode_service, encode_service

OK = (ResultState.OK, "")
KEY = service_key("web.alice.example")


def service(node: Any, domain: str = "web.alice.example") -> Service | None:
    raw = node.get(service_key(domain))
    return None if raw is None else decode_service(raw)


def test_a_proxy_is_written_as_the_old_gateway_writes_it(node: Any) -> None:
    workload = node.proxy(312, "web.alice.example")
    node.settle()
    assert node.answer(workload) == OK
    # as an original gateway has written it
    assert node.text(KEY) == (
        '{"Key":"/tcprouter/service/web.alice.example","Value":"eyJhZGRyIjoiMjAzLjAuMTEzLjEwIiwiY2xpZW50c2VjcmV0IjoiIiwi'
        'dGxzcG9ydCI6NDQzLCJodHRwcG9ydCI6ODAsInVzZXIiOiI3In0="}'
    )
    node.delete(workload)
    node.settle()
    assert node.get(KEY) is None


@pytest.mark.parametrize(
    "domain", ["", "CATCH_ALL", "catch_all", "single", "*.alice.example", "a b.example", "1.2.3.4"]
)
def test_p6_a_proxy_needs_a_real_domain(node: Any, domain: str) -> None:
    workload = node.proxy(312, domain)
    node.settle()
    assert node.answer(workload) == (ResultState.ERROR, f"domain '{domain.lower()}' name is invalid")
    assert not node.strings


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("gw1.example", "it is a managed domain"),
        ("www.bob.example", "zone bob.example belongs to somebody else"),
        ("bob.example", "zone bob.example belongs to somebody else"),
        ("taken.gw1.example", "taken.gw1.example belongs to another user"),
        ("x.taken.gw1.example", "taken.gw1.example belongs to another user"),
        ("www.hand.example", "zone hand.example belongs to somebody else"),
        ("used.org", "the domain is taken by reservation 3-1"),
        ("byhand.org", "unauthorized error"),
        ("damaged.org", "unauthorized error"),
    ],
)
def test_p6_the_name_of_somebody_else_is_refused(node: Any, domain: str, why: str) -> None:
    node.delegate(1, "bob.example", tid=8)
    node.subdomain(2, "taken.gw1.example", "203.0.113.8", tid=8)
    node.proxy(3, "used.org", tid=8)
    node.put("hand.example.", "@", "{}")
    node.put(service_key("byhand.org"), None, encode_service("byhand.org", Service(addr="203.0.113.1")).decode())
    node.put(service_key("damaged.org"), None, "garbage")
    node.settle()
    before = node.rows()
    workload = node.proxy(312, domain)
    node.settle()
    message = node.refusal(workload)
    assert message.startswith(f"cannot add proxy from {domain}: ")
    assert why in message
    assert node.rows() == before


@pytest.mark.parametrize(
    "domain", ["own.gw1.example", "free.gw1.example", "alice.example", "www.alice.example", "out.org"]
)
def test_p6_own_and_free_names_may_be_used(node: Any, domain: str) -> None:
    node.delegate(1, "alice.example")
    node.subdomain(2, "own.gw1.example", "203.0.113.8")
    workload = node.proxy(312, domain.upper())
    node.settle()
    assert node.answer(workload) == OK
    assert service(node, domain) is not None


def test_p6_a_name_of_the_gateway_itself_is_refused(make_node: Callable[..., Any]) -> None:
    """Its user could pass a challenge for a certificate of the gateway's host."""
    node = make_node("gw1.example", own_names=frozenset({"tf-gateway-1.example", "ns1.gw1.example"}))
    user = Identity.from_seed(bytes([7]) * 32)
    node.users["7"] = user.public_key
    secret = encrypt_ecdh(b"7:x", user.seed, node.identity.public_key).hex()
    refused = [
        node.proxy(312, "TF-gateway-1.example"),
        node.reverse_proxy(313, "ns1.gw1.example", secret),
        node.subdomain(314, "ns1.gw1.example", "203.0.113.5"),
    ]
    served = [node.proxy(315, "www.tf-gateway-1.example"), node.subdomain(316, "ns2.gw1.example", "203.0.113.5")]
    node.settle()
    assert [node.answer(workload) for workload in refused] == [
        (ResultState.ERROR, text)
        for text in (
            "cannot add proxy from tf-gateway-1.example: unauthorized error: it is a name of the gateway",
            "cannot add reverse proxy from ns1.gw1.example: unauthorized error: it is a name of the gateway",
            "cannot add subdomain ns1 to zone gw1.example: unauthorized error: it is a name of the gateway",
        )
    ]
    assert [node.answer(workload) for workload in served] == [OK, OK]


def test_p6_a_reservation_that_counts_already_is_served_on(make_node: Callable[..., Any]) -> None:
    before = make_node("gw1.example")
    before.proxy(312, "ns1.gw1.example")
    before.settle()
    after = make_node("gw1.example", own_names=frozenset({"ns1.gw1.example"}))
    after.hashes, after.strings = before.hashes, before.strings
    assert after.settle().steps == ()


def test_p13_a_domain_has_one_reservation(node: Any) -> None:
    first = node.proxy(312, "web.alice.example")
    second = node.proxy(313, "web.alice.example", "203.0.113.11")
    node.settle()
    assert node.answer(first) == OK
    assert node.answer(second) == (
        ResultState.ERROR,
        "cannot add proxy from web.alice.example: unauthorized error: the domain is taken by reservation 312-1",
    )
    assert service(node) == Service(addr="203.0.113.10", tlsport=443, httpport=80, user="7")


def test_p13_removing_a_refused_or_older_one_keeps_the_entry(node: Any) -> None:
    first = node.proxy(312, "web.alice.example")
    node.settle()
    other = node.proxy(310, "web.alice.example", "203.0.113.11")
    node.delete(other)
    made = node.settle()
    assert service(node) is not None
    # Not even for a moment.
    assert not any(row.key == KEY for step in made.steps for row in step.transaction.writes)
    assert node.recorded(first)


def test_p8_the_older_is_removed_before_the_newer_is_looked_at(node: Any) -> None:
    old = node.proxy(312, "web.alice.example")
    node.settle()
    node.acknowledge()
    new = node.proxy(400, "web.alice.example", "203.0.113.11", tid=8)
    node.delete(old)
    node.settle()
    assert node.answer(new) == OK
    assert service(node) == Service(addr="203.0.113.11", tlsport=443, httpport=80, user="8")


@pytest.mark.parametrize(
    ("addr", "port", "tls", "why"),
    [
        ("", 80, 0, "target '' is not an IP address"),
        ("web.example", 80, 0, "target 'web.example' is not an IP address"),
        ("203.0.113.10", 0, 0, "neither port nor port_tls is set"),
        ("203.0.113.10", 65536, 0, "port 65536 is not between 1 and 65535"),
        ("203.0.113.10", 80, 70000, "port 70000 is not between 1 and 65535"),
    ],
)
def test_t1_a_target_is_an_address_with_a_port(node: Any, addr: str, port: int, tls: int, why: str) -> None:
    workload = node.proxy(312, "web.alice.example", addr, port=port, tls=tls)
    node.settle()
    assert node.answer(workload) == (ResultState.ERROR, f"cannot add proxy from web.alice.example: {why}")


@pytest.mark.parametrize(
    ("addr", "why"),
    [
        ("127.0.0.1", "a loopback address"),
        ("::1", "a loopback address"),
        ("169.254.169.254", "a link-local address"),
        ("10.91.7.5", "a private address"),
        ("0.0.0.0", "an unspecified, multicast or reserved address"),
        ("203.0.113.1", "an address of the gateway itself"),
    ],
)
def test_t15_a_denied_target_is_refused_with_the_reason(make_node: Callable[..., Any], addr: str, why: str) -> None:
    node = make_node("gw1.example", own_addresses=frozenset({ipaddress.ip_address("203.0.113.1")}))
    workload = node.proxy(312, "web.alice.example", addr)
    node.settle()
    assert node.answer(workload) == (
        ResultState.ERROR,
        f"cannot add proxy from web.alice.example: target '{addr}' is {why}",
    )


def test_t15_an_allowed_target_is_taken(node: Any) -> None:
    workload = node.proxy(312, "web.alice.example", "10.91.7.6")
    node.settle()
    assert node.answer(workload) == OK


def test_one_port_is_enough(node: Any) -> None:
    workload = node.proxy(312, "web.alice.example", port=0, tls=443)
    node.settle()
    assert node.answer(workload) == OK
    assert service(node) == Service(addr="203.0.113.10", tlsport=443, httpport=0, user="7")


def test_an_entry_that_somebody_else_took_over_is_not_removed(node: Any) -> None:
    workload = node.proxy(312, "web.alice.example")
    node.settle()
    node.put(KEY, None, encode_service("web.alice.example", Service(addr="203.0.113.1")).decode())
    node.delete(workload)
    node.settle()
    assert service(node) == Service(addr="203.0.113.1")


def test_drift_is_repaired(node: Any) -> None:
    node.proxy(312, "web.alice.example")
    node.settle()
    for foreign in ("garbage", encode_service("x", Service(addr="203.0.113.1")).decode()):
        node.put(KEY, None, foreign)
        node.settle()
        assert service(node) == Service(addr="203.0.113.10", tlsport=443, httpport=80, user="7")
    node.strings.clear()
    node.settle()
    assert service(node) is not None


def test_one_below_another_users_proxy_in_a_managed_domain_is_refused_as_below_a_subdomain(node: Any) -> None:
    node.proxy(312, "web.gw1.example", tid=8)
    below = node.proxy(313, "api.web.gw1.example")
    own = node.proxy(314, "api.web.gw1.example", tid=8)
    outside = [node.proxy(315, "shop.example", tid=8), node.proxy(316, "www.shop.example")]
    node.settle()
    assert node.answer(below) == (
        ResultState.ERROR,
        "cannot add proxy from api.web.gw1.example: unauthorized error: web.gw1.example belongs to another user",
    )
    assert node.answer(own) == OK
    # Outside, a proxy of a public suffix would keep out all below it.
    assert [node.answer(one) for one in outside] == [OK, OK]


def test_an_internationalised_name_is_its_a_label(node: Any) -> None:
    """The two forms are one name: who has one has the other."""
    first = node.proxy(312, "Bücher.gw1.example")
    second = node.proxy(313, "xn--bcher-kva.gw1.example", tid=8)
    wrong = node.proxy(314, "b\u00fc\u0338 cher.gw1.example")
    node.settle()
    assert node.answer(first) == OK
    assert node.get(service_key("xn--bcher-kva.gw1.example")) is not None
    taken = "cannot add proxy from xn--bcher-kva.gw1.example: unauthorized error: the domain is taken by reservation"
    assert node.answer(second) == (ResultState.ERROR, f"{taken} 312-1")
    state, message = node.answer(wrong)
    assert (state, message.endswith("name is invalid")) == (ResultState.ERROR, True)
    assert node.settle().steps == ()
    node.delete(first)
    node.settle()
    assert node.get(service_key("xn--bcher-kva.gw1.example")) is None
