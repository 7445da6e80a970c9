"""Every refusal of the gateway: our explorer refuses the same at once, in the same words, or cannot know it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tfgateway.reconciler.planning
from tfgateway.explorer.models import ResultState
from tfgateway.explorer.server.api.validation import workload_problem
from tfgateway.fourtosix.pool import AddressPool
from tfgateway.identity.keys import Identity
from tfgateway.identity.sealing import encrypt_ecdh
from tfgateway.net.addresses import literals
from tfgateway.reconciler.planning.claims import FourToSix

PLACE = Path(tfgateway.reconciler.planning.__file__).parent
USER = Identity.from_seed(bytes([7]) * 32)
AT_ONCE = {
    "decisions.py admit",  # a type that no gateway has
    "claims.py check_quotas",  # addresses of one subdomain
    "primitives/domain_delegate.py admit",  # managed domains, names that are none
    "primitives/proxy.py admit",
    "primitives/reverse_proxy.py admit",
    "primitives/reverse_proxy.py _secret",
    "primitives/gateway4to6.py admit",
    "primitives/gateway4to6.py _key",
    "primitives/subdomain.py admit",
    "primitives/subdomain.py _admit_to_managed",
    "primitives/services.py _check_name",  # the managed domain itself
}
"""Functions with a refusal that the reservation alone, or the gateway's entry in the directory, decides."""
NOT_KNOWN = {
    "claims.py refuse_if": "raises what its callers found out",
    "displacement.py why_displaced": "depends on DNS",
    "primitives/services.py refusal": "makes the words of others",
    "primitives/services.py check_free": "depends on other reservations",
    "primitives/reverse_proxy.py _decrypted": "depends on the key of the user",
    "primitives/gateway4to6.py _refusal": "makes the words of others",
    "primitives/subdomain.py ensure": "depends on other reservations",
    "primitives/subdomain.py _unauthorized": "makes the words of others",
}
"""The others, and why the explorer cannot decide them."""


def refusing() -> set[str]:
    """All functions of planning that make a refusal."""
    found = set()
    for path in sorted(PLACE.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                calls = {node.func for node in ast.walk(function) if isinstance(node, ast.Call)}
                names = {call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls}
                if names & {
                    "ReservationRefused",
                    "refuse_if",
                    "refusal",
                    "ProxiesBelow",
                    "ParentMissing",
                    "TakenByOthers",
                }:
                    found.add(f"{path.relative_to(PLACE)} {function.name}")
    return found


def test_every_refusal_is_one_or_the_other() -> None:
    """A new one has to be sorted: into what the explorer refuses as well, with a case below, or not."""
    assert refusing() == AT_ONCE | NOT_KNOWN.keys()


@pytest.fixture
def gateway(make_node: Callable[..., Any]) -> Any:
    own = literals(["198.51.100.1"])
    pool = FourToSix(AddressPool(bytes(range(32))), "vpn.example:3443")
    node = make_node("gw1.example", "deep.gw2.example", own_addresses=own, fourtosix=pool, max_addresses=3)
    node.users = {"7": USER.public_key}
    return node


def secret(node: Any, size: int) -> str:
    return encrypt_ecdh(b"7:" + b"x" * (size - 2) if size else b"", USER.seed, node.identity.public_key).hex()


LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1")
DENIED = (*LOOPBACK, "169.254.169.254", "0.0.0.0", "ff02::1", "198.51.100.1", "2001::1", "web.example", "")
NAMES = (
    "",
    "nodots",
    "a..example",
    "-a.gw1.example",
    "*.gw1.example",
    "192.0.2.1",
    "a.example.",
    f"{'x' * 64}.example",
)
MANAGED = ("GW1.example", "a.gw1.example", "gw2.example", "example")
WEB = "web.gw1.example"
CASES: list[Callable[[Any], Any]] = [
    *(lambda node, addr=addr: node.proxy(1, WEB, addr) for addr in DENIED),
    lambda node: node.proxy(1, WEB, port=70000),
    lambda node: node.proxy(1, WEB, tls=65536),
    lambda node: node.proxy(1, WEB, port=0, tls=0),
    *(lambda node, name=name: node.proxy(1, name) for name in NAMES),
    *(lambda node, name=name: node.delegate(1, name) for name in NAMES),
    *(lambda node, name=name: node.subdomain(1, name, "203.0.113.5") for name in NAMES),
    *(lambda node, name=name: node.reverse_proxy(1, name, secret(node, 9)) for name in NAMES),
    lambda node: node.subdomain(1, "www.gw1.example"),
    lambda node: node.subdomain(1, "www.gw1.example", "203.0.113"),
    lambda node: node.subdomain(1, "www.gw1.example", "fe80::1%eth0"),
    lambda node: node.subdomain(1, "www.gw1.example", *(f"203.0.113.{number}" for number in range(4))),
    lambda node: node.subdomain(1, "-w.gw1.example", *(f"203.0.113.{number}" for number in range(4))),
    *(lambda node, size=size: node.reverse_proxy(1, WEB, "00" * size) for size in (1, 23, 39)),
    *(lambda node, text=text: node.reverse_proxy(1, WEB, text) for text in ("", "xy", "abc", "é")),
    lambda node: node.reverse_proxy(1, WEB, secret(node, 0)),
    lambda node: node.reverse_proxy(1, WEB, secret(node, 4097)),
    *(lambda node, key=key: node.peer(1, key) for key in ("", "AA", "AAAA", "A" * 43 + "=")),
    *(lambda node, kind=kind: node.unknown(1, kind) for kind in (0, 1, 12)),
    *(lambda node, name=name: node.delegate(1, name) for name in MANAGED),
    lambda node: node.subdomain(1, "gw1.example", "203.0.113.5"),
    lambda node: node.proxy(1, "gw1.example"),
    lambda node: node.reverse_proxy(1, "gw1.example", secret(node, 9)),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_explorer_refuses_in_the_words_of_the_gateway(gateway: Any, number: int) -> None:
    workload = CASES[number](gateway)
    gateway.settle()
    policy = gateway.policy
    at_once = workload_problem(workload, policy.max_addresses, policy.own_addresses, policy.managed_domains)
    assert gateway.answer(workload) == (ResultState.ERROR, at_once)


def test_the_explorer_refuses_nothing_that_the_gateway_grants(gateway: Any) -> None:
    granted = [
        gateway.delegate(1, "gw3.example"),
        gateway.delegate(2, "agw1.example"),
        gateway.subdomain(3, "_x.agw1.example", "203.0.113.5", "203.0.113.6", "2001:db8::1"),
        gateway.proxy(4, "www.gw1.example"),
        gateway.proxy(5, "www.bücher.example", "203.0.113.1", tls=0),
        gateway.reverse_proxy(6, "home.gw1.example", secret(gateway, 3)),
        gateway.reverse_proxy(7, "far.gw1.example", secret(gateway, 4096)),
        gateway.peer(8, "eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo="),
    ]
    gateway.settle()
    policy = gateway.policy
    for workload in granted:
        assert gateway.answer(workload) == (ResultState.OK, ""), workload
        problem = workload_problem(workload, policy.max_addresses, policy.own_addresses, policy.managed_domains)
        assert problem is None, workload
