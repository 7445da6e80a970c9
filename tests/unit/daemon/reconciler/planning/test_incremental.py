"""News planned for on top of a plan that was applied: the same rows as by a look at everything."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tfgateway.explorer.models import NextAction
from tfgateway.reconciler.planning import render


def settled(node: Any) -> Any:
    """The last plan, which found nothing to do."""
    node.settle()
    node.acknowledge()
    made = node.planned()
    node.desired.take_fresh()
    return made


def test_news_are_deployed_and_removed_without_a_look_at_the_rest(node: Any) -> None:
    old = node.subdomain(1, "old.gw1.example", "203.0.113.5")
    made = settled(node)
    zone = node.delegate(2, "alice.example")
    node.subdomain(3, "www.alice.example", "203.0.113.5")
    node.delete(old)
    more = node.plan_incremental(made)
    assert more.summary() == {"remove": 1, "deploy": 2}
    for step in more.steps:
        assert node.apply(step.transaction)
    node.proxy(4, "www.alice.example")
    again = node.plan_incremental(made)
    assert [step.id for step in again.steps] == ["4-1"]
    assert node.apply(again.steps[0].transaction)
    assert node.plan().steps == (), "a look at everything finds nothing to add"
    assert node.recorded(zone)
    assert not node.recorded(old)


def test_what_needs_a_look_at_everything_gets_it(node: Any) -> None:
    node.subdomain(1, "old.gw1.example", "203.0.113.5")
    for news in (
        lambda: node.subdomain(9, "old.gw1.example", "203.0.113.5", tid=8),  # to be refused
        lambda: node.unknown(10, 12),
        lambda: node.want(msgspec.structs.replace(node.subdomain(1, "old.gw1.example"), ips=("203.0.113.9",))),
    ):
        made = settled(node)
        news()
        assert node.plan_incremental(made) is None
    settled(node)
    node.relist()
    assert node.desired.take_fresh() is None


def test_the_guard_counts_removals_of_news_too(make_node: Any) -> None:
    node = make_node("gw1.example", max_removal_count=1, max_removal_share=0)
    third, *workloads = [node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5") for number in (1, 2, 3)]
    made = settled(node)
    for workload in workloads:
        node.delete(workload)
    assert node.plan_incremental(made) is None
    made = settled(node)
    assert made.plan.held
    node.delete(third)
    assert node.plan_incremental(made) is None, "no removal comes on top of those that are held back"


def test_while_removals_are_held_back_news_are_deployed_without_a_look_at_the_rest(make_node: Any) -> None:
    node = make_node("gw1.example", max_removal_count=1, max_removal_share=0)
    workloads = [node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5") for number in (1, 2)]
    settled(node)
    for workload in workloads:
        node.delete(workload)
    made = settled(node)
    assert made.plan.held
    node.subdomain(9, "new.gw1.example", "203.0.113.5")
    (step,) = node.plan_incremental(made).steps
    assert (step.action, step.id) == ("deploy", "9-1")
    assert node.apply(step.transaction)
    assert node.plan().steps == ()
    late = node.subdomain(10, "n1.gw1.example", "203.0.113.5", tid=8)
    assert node.plan_incremental(made) is None, "refused only for the sake of what was kept"
    made = settled(node)
    assert node.answer(late) is None
    node.settle(consent=made.plan.held_digest)
    assert node.recorded(late)


def test_a_row_that_others_changed_is_found_by_the_transaction(node: Any) -> None:
    made = settled(node)
    node.put("gw1.example.", "www", "{}")
    node.subdomain(3, "www.gw1.example", "203.0.113.5")
    (step,) = node.plan_incremental(made).steps
    assert not node.apply(step.transaction)
    node.settle()


NAMES = ("gw1.example", "a.gw1.example", "b.a.gw1.example", "alice.example", "w.alice.example")


@given(st.lists(st.tuples(st.sampled_from("dspx"), st.sampled_from(NAMES), st.sampled_from((7, 8))), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_p8_one_by_one_leads_to_the_rows_of_a_look_at_everything(make_node: Any, events: Any) -> None:
    node = make_node("gw1.example")
    made = settled(node)
    asked: list[Any] = []
    for number, (kind, name, tid) in enumerate(events, 1):
        if kind == "x" and asked:
            node.delete(asked.pop(), NextAction.DELETE)
        elif kind == "d":
            asked.append(node.delegate(number, name, tid=tid))
        elif kind == "s":
            asked.append(node.subdomain(number, name, "203.0.113.5", tid=tid))
        elif kind == "p":
            asked.append(node.proxy(number, name, tid=tid))
        other = copy.deepcopy((node.hashes, node.strings))
        more = node.plan_incremental(made)
        if more is None:
            node.settle()
        else:
            for step in more.steps:
                assert node.apply(step.transaction), render.step_line(step)
            assert node.plan().steps == (), render.as_text(node.plan())
            quick = (copy.deepcopy(node.hashes), copy.deepcopy(node.strings))
            node.hashes, node.strings = other
            node.settle()
            assert (node.hashes, node.strings) == quick
        node.acknowledge()
        if more is None:
            made = settled(node)
