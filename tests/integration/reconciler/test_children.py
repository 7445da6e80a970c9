"""A delegated domain that is deleted and reserved again: its subdomains live, whether the gateway runs or not."""

from __future__ import annotations

from typing import Any

import pytest
from tfgateway.explorer.models import DomainDelegate, NextAction, Subdomain
from tfgateway.redis_schema.keys import MANAGED_DOMAINS, WAITING

from tests.integration.reconciler.conftest import Fleet
from tests.support.waiting import until

FIVE = b'{"a":[{"ip":"203.0.113.5","ttl":3600}]}'


def delegate(fleet: Fleet) -> int:
    return fleet.reserve(DomainDelegate(domain="alice.example", node_id=fleet.node_id))


def subdomain(fleet: Fleet) -> int:
    return fleet.reserve(Subdomain(domain="www.alice.example", ips=("203.0.113.5",), node_id=fleet.node_id))


def of(fleet: Fleet, number: int) -> dict[str, Any]:
    return next(one for one in fleet.state()["reservations"] if one["id"] == f"{number}-1")


def served(fleet: Fleet) -> bool:
    return fleet.get("alice.example.", "www") == FIVE


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_domain_deleted_and_made_again(fleet: Fleet, running: bool) -> None:
    fleet.start("dns")
    process = fleet.start()
    parent, child = delegate(fleet), subdomain(fleet)
    fleet.deployed(child)
    until(lambda: fleet.state()["in_sync"], "served")
    if running:
        fleet.delete(parent)
        fleet.gone(parent)
        until(lambda: fleet.get(WAITING, f"{child}-1"), "it waits")
        found = of(fleet, child)
        assert (found["verdict"], found["recorded"], found["served"]) == ("pending", True, None)
        assert found["message"].startswith("it waits for alice.example to be delegated, until 20")
        state = fleet.state()
        assert (state["in_sync"], state["problems"]) == (True, []), "a user's business"
        assert fleet.get(MANAGED_DOMAINS, "www.alice.example") is not None
        # What waits outlives a restart, and its time does not begin anew.
        since = fleet.get(WAITING, f"{child}-1")
        process.stop()
        process = fleet.start()
        until(lambda: of(fleet, child)["verdict"] == "pending", "it waits on")
        assert fleet.get(WAITING, f"{child}-1") == since
        again = delegate(fleet)
    else:
        process.stop()
        fleet.delete(parent)
        again = delegate(fleet)
        fleet.start()
    fleet.deployed(again)
    until(lambda: served(fleet), "its addresses are there again")
    state = until(lambda: (found := fleet.state())["in_sync"] and found, "in sync")
    assert {one["id"]: (one["verdict"], one["served"]) for one in state["reservations"]} == {
        f"{child}-1": ("in_sync", True),
        f"{again}-1": ("in_sync", True),
    }
    assert fleet.get(WAITING, f"{child}-1") is None
    assert fleet.workload(child).next_action == NextAction.DEPLOY


def test_a_child_that_comes_first_is_deployed_as_soon_as_its_parent(fleet: Fleet) -> None:
    fleet.start()
    child = subdomain(fleet)
    assert until(lambda: (found := of(fleet, child))["message"].startswith("it waits") and found, "it waits")
    delegate(fleet)
    fleet.deployed(child)
    assert served(fleet)


def test_when_the_time_is_over_it_is_refused_with_the_reason(fleet: Fleet) -> None:
    fleet.start(parent_timeout=1)
    child = subdomain(fleet)
    assert fleet.gone(child).result.message == "alice.example is not managed by the gateway. delegate the domain first"
