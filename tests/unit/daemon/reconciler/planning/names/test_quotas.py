"""How much one user may have (P-26)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfgateway.explorer.models import Result, ResultState


def test_p26_a_user_may_have_so_many_reservations(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", max_reservations_per_user=3)
    first = [node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5") for number in (1, 2)]
    node.proxy(3, "n1.gw1.example")
    node.settle()
    more = node.subdomain(4, "n4.gw1.example", "203.0.113.5")
    other = node.subdomain(5, "n5.gw1.example", "203.0.113.5", tid=8)
    node.settle()
    message = node.refusal(more)
    assert message == "quota exceeded: a user may have 3 reservations on this gateway"
    assert node.deleted(more)
    assert node.answer(other) == (ResultState.OK, "")
    # What goes in a pass makes room in it.
    node.acknowledge()
    node.delete(first[0])
    again = node.subdomain(6, "n6.gw1.example", "203.0.113.5")
    node.settle()
    assert node.answer(again) == (ResultState.OK, "")


def test_p26_a_user_may_have_so_many_domains(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", max_zones_per_user=1)
    node.delegate(1, "alice.example")
    second = node.delegate(2, "alice2.example")
    third = node.subdomain(3, "www.alice.example", "203.0.113.5")
    node.settle()
    assert node.answer(second)[1] == "quota exceeded: a user may have 1 domains on this gateway"
    assert node.answer(third) == (ResultState.OK, "")


def test_p26_a_subdomain_may_have_so_many_addresses(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", max_addresses=2)
    addresses = ("203.0.113.5", "203.0.113.6", "203.0.113.7")
    two = node.subdomain(1, "two.gw1.example", *addresses[:2])
    three = node.subdomain(2, "three.gw1.example", *addresses)
    node.settle()
    assert node.answer(two) == (ResultState.OK, "")
    assert node.answer(three)[1] == "quota exceeded: a subdomain may have 2 addresses"


def test_p26_a_lower_quota_takes_nothing_away_even_when_redis_was_emptied(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", max_reservations_per_user=0)
    common = {"result": Result(workload_id="1-1", state=ResultState.OK, epoch=1)}
    granted = node.subdomain(1, "www.gw1.example", "203.0.113.5", **common)
    node.settle()
    assert node.recorded(granted)
