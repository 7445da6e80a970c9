"""What loses its zone with a delegated domain, as its user can know it."""

from __future__ import annotations

from typing import Any

from tfgateway.explorer.models import (
    DomainDelegate,
    NextAction,
    Proxy,
    Result,
    ResultState,
    ReverseProxy,
    SigningRequest,
    Subdomain,
    Workload,
)
from tfgateway.explorer.user import dependents

DEPLOYED = {"next_action": NextAction.DEPLOY, "result": Result(state=ResultState.OK)}


def named(workloads: list[Workload], *ids: int) -> dict[int, list[int]]:
    return {parent: [child.id for child in children] for parent, children in dependents(ids, workloads).items()}


def made(kind: type[Any], number: int, domain: str, node: str = "A", **members: Any) -> Any:
    return kind(id=number, domain=domain, node_id=node, **(DEPLOYED | members))


def test_children_are_subdomains_and_proxies_below_it_on_the_same_gateway() -> None:
    mine = [
        made(DomainDelegate, 1, "Alice.example"),
        made(Subdomain, 2, "www.alice.example"),
        made(Subdomain, 3, "alice.example"),
        made(Proxy, 4, "a.b.ALICE.example"),
        made(ReverseProxy, 5, "home.alice.example", next_action=NextAction.CREATE, result=Result()),
        made(Subdomain, 6, "www.alice.example", node="B"),
        made(Subdomain, 7, "www.malice.example"),
        made(Subdomain, 8, "gone.alice.example", next_action=NextAction.DELETE),
        made(Subdomain, 9, "refused.alice.example", result=Result(state=ResultState.ERROR)),
    ]
    mine[-1] = made(
        Subdomain, 9, "refused.alice.example", next_action=NextAction.DELETED, signing_request_delete=SigningRequest()
    )
    assert named(mine, 1) == {1: [2, 3, 4, 5]}
    assert named(mine, 1, 2, 4) == {1: [3, 5]}
    assert named(mine, 2, 6) == {}


def test_a_child_that_keeps_a_zone_loses_nothing() -> None:
    mine = [
        made(DomainDelegate, 1, "alice.example"),
        made(DomainDelegate, 2, "shop.alice.example"),
        made(DomainDelegate, 3, "alice.example"),
        made(Subdomain, 4, "www.shop.alice.example"),
        made(Subdomain, 5, "www.alice.example"),
    ]
    assert named(mine, 1) == {}, "another reservation of the same domain"
    assert named(mine, 1, 3) == {3: [5]}
    assert named(mine, 2) == {}, "then it is in the zone above"
    assert named(mine, 1, 2, 3) == {2: [4], 3: [5]}


def test_a_domain_that_is_deleted_already_takes_nothing_with_it() -> None:
    mine = [
        made(DomainDelegate, 1, "alice.example", next_action=NextAction.DELETE),
        made(Subdomain, 2, "alice.example"),
    ]
    assert named(mine, 1) == {}
