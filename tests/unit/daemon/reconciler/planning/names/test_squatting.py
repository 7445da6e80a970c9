"""Names that are held by somebody who owns nothing, and what their owner or the operator can do about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tfgateway.explorer.models import ResultState
from tfgateway.identity import proof_token
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.planning.proofs import NameFacts
from tfgateway.redis_schema.keys import MANAGED_DOMAINS, ZONE_OWNERS

OK = (ResultState.OK, "")
NAME = "www.newcorp.example"
ALICE, MALLORY = 7, 8
USERS = {str(tid): Identity.from_seed(bytes([tid]) * 32) for tid in (ALICE, MALLORY)}


def settled(node: Any) -> None:
    node.settle()
    node.acknowledge()


@pytest.mark.parametrize("asked", ["off", "dns"])
def test_p4_a_proxy_does_not_block_the_delegation_of_the_domain(make_node: Any, asked: str) -> None:
    """Its owner has shown at the parent zone whose domain it is, whether or not proofs are asked for."""
    node = make_node("gw1.example", proof=asked)
    squatting = node.proxy(1, NAME, tid=MALLORY)
    settled(node)
    node.delegated = {"newcorp.example"}
    owned = node.delegate(2, "newcorp.example", tid=ALICE)
    node.settle()
    assert node.answer(owned) == OK
    assert node.get(ZONE_OWNERS, "newcorp.example") is not None
    assert "was delegated to this gateway" in node.refusal(squatting)
    node.acknowledge()
    web = node.proxy(3, NAME, tid=ALICE)
    node.settle()
    assert node.answer(web) == OK


def test_a_proxy_does_not_block_the_proxy_of_the_owner(make_node: Any) -> None:
    node = make_node("gw1.example", proof="dns")
    node.users = {tid: user.public_key for tid, user in USERS.items()}
    squatting = node.proxy(1, NAME, tid=MALLORY)
    settled(node)
    token = proof_token.token(USERS["7"].seed, node.identity.public_key, "7", NAME)
    node.ask_dns()
    node.dns[NAME] = NameFacts(tokens=frozenset({token}), complete=True)
    web = node.proxy(2, NAME, tid=ALICE)
    node.settle()
    assert node.answer(web) == OK
    assert node.deleted(squatting)


@pytest.mark.parametrize(("held", "wanted"), [("q.w.e.gw1.example", "e.gw1.example"), ("www.gw1.example",) * 2])
def test_p6_a_name_in_a_managed_domain_is_free_once_the_operator_has_ended_the_other(
    make_node: Any, held: str, wanted: str
) -> None:
    """There first come is first served: nobody owns such a name but the operator, who can say who may have it."""
    node = make_node("gw1.example")
    squatting = node.subdomain(1, held, "203.0.113.8", tid=MALLORY)
    settled(node)
    refused = node.subdomain(2, wanted, "203.0.113.7", tid=ALICE)
    node.settle()
    assert node.refusal(refused)
    node.acknowledge()
    node.policy = replace(node.policy, released_reservations={"1-1": "squatting"})
    for step in node.plan().steps:
        assert node.apply(step.transaction)
    assert node.refusal(squatting) == "squatting"
    assert node.deleted(squatting)
    node.policy = replace(node.policy, released_reservations={})
    node.acknowledge()
    granted = node.subdomain(3, wanted, "203.0.113.7", tid=ALICE)
    node.settle()
    assert node.answer(granted) == OK
    assert node.text(MANAGED_DOMAINS, wanted) == str(ALICE)
    assert node.get(MANAGED_DOMAINS, held) is None or held == wanted
