"""Proxies that give way to a delegation whose parent zone names this gateway, through plan and apply (P-4)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tfgateway.explorer.models import ResultState
from tfgateway.identity.keys import Identity
from tfgateway.identity.sealing import encrypt_ecdh
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.model import Action
from tfgateway.redis_schema.keys import ZONE_OWNERS, service_key
from tfgateway.redis_schema.services import Service, encode_service

OK = (ResultState.OK, "")
WHY = "newcorp.example was delegated to this gateway, as its parent zone says, for another user"


@pytest.fixture
def squatted(node: Any) -> Any:
    """Bob has proxies at and below newcorp.example, whose answers the explorer has; the domain is delegated here."""
    user = Identity.from_seed(bytes([8]) * 32)
    node.users["8"] = user.public_key
    secret = encrypt_ecdh(b"8:x", user.seed, node.identity.public_key).hex()
    node.bobs = [
        node.proxy(1, "newcorp.example", tid=8),
        node.proxy(2, "www.newcorp.example", tid=8),
        node.reverse_proxy(3, "a.b.newcorp.example", secret, tid=8),
    ]
    node.kept = [node.proxy(4, "api.newcorp.example"), node.proxy(5, "www.mynewcorp.example", tid=8)]
    node.settle()
    node.acknowledge()
    node.delegated = {"newcorp.example"}
    return node


def test_p4_proxies_of_others_end_with_the_reason(squatted: Any) -> None:
    workload = squatted.delegate(310, "newcorp.example")
    squatted.settle()
    assert squatted.answer(workload) == OK
    assert [squatted.refusal(lost) for lost in squatted.bobs] == [WHY] * 3
    assert all(squatted.deleted(lost) and not squatted.recorded(lost) for lost in squatted.bobs)
    assert set(squatted.strings) == {service_key("api.newcorp.example"), service_key("www.mynewcorp.example")}
    assert all(squatted.recorded(kept) for kept in squatted.kept)
    squatted.acknowledge()
    again = squatted.proxy(311, "www.newcorp.example", tid=8)
    squatted.settle()
    assert "zone newcorp.example belongs to somebody else" in squatted.refusal(again)


def test_p4_without_ns_records_here_the_delegation_is_refused(squatted: Any) -> None:
    squatted.delegated = {"www.newcorp.example", "example"}
    before = squatted.rows()
    workload = squatted.delegate(310, "newcorp.example")
    squatted.settle()
    assert squatted.refusal(workload).endswith(
        "newcorp.example, a proxy of another user, has this name; "
        "it gives way when NS records in the parent zone of newcorp.example name this gateway"
    )
    assert squatted.rows() == before


def test_p4_nothing_is_decided_before_it_was_looked_up(squatted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squatted, "look_up", lambda _domains: None)
    squatted.delegate(310, "newcorp.example")
    made = squatted.settle()
    assert made.steps == ()
    assert made.unknown_delegations == ("newcorp.example",)
    assert "310-1" in made.left.undecided


def test_p4_only_what_is_in_the_way_is_looked_up(node: Any) -> None:
    node.delegate(1, "alice.example")
    node.proxy(2, "www.alice.example")
    node.proxy(3, "www.gw1.example", tid=8)
    node.delegate(4, "gw1.example")
    node.settle()
    assert node.policy.delegated == {}


@pytest.mark.parametrize("user", ["", "8"])
def test_p4_an_entry_that_nobody_reserved_does_not_give_way(squatted: Any, user: str) -> None:
    squatted.put(
        service_key("x.newcorp.example"), None, encode_service("x.newcorp.example", Service(user=user)).decode()
    )
    before = squatted.rows()
    workload = squatted.delegate(310, "newcorp.example")
    squatted.settle()
    assert squatted.refusal(workload).startswith("unauthorized error cannot delegate domain newcorp.example: ")
    assert squatted.rows() == before


@pytest.mark.parametrize("another", [True, False])
def test_p4_a_proxy_that_the_explorer_does_not_know_ends_by_an_operators_consent_only(
    squatted: Any, *, another: bool
) -> None:
    """another: whether it has another reservation under the id, since it was restored."""
    workload = squatted.delegate(310, "newcorp.example")
    others = [msgspec.structs.replace(squatted.bobs[0], domain="other.org", customer_tid=9)] if another else []
    squatted.restore(workload, *squatted.kept, *squatted.bobs[1:], *others)
    before = squatted.rows()
    made = squatted.settle()
    assert squatted.rows() == before
    assert "310-1" in made.left.undecided
    assert {step.id for step in made.orphans} == {"1-1", "2-1", "3-1"}
    squatted.acknowledge()
    squatted.settle(made.held_digest)
    assert squatted.answer(workload) == OK
    assert [squatted.refusal(lost) for lost in squatted.bobs[1:]] == [WHY] * 2


def test_p4_displaced_proxies_count_as_removals(make_node: Any) -> None:
    node = make_node("gw1.example", max_removal_count=1, max_removal_share=0)
    for number in (1, 2):
        node.proxy(number, f"w{number}.newcorp.example", tid=8)
    node.settle()
    node.acknowledge()
    node.delegated = {"newcorp.example"}
    before = node.rows()
    workload = node.delegate(310, "newcorp.example")
    made = node.settle()
    assert {step.id for step in made.held_steps} == {"1-1", "2-1"}
    assert "310-1" in made.left.undecided
    assert node.rows() == before
    node.settle(made.held_digest)
    assert node.answer(workload) == OK
    assert not node.strings


def test_p4_the_delegation_is_not_applied_before_the_proxies_are_gone(squatted: Any) -> None:
    squatted.delegate(310, "newcorp.example")
    *ends, deploy = squatted.plan().steps
    assert [step.action for step in (*ends, deploy)] == [Action.REFUSE] * 3 + [Action.DEPLOY]
    for end in ends[:2]:
        assert squatted.apply(end.transaction)
    assert not squatted.apply(deploy.transaction)
    assert squatted.get(ZONE_OWNERS, "newcorp.example") is None
    squatted.settle()
    assert squatted.text(ZONE_OWNERS, "newcorp.example") is not None


def test_p4_an_answer_that_is_on_its_way_arrives_before_the_reason(node: Any) -> None:
    node.delegated = {"newcorp.example"}
    proxy = node.proxy(1, "www.newcorp.example", tid=8)
    workload = node.delegate(2, "newcorp.example")
    made = node.settle()
    assert node.answer(proxy) == OK
    assert any("has not taken the answer for 1-1 yet" in problem for problem in made.problems)
    node.acknowledge()
    node.settle()
    assert node.refusal(proxy) == WHY
    assert node.answer(workload) == OK


def test_p4_news_alone_displace_nothing(squatted: Any) -> None:
    squatted.desired.take_fresh()
    squatted.look_up(["newcorp.example"])
    made = squatted.planned()
    squatted.delegate(310, "newcorp.example")
    assert squatted.plan_incremental(made) is None


def test_p4_an_incomplete_listing_displaces_nothing(squatted: Any) -> None:
    squatted.desired = Desired(squatted.node_id)
    squatted.desired.begin_listing()
    for lost in squatted.bobs:
        squatted.want(lost)
    workload = squatted.delegate(310, "newcorp.example")
    before = squatted.rows()
    squatted.settle()
    assert squatted.rows() == before
    assert squatted.answer(workload) is None
    squatted.desired.end_listing()
    squatted.acknowledge()
    squatted.settle()
    assert squatted.answer(workload) == OK
