"""What is recorded and the explorer does not know any more: it ends by an operator's consent, or by his word."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tfgateway.explorer.models import NextAction, ResultState
from tfgateway.reconciler.planning import render
from tfgateway.reconciler.planning.model import Action
from tfgateway.redis_schema.keys import OUTBOX, QUARANTINE, RESERVATIONS


def settled(node: Any) -> Any:
    made = node.settle()
    node.acknowledge()
    return made


def release(node: Any, *identifiers: str, reason: str = "abuse") -> Any:
    """The plan of a pass for which an operator ends these."""
    before = node.policy
    node.policy = replace(before, released_reservations=dict.fromkeys(identifiers, reason))
    made = node.plan()
    node.policy = before
    for step in made.steps:
        assert node.apply(step.transaction)
    return made


def test_what_a_restored_explorer_does_not_know_ends_by_consent_to_exactly_that(node: Any) -> None:
    old = node.subdomain(1, "old.gw1.example", "203.0.113.5")
    settled(node)
    before = node.rows()
    node.subdomain(2, "www.gw1.example", "203.0.113.5")
    node.proxy(3, "www.gw1.example")
    settled(node)
    node.restore(old)
    made = settled(node)
    assert made.summary() == {"report": 1}, "the backup has no answer of ours yet"
    assert (made.held, made.held_steps) == (None, ())
    assert [(step.action, step.id) for step in made.orphans] == [(Action.REMOVE, "2-1"), (Action.REMOVE, "3-1")]
    assert render.as_text(made).splitlines()[-3:-1] == [
        "orphan  remove  2-1 subdomain www.gw1.example of user 7: the explorer does not know it any more",
        "orphan  remove  3-1 proxy www.gw1.example of user 7: the explorer does not know it any more",
    ]
    assert [step["id"] for step in json.loads(json.dumps(render.as_data(made)))["orphans"]] == ["2-1", "3-1"]
    assert settled(node).steps == (), "never without consent"
    fewer = node.plan(consent="0" * 64)
    assert (fewer.steps, fewer.consented) == ((), False)
    done = node.settle(consent=made.held_digest)
    assert done.consented
    assert node.rows() == before
    assert OUTBOX not in node.hashes, "the explorer does not know what could be reported"


def test_consent_to_orphans_is_none_to_what_came_on_top(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", max_removal_count=0, max_removal_share=0)
    old = node.subdomain(1, "old.gw1.example", "203.0.113.5")
    node.subdomain(2, "www.gw1.example", "203.0.113.5")
    settled(node)
    node.restore(old)
    made = settled(node)
    node.delete(old)
    held = node.settle(consent=made.held_digest)
    assert held.held
    assert node.recorded(old)
    assert [step.id for step in (*held.held_steps, *held.orphans)] == ["1-1", "2-1"]
    assert node.settle(consent=held.held_digest).summary() == {"remove": 2}


def test_what_ends_with_an_orphan_is_on_the_list(node: Any) -> None:
    """A live subdomain in a zone that the explorer does not know any more."""
    www = node.subdomain(2, "www.gw1.example", "203.0.113.5")
    node.delegate(1, "alice.example")
    child = node.subdomain(3, "www.alice.example", "203.0.113.5")
    settled(node)
    node.restore(www, child)
    made = settled(node)
    assert {step.id: step.action for step in made.orphans} == {"1-1": Action.REMOVE, "3-1": Action.WAIT}
    node.settle(consent=made.held_digest)
    assert node.recorded(child)
    assert node.get("alice.example.", "www") is None


def test_nobody_is_refused_for_the_sake_of_an_orphan(node: Any) -> None:
    zone = node.delegate(1, "alice.example")
    node.subdomain(2, "www.gw1.example", "203.0.113.5")
    settled(node)
    node.restore(zone)
    late = node.subdomain(3, "www.gw1.example", "203.0.113.9", tid=8)
    bad = node.unknown(4, 12)
    made = node.settle()
    assert [step.action for step in made.steps] == [Action.REFUSE, Action.REPORT]
    assert node.refusal(bad)
    node.acknowledge()
    assert any("3-1 waits" in text for text in made.problems)
    assert settled(node).steps == ()
    node.settle(consent=made.held_digest)
    assert node.recorded(late)


def test_an_id_that_was_given_out_twice_is_not_taken_for_the_first_one(node: Any) -> None:
    """The explorer was restored, and its ids went back."""
    node.subdomain(1, "alice.gw1.example", "203.0.113.5")
    settled(node)
    before = node.rows()
    node.relist()
    late = node.subdomain(1, "bob.gw1.example", "203.0.113.9", tid=8)
    made = settled(node)
    assert made.steps == ()
    assert node.rows() == before
    assert any("knows another reservation under this id" in text for text in made.problems)
    assert node.settle(consent=made.held_digest).summary() == {"remove": 1, "deploy": 1}
    assert node.get("managed_domains", "alice.gw1.example") is None
    assert node.text("managed_domains", "bob.gw1.example") == "8"
    assert node.answer(late) == (ResultState.OK, "")


def test_the_second_one_of_an_id_may_end_before_the_first(node: Any) -> None:
    first = node.subdomain(1, "alice.gw1.example", "203.0.113.5")
    settled(node)
    node.relist()
    second = node.subdomain(1, "bob.gw1.example", "203.0.113.9", tid=8)
    node.delete(second)
    made = node.settle()
    assert node.deleted(second)
    assert node.recorded(first)
    assert [step.id for step in made.orphans] == ["1-1"]
    node.acknowledge()
    node.settle(consent=made.held_digest)
    assert not node.recorded(first)


def test_an_operator_ends_one_orphan(node: Any) -> None:
    workloads = [node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5") for number in (1, 2)]
    settled(node)
    node.restore()
    made = release(node, "1-1")
    assert [render.step_line(step) for step in made.steps] == ["release 1-1 subdomain n1.gw1.example of user 7: abuse"]
    assert [node.recorded(workload) for workload in workloads] == [False, True]
    assert node.get("managed_domains", "n1.gw1.example") is None
    assert OUTBOX not in node.hashes
    assert release(node, "1-1").problems[0] == "1-1 waits: it is not released: nothing is recorded for it"


def test_an_operator_ends_one_that_the_explorer_knows_and_it_is_given_the_reason(node: Any) -> None:
    workload = node.proxy(1, "www.gw1.example")
    settled(node)
    release(node, "1-1", reason="phishing")
    assert (node.refusal(workload), node.deleted(workload)) == ("phishing", True)
    assert node.strings == {}
    assert not node.recorded(workload)
    assert settled(node).steps == (), "not again while that is under way"
    assert settled(node).steps == ()
    node.relist(workload)
    assert settled(node).summary() == {"deploy": 1}, "the explorer was restored: its word counts"


def test_an_operators_word_is_not_counted_by_the_guard(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", max_removal_count=0, max_removal_share=0)
    workloads = [node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5") for number in (1, 2)]
    settled(node)
    assert release(node, "1-1", "2-1").held is None
    assert not any(map(node.recorded, workloads))


def test_what_the_explorer_has_not_been_asked_for_is_not_ended(node: Any) -> None:
    workload = node.subdomain(1, "www.gw1.example", "203.0.113.5")
    settled(node)
    node.relist()
    made = release(node, "1-1")
    assert (made.steps, made.orphans) == ((), ())
    assert "1-1 waits: it is not released: the explorer has not said whether it knows it" in made.problems
    assert node.recorded(workload)


@pytest.mark.parametrize("known", [False, True])
def test_a_record_that_cannot_be_read_is_released_into_quarantine(node: Any, known: bool) -> None:
    workload = node.subdomain(1, "www.gw1.example", "203.0.113.5")
    settled(node)
    node.put(RESERVATIONS, "1-1", "garbage")
    if known:
        node.want(msgspec.structs.replace(workload, next_action=NextAction.DELETE))
    else:
        node.restore()
    assert node.plan().orphans == ()
    release(node, "1-1")
    assert node.hashes[QUARANTINE] == {"1-1": b"garbage"}
    assert not node.recorded(workload)
