"""domain_delegate through plan and apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tfgateway.explorer.models import ResultState
from tfgateway.reconciler.planning import render
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.redis_schema.keys import service_key
from tfgateway.redis_schema.records import owner_record
from tfgateway.redis_schema.services import Service, encode_service

OK = (ResultState.OK, "")


def test_a_zone_is_claimed_for_its_user(node: Any) -> None:
    workload = node.delegate(310, "alice.example")
    node.settle()
    assert node.text("zone", "alice.example") == '{"Owner":"7"}'
    assert node.get("alice.example.", "__owner__") == owner_record(node.node_id, "7")
    assert node.answer(workload) == OK
    assert node.recorded(workload)


@pytest.mark.parametrize("domain", ["example", "alice..example", "alice.example.", "203.0.113.5", "", "*.example"])
def test_an_invalid_domain_is_refused(node: Any, domain: str) -> None:
    workload = node.delegate(310, domain)
    node.settle()
    assert node.answer(workload) == (ResultState.ERROR, f"domain '{domain}' name is invalid")
    assert node.deleted(workload)
    assert not node.recorded(workload)


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("gw1.example", "managed domain gw1.example has this name"),
        ("sub.gw1.example", "managed domain gw1.example is above it"),
        ("x.www.gw1.example", "managed domain gw1.example is above it"),
        ("bob.example", "bob.example of another user has this name"),
        ("deep.bob.example", "bob.example of another user is above it"),
        ("org.uk", "carol.org.uk of another user is below it"),
        ("byhand.example", "zone byhand.example of the operator has this name"),
        ("x.byhand.example", "zone byhand.example of the operator is above it"),
    ],
)
def test_p4_names_that_touch_somebody_elses_are_refused(node: Any, domain: str, why: str) -> None:
    node.delegate(1, "bob.example", tid=8)
    node.delegate(2, "carol.org.uk", tid=9)
    node.subdomain(3, "www.gw1.example", "203.0.113.5", tid=8)
    node.put("byhand.example.", "@", '{"a":[{"ip":"203.0.113.9","ttl":60}]}')
    node.settle()
    workload = node.delegate(310, domain)
    node.settle()
    message = node.refusal(workload)
    assert message.startswith(f"unauthorized error cannot delegate domain {domain}: ")
    assert why in message


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("shop.example", "shop.example, a proxy of another user, has this name"),
        ("org.uk", "deep.shop.org.uk, a proxy of another user, is below it"),
        ("byhand.example", "www.byhand.example, a proxy of the operator, is below it"),
        ("damaged.example", "damaged.example, a proxy of the operator, has this name"),
        ("lost.example", "lost.example, a proxy of another user, has this name"),
    ],
)
def test_p4_a_zone_above_somebody_elses_proxy_is_refused(node: Any, domain: str, why: str) -> None:
    node.proxy(1, "shop.example", tid=8)
    node.proxy(2, "deep.shop.org.uk", tid=8)
    for name, entry in (("www.byhand.example", Service(addr="203.0.113.1")), ("lost.example", Service(user="8"))):
        node.put(service_key(name), None, encode_service(name, entry).decode())
    node.put(service_key("damaged.example"), None, "garbage")
    node.settle()
    before = node.rows()
    workload = node.delegate(310, domain)
    node.settle()
    message = node.refusal(workload)
    if domain in ("shop.example", "org.uk"):
        why += f"; it gives way when NS records in the parent zone of {domain} name this gateway"
    assert message == f"unauthorized error cannot delegate domain {domain}: {why}"
    assert node.rows() == before


def test_p4_a_zone_above_a_proxy_that_ends_in_the_same_pass_is_not_refused(node: Any) -> None:
    proxy = node.proxy(1, "shop.example", tid=8)
    node.proxy(2, "www.shop.example")
    node.proxy(3, "workshop.example", tid=8)
    node.settle()
    node.delete(proxy)
    workload = node.delegate(4, "shop.example")
    node.settle()
    assert node.answer(workload) == OK


def test_p4_a_zone_is_refused_for_a_proxy_that_came_with_the_same_news(node: Any) -> None:
    node.settle()
    earlier = node.delegate(1, "other.example", tid=9)
    proxy = node.proxy(2, "www.shop.example", tid=8)
    workload = node.delegate(3, "shop.example")
    node.settle()
    assert node.answer(earlier) == node.answer(proxy) == OK
    assert node.answer(workload)[0] == ResultState.ERROR


@pytest.mark.parametrize("domain", ["deep.alice.example", "alice2.example", "lice.example"])
def test_p4_names_that_only_touch_ones_own_are_not_refused(node: Any, domain: str) -> None:
    node.delegate(1, "alice.example")
    node.settle()
    workload = node.delegate(2, domain)
    node.settle()
    assert node.answer(workload) == OK


def test_p4_a_parent_of_ones_own_subdomain_may_be_delegated(node: Any) -> None:
    node.delegate(1, "deep.alice.example")
    node.subdomain(2, "www.deep.alice.example", "203.0.113.5")
    node.settle()
    workload = node.delegate(3, "alice.example")
    node.settle()
    assert node.answer(workload) == OK


def test_p5_removal_removes_the_zone_itself(node: Any) -> None:
    workload = node.delegate(310, "alice.example")
    node.subdomain(311, "www.alice.example", "203.0.113.5")
    node.settle()
    node.put("alice.example.", "byhand", '{"txt":[{"text":"x","ttl":60}]}')
    node.acknowledge()
    node.delete(workload)
    node.settle()
    assert "alice.example." not in node.hashes
    assert node.get("zone", "alice.example") is None
    assert node.deleted(workload)
    assert not node.recorded(workload)


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("tf-gateway-1.fleet.org", "tf-gateway-1.fleet.org, a name of the gateway, has this name"),
        ("fleet.org", "tf-gateway-1.fleet.org, a name of the gateway, is below it"),
    ],
)
def test_p6_a_zone_of_or_above_a_name_of_the_gateway_is_refused(
    make_node: Callable[..., Any], domain: str, why: str
) -> None:
    node = make_node("tfgw-1.other.org", own_names=frozenset({"tf-gateway-1.fleet.org"}))
    workload = node.delegate(310, domain)
    node.settle()
    assert node.answer(workload) == (
        ResultState.ERROR,
        f"unauthorized error cannot delegate domain {domain}: {why}",
    )


@pytest.mark.parametrize("domain", ["alice.fleet.org", "1.fleet.org", "leet.org"])
def test_p6_a_zone_beside_a_name_of_the_gateway_is_not_refused(make_node: Callable[..., Any], domain: str) -> None:
    node = make_node("tfgw-1.fleet.org", own_names=frozenset({"tf-gateway-1.fleet.org"}))
    workload = node.delegate(310, domain)
    node.settle()
    assert node.answer(workload) == OK


@pytest.mark.parametrize("owner", ['{"txt":[{"text":"{\\"identity\\":\\"x\\",\\"owner\\":\\"8\\"}","ttl":600}]}', None])
def test_p5_a_zone_that_does_not_name_the_user_is_not_removed(node: Any, owner: str | None) -> None:
    """Somebody rewrote its ownership record, or it never had one: made by an operator."""
    workload = node.delegate(310, "alice.example")
    node.settle()
    node.put("alice.example.", "__owner__", owner)
    node.put("alice.example.", "byhand", '{"txt":[{"text":"x","ttl":60}]}')
    node.delete(workload)
    node.settle()
    assert node.text("alice.example.", "byhand") == '{"txt":[{"text":"x","ttl":60}]}'
    assert node.get("zone", "alice.example") is None


def test_p12_removal_takes_the_claims_below_with_it(node: Any) -> None:
    node.desired = Desired(node.node_id)
    zone = node.delegate(310, "alice.example")
    node.put("managed_domains", "old.alice.example", "7")
    node.put("managed_domains", "other.example", "7")
    node.settle()
    node.put("managed_domains", "stale.alice.example", "7")
    node.delete(zone)
    node.settle()
    assert node.get("managed_domains", "stale.alice.example") is None
    assert node.text("managed_domains", "other.example") == "7"


def test_a_second_delegation_of_the_same_user_keeps_the_zone(node: Any) -> None:
    first = node.delegate(310, "alice.example")
    second = node.delegate(311, "alice.example")
    node.settle()
    assert node.answer(second) == OK
    node.delete(first)
    node.settle()
    assert node.text("zone", "alice.example") == '{"Owner":"7"}'
    node.delete(second)
    node.settle()
    assert "alice.example." not in node.hashes


def test_a_zone_given_up_and_taken_again_keeps_its_subdomains(node: Any) -> None:
    zone = node.delegate(310, "alice.example")
    name = node.subdomain(311, "www.alice.example", "203.0.113.5")
    node.settle()
    node.acknowledge()
    node.delete(zone)
    node.delegate(312, "alice.example")
    node.settle()
    assert node.recorded(name)
    assert node.text("alice.example.", "www") == '{"a":[{"ip":"203.0.113.5","ttl":3600}]}'


def test_managed_domains_are_claimed_and_kept(node: Any) -> None:
    node.settle()
    assert node.text("zone", "gw1.example") == f'{{"Owner":"{node.node_id}"}}'
    assert node.get("gw1.example.", "__owner__") == owner_record(node.node_id, node.node_id)
    node.put("gw1.example.", "__owner__", '{"txt":[{"text":"lies","ttl":1}]}')
    node.put("zone", "gw1.example", "garbage")
    node.settle()
    assert node.text("zone", "gw1.example") == f'{{"Owner":"{node.node_id}"}}'
    assert node.get("gw1.example.", "__owner__") == owner_record(node.node_id, node.node_id)


def test_p17_a_managed_domain_of_somebody_else_is_reported_and_stops_nothing(
    make_node: Callable[..., Any],
) -> None:
    node = make_node("gw1.example", "gw2.example")
    node.put("zone", "gw1.example", '{"Owner":"SomebodyElse"}')
    waiting = node.subdomain(1, "www.gw1.example", "203.0.113.5")
    served = node.subdomain(2, "www.gw2.example", "203.0.113.5")
    made = node.settle()
    assert node.text("zone", "gw1.example") == '{"Owner":"SomebodyElse"}'
    assert any("belongs to SomebodyElse" in text for text in made.problems)
    assert node.answer(waiting) is None
    assert node.answer(served) == OK


def test_p19_a_domain_that_is_not_configured_any_more_stays_and_is_reported(make_node: Callable[..., Any]) -> None:
    before = make_node("gw1.example", "gw2.example")
    name = before.subdomain(1, "www.gw2.example", "203.0.113.5")
    before.settle()
    after = make_node("gw1.example")
    after.hashes = before.hashes
    after.want(name)
    made = after.settle()
    assert any("gw2.example is still held" in text for text in made.problems)
    assert after.text("gw2.example.", "www") == '{"a":[{"ip":"203.0.113.5","ttl":3600}]}'


def released(node: Any, *domains: str) -> Any:
    node.policy = replace(node.policy, released=frozenset(domains))
    made = node.plan()
    for step in made.steps:
        assert node.apply(step.transaction)
    return made


def formerly(make_node: Callable[..., Any], owner: str = "") -> Any:
    """gw2.example is claimed, by this gateway or by owner, and not configured any more."""
    before = make_node("gw1.example", "gw2.example")
    before.settle()
    after = make_node("gw1.example")
    after.hashes = before.hashes
    if owner:
        after.put("zone", "gw2.example", f'{{"Owner":"{owner}"}}')
        after.hashes["gw2.example."]["__owner__"] = owner_record(owner, owner)
    return after


@pytest.mark.parametrize(("owner", "by"), [("", ""), ("FormerNode", " by another identity, FormerNode")])
def test_p19_a_claim_that_an_operator_gives_up_is_gone(make_node: Callable[..., Any], owner: str, by: str) -> None:
    node = formerly(make_node, owner)
    node.put("gw2.example.", "left", "{}")
    (told,) = node.settle().problems
    assert told == (
        f"gw2.example is still held{by}, but no longer a managed domain of the configuration: "
        "`tfgateway reconcile --release-domain gw2.example` gives it up"
    )
    made = released(node, "gw2.example")
    assert [render.step_line(step) for step in made.steps] == ["release gw2.example"]
    assert made.problems == ()
    assert node.get("zone", "gw2.example") is None
    assert "gw2.example." not in node.hashes
    assert node.get("zone", "gw1.example") is not None
    workload = node.delegate(1, "gw2.example")
    node.policy = replace(node.policy, released=frozenset())
    node.settle()
    assert node.answer(workload) == OK


@pytest.mark.parametrize(("ips", "held"), [(["203.0.113.5"], "www.gw2.example, www"), ([], "www.gw2.example")])
def test_p19_a_claim_is_kept_while_anything_is_reserved_under_it(
    make_node: Callable[..., Any], ips: list[str], held: str
) -> None:
    before = make_node("gw1.example", "gw2.example")
    before.subdomain(1, "www.gw2.example", "203.0.113.5")
    before.settle()
    name = before.subdomain(1, "www.gw2.example", *ips)  # an old gateway granted one without addresses
    before.settle()
    node = make_node("gw1.example")
    node.hashes = before.hashes
    node.want(name)
    rows = node.rows()
    assert f"gw2.example waits: it is not released: it holds {held}" in released(node, "gw2.example").problems
    assert node.rows() == rows
    node.policy = replace(node.policy, released=frozenset())
    node.delete(name)
    node.settle()
    assert released(node, "gw2.example").summary() == {"release": 1}


@pytest.mark.parametrize("value", ['{"txt":[{"text":"x","ttl":60}]}', '{"mx":"wrong"}', "garbage"])
def test_p19_a_claim_is_kept_while_anything_made_by_hand_is_under_it(make_node: Callable[..., Any], value: str) -> None:
    node = formerly(make_node)
    node.put("gw2.example.", "byhand", value)
    rows = node.rows()
    assert "gw2.example waits: it is not released: it holds byhand" in released(node, "gw2.example").problems
    assert node.rows() == rows


def test_p19_what_is_in_a_zone_of_its_own_below_keeps_no_claim(make_node: Callable[..., Any]) -> None:
    """The old gateway let users delegate below managed domains (P-4)."""
    node = formerly(make_node)
    node.put("zone", "deep.gw2.example", '{"Owner":"7"}')
    node.put("managed_domains", "www.deep.gw2.example", "7")
    node.put("deep.gw2.example.", "www", '{"a":[{"ip":"203.0.113.5","ttl":3600}]}')
    assert released(node, "gw2.example").summary()["release"] == 1
    assert node.text("managed_domains", "www.deep.gw2.example") == "7"


def test_p19_what_no_gateway_claimed_is_not_released(node: Any) -> None:
    node.delegate(1, "alice.example")
    node.put("hand.example.", "@", "{}")
    node.settle()
    before = node.rows()
    made = released(node, "alice.example", "hand.example", "nobody.example", "gw1.example")
    assert [text for text in made.problems if "released" in text] == [
        f"{name} waits: it is not released: no gateway has claimed it"
        for name in ("alice.example", "hand.example", "nobody.example")
    ]
    assert node.rows() == before


def test_p19_a_new_identity_takes_a_managed_domain_over_when_an_operator_says_so(make_node: Callable[..., Any]) -> None:
    node = formerly(make_node, "FormerNode")
    node.policy = replace(node.policy, managed_domains=("gw1.example", "gw2.example"))
    workload = node.subdomain(1, "www.gw2.example", "203.0.113.5")
    (told,) = [text for text in node.settle().problems if text.startswith("gw2.example ")]
    assert told.endswith("it belongs to FormerNode: `tfgateway reconcile --release-domain gw2.example` takes it over")
    assert node.answer(workload) is None
    made = released(node, "gw2.example")
    assert render.step_line(made.steps[0]) == "claim   gw2.example: taken over from FormerNode"
    assert node.text("zone", "gw2.example") == f'{{"Owner":"{node.node_id}"}}'
    assert node.get("gw2.example.", "__owner__") == owner_record(node.node_id, node.node_id)
    assert node.answer(workload) == OK


def test_p19_a_users_zone_is_not_taken_over(make_node: Callable[..., Any]) -> None:
    node = formerly(make_node, "7")
    node.policy = replace(node.policy, managed_domains=("gw1.example", "gw2.example"))
    before = node.rows()
    (told,) = [text for text in released(node, "gw2.example").problems if text.startswith("gw2.example ")]
    assert told.endswith("it belongs to 7")
    assert node.rows() == before
