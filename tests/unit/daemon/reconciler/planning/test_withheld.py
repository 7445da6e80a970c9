"""Names that the operator lets no user claim, through plan and apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tfgateway.explorer.models import ResultState
from tfgateway.identity.keys import Identity
from tfgateway.identity.sealing import encrypt_ecdh
from tfgateway.reconciler.session import make_policy
from tfgateway.redis_schema.keys import MANAGED_DOMAINS, RESERVATIONS
from tfgateway.settings import GatewaySettings, Settings, parse

OK = (ResultState.OK, "")


@pytest.fixture
def node(make_node: Callable[..., Any]) -> Any:
    """Withholds names as the settings of the daemon say, ``blocked_names`` set."""
    return withholding(make_node)


def withholding(make_node: Callable[..., Any]) -> Any:
    settings = Settings(gateway=GatewaySettings(blocked_names=("Bank.example", "phish.gw1.example", "zip")))
    policy = make_policy(settings, Identity.from_seed(bytes(32)))
    return make_node("gw1.example", reserved_names=policy.reserved_names, blocked_names=policy.blocked_names)


def secret(node: Any) -> str:
    user = Identity.from_seed(bytes([7]) * 32)
    node.users["7"] = user.public_key
    return encrypt_ecdh(b"7:x", user.seed, node.identity.public_key).hex()


@pytest.mark.parametrize("label", GatewaySettings().reserved_names)
def test_p6_reserved_labels_are_refused_directly_below_a_managed_domain(node: Any, label: str) -> None:
    name = f"{label}.gw1.example"
    refused = [
        node.subdomain(1, name.upper(), "203.0.113.5"),
        node.proxy(2, name),
        node.reverse_proxy(3, name, secret(node)),
    ]
    node.settle()
    why = f"unauthorized error: the operator of the gateway reserves '{label}' directly below gw1.example"
    assert [node.refusal(workload) for workload in refused] == [
        f"cannot add subdomain {label} to zone gw1.example: {why}",
        f"cannot add proxy from {name}: {why}",
        f"cannot add reverse proxy from {name}: {why}",
    ]
    assert not node.strings
    assert node.get("gw1.example.", label) is None


def test_p6_they_are_free_elsewhere(node: Any) -> None:
    node.delegate(1, "alice.org")
    node.subdomain(2, "alice.gw1.example", "203.0.113.5")
    served = [
        node.subdomain(3, "wpad.alice.gw1.example", "203.0.113.5"),
        node.subdomain(4, "wpad.alice.org", "203.0.113.5"),
        node.proxy(5, "mta-sts.alice.org"),
        node.proxy(6, "mta-sts.alice.gw1.example"),
        node.proxy(7, "autodiscover.bob.org"),
        node.subdomain(8, "wpad1.gw1.example", "203.0.113.5"),
    ]
    node.settle()
    assert [node.answer(workload) for workload in served] == [OK] * len(served)


def test_p6_blocked_names_are_refused_with_all_below_them(node: Any) -> None:
    refused = [
        node.delegate(1, "bank.example"),
        node.delegate(2, "de.bank.example"),
        node.subdomain(3, "www.bank.example", "203.0.113.5"),
        node.subdomain(4, "a.phish.gw1.example", "203.0.113.5"),
        node.proxy(5, "bank.example"),
        node.proxy(6, "phish.gw1.example"),
        node.reverse_proxy(7, "www.bank.example", secret(node)),
        node.proxy(8, "invoice.zip"),
    ]
    served = [
        node.delegate(9, "mybank.example"),
        node.proxy(10, "bank.example.org"),
        node.subdomain(11, "bank.gw1.example", "203.0.113.5"),
    ]
    node.settle()
    blocks = "the operator of the gateway blocks"
    assert [node.refusal(workload) for workload in refused] == [
        f"unauthorized error cannot delegate domain bank.example: {blocks} bank.example",
        f"unauthorized error cannot delegate domain de.bank.example: {blocks} bank.example",
        f"cannot add subdomain www to zone bank.example: unauthorized error: {blocks} bank.example",
        f"cannot add subdomain a.phish to zone gw1.example: unauthorized error: {blocks} phish.gw1.example",
        f"cannot add proxy from bank.example: unauthorized error: {blocks} bank.example",
        f"cannot add proxy from phish.gw1.example: unauthorized error: {blocks} phish.gw1.example",
        f"cannot add reverse proxy from www.bank.example: unauthorized error: {blocks} bank.example",
        f"cannot add proxy from invoice.zip: unauthorized error: {blocks} zip",
    ]
    assert [node.answer(workload) for workload in served] == [OK] * len(served)


def test_p6_a_zone_above_a_blocked_name_serves_everything_but_that_name(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", blocked_names=frozenset({"bank.alice.org"}))
    served = [node.delegate(1, "alice.org"), node.subdomain(2, "www.alice.org", "203.0.113.5")]
    refused = node.subdomain(3, "bank.alice.org", "203.0.113.5")
    node.settle()
    assert [node.answer(workload) for workload in served] == [OK, OK]
    assert "blocks bank.alice.org" in node.refusal(refused)


def test_p6_what_was_granted_before_is_served_on(make_node: Callable[..., Any]) -> None:
    """Also when its record was lost, as long as redis serves it (P-14)."""
    before = make_node("gw1.example")
    kept = before.subdomain(1, "wpad.gw1.example", "203.0.113.5")
    before.proxy(2, "www.bank.example")
    before.delegate(3, "de.bank.example")
    before.settle()
    before.acknowledge()
    after = withholding(make_node)
    after.hashes, after.strings, after.desired = before.hashes, before.strings, before.desired
    assert after.settle().steps == ()
    del after.hashes[RESERVATIONS]
    after.settle()
    assert after.text(MANAGED_DOMAINS, "wpad.gw1.example") == "7"
    assert after.recorded(kept)
    assert not after.deleted(kept)


def test_the_list_of_the_settings_replaces_the_default() -> None:
    settings = parse(b'[gateway]\nreserved_names = ["Status"]\n')
    assert make_policy(settings, Identity.from_seed(bytes(32))).reserved_names == {"status"}
