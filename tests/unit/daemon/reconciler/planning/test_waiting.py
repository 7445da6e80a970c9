"""A subdomain waits for its domain to be delegated, whatever comes first and whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tfgateway.explorer.models import NextAction, Result, ResultState, Workload, gwid
from tfgateway.reconciler.planning import render
from tfgateway.reconciler.planning.claims import Claims
from tfgateway.reconciler.planning.decisions import accept_all
from tfgateway.reconciler.planning.inputs.reservation import of_workload
from tfgateway.reconciler.planning.inputs.rows import Rows
from tfgateway.reconciler.verdict import Facts, judge, row_state, tally
from tfgateway.redis_schema.keys import MANAGED_DOMAINS, RESERVATIONS, WAITING

SECOND = 10**9
Node = Any

OK = (ResultState.OK, "")
REFUSED = (ResultState.ERROR, "alice.example is not managed by the gateway. delegate the domain first")
FIVE = '{"a":[{"ip":"203.0.113.5","ttl":3600}]}'


def served(node: Node, label: str = "www") -> str | None:
    return node.text("alice.example.", label)


def verdicts(node: Node) -> dict[str, str]:
    """What a fresh look says, without the planes; and the process that made a plan counts the same."""
    actual, records = node.look()
    claims = Claims(node.policy, Rows(actual))
    accepted = accept_all(claims, node.desired, records)
    found = {}
    for identifier, wanted in node.desired.items():
        if wanted.next_action == NextAction.DELETED:
            continue
        recorded = identifier in accepted
        reservation = accepted.get(identifier) or of_workload(wanted.workload)
        rows, ground = row_state(claims, reservation, recorded=recorded)
        facts = Facts(True, wanted, recorded, rows, None, ground=ground)
        found[identifier] = str(judge(facts)[0])
    counts = tally(node.desired, node.plan().left, {})
    assert {name: count for name, count in counts.items() if count} == {
        name: list(found.values()).count(name) for name in found.values()
    }
    return found


def settled(node: Node) -> Any:
    made = node.settle()
    node.acknowledge()
    return made


def test_a_child_without_a_parent_waits_and_is_deployed_when_it_comes(node: Node) -> None:
    child = node.subdomain(1, "www.alice.example", "203.0.113.5")
    (step,) = [step for step in settled(node).steps if step.id]
    assert render.step_line(step).startswith("wait    1-1 subdomain www.alice.example of user 7: it waits")
    assert step.message == "it waits for alice.example to be delegated, until 2023-11-14 23:13:20 UTC"
    assert verdicts(node) == {"1-1": "pending"}
    assert node.answer(child) is None
    node.now += 3599 * SECOND
    assert settled(node).steps == ()
    node.delegate(2, "alice.example")
    settled(node)
    assert (node.recorded(child), served(node)) == (True, FIVE)
    assert WAITING not in node.hashes


def test_when_the_time_is_over_it_is_refused_as_ever(node: Node) -> None:
    child = node.subdomain(1, "www.alice.example", "203.0.113.5")
    settled(node)
    node.now += 3600 * SECOND
    node.settle()
    assert node.answer(child) == REFUSED
    assert node.deleted(child)
    assert WAITING not in node.hashes


@pytest.mark.parametrize("deployed_before", [False, True])
def test_without_a_timeout_it_does_not_wait(make_node: Callable[..., Node], deployed_before: bool) -> None:
    node = make_node(parent_timeout=0)
    child = node.subdomain(1, "www.alice.example", "203.0.113.5")
    if deployed_before:
        zone = node.delegate(2, "alice.example")
        settled(node)
        node.delete(zone)
    node.settle()
    assert node.answer(child) == REFUSED
    assert not node.recorded(child)


@pytest.mark.parametrize("at_once", [True, False], ids=["in one poll", "in two"])
@pytest.mark.parametrize("older", ["parent", "child"])
def test_a_parent_that_is_deleted_and_made_again(node: Node, at_once: bool, older: str) -> None:
    numbers = (1, 2) if older == "parent" else (2, 1)
    zone = node.delegate(numbers[0], "alice.example")
    child = node.subdomain(numbers[1], "www.alice.example", "203.0.113.5")
    settled(node)
    before = node.rows()
    node.delete(zone)
    if not at_once:
        made = settled(node)
        assert made.summary() == {"remove": 1, "wait": 1}
        assert made.problems == ()
        assert "alice.example." not in node.hashes
        assert node.recorded(child)
        assert node.text(MANAGED_DOMAINS, "www.alice.example") == "7", "its name stays its user's"
        assert verdicts(node) == {f"{numbers[1]}-1": "pending"}
        node.now += 3000 * SECOND
    again = node.delegate(3, "alice.example")
    made = settled(node)
    assert at_once or made.summary() == {"deploy": 2}, "nothing had drifted"
    after = node.rows()
    assert after[RESERVATIONS].pop("3-1")
    assert before[RESERVATIONS].pop(gwid(zone))
    assert after == before
    # The next time counts anew.
    node.delete(again)
    settled(node)
    node.now += 3599 * SECOND
    assert settled(node).steps == ()
    assert set(verdicts(node).values()) == {"pending"}


def test_one_that_was_deployed_is_refused_too_when_nobody_delegates_again(node: Node) -> None:
    zone = node.delegate(1, "alice.example")
    child = node.subdomain(2, "www.alice.example", "203.0.113.5")
    settled(node)
    node.delete(zone)
    settled(node)
    node.now += 3600 * SECOND
    node.settle()
    assert node.answer(child) == REFUSED
    assert node.deleted(child)
    assert not node.recorded(child)
    assert node.get(MANAGED_DOMAINS, "www.alice.example") is None
    assert WAITING not in node.hashes


def test_a_parent_that_is_refused_and_then_granted(node: Node) -> None:
    proxy = node.proxy(1, "shop.alice.example", tid=8)
    settled(node)
    child = node.subdomain(2, "www.alice.example", "203.0.113.5")
    zone = node.delegate(3, "alice.example")
    settled(node)
    assert not node.recorded(zone)
    assert node.get(WAITING, "2-1") is not None
    node.delete(proxy)
    node.delegate(4, "alice.example")
    settled(node)
    assert (node.recorded(child), served(node)) == (True, FIVE)


def test_deleted_while_it_waits_it_leaves_nothing(node: Node) -> None:
    zone = node.delegate(1, "alice.example")
    children = [node.subdomain(2, "www.alice.example", "203.0.113.5")]
    settled(node)
    node.delete(zone)
    children.append(node.subdomain(3, "new.alice.example", "203.0.113.5"))
    settled(node)
    assert sorted(node.hashes[WAITING]) == ["2-1", "3-1"]
    for child in children:
        node.delete(child)
    settled(node)
    assert WAITING not in node.hashes
    assert node.get(MANAGED_DOMAINS, "www.alice.example") is None


def test_a_wait_that_nothing_stands_behind_is_swept(node: Node) -> None:
    node.put(WAITING, "9-1", '{"since":1700000000}')
    assert settled(node).summary() == {"claim": 1, "sweep": 1}
    assert WAITING not in node.hashes


@pytest.mark.parametrize("hours", [2, -2, 365 * 24])
def test_a_clock_that_is_set_neither_ends_nor_prolongs_a_wait(node: Node, hours: int) -> None:
    child = node.subdomain(1, "www.alice.example", "203.0.113.5")
    settled(node)
    node.ahead = hours * 3600 * SECOND
    node.now += 3599 * SECOND
    made = node.settle()
    assert node.answer(child) is None
    since = 1_700_000_000 + hours * 3600
    assert node.text(WAITING, "1-1") == f'{{"since":{since},"boot":"this boot","uptime":1700000000.0}}'
    assert made.summary() == {"wait": 1}, "an older release and a reader of the verdict find the right time"
    node.now += SECOND
    node.settle()
    assert node.answer(child) == REFUSED


@pytest.mark.parametrize("hours", [0, 2, -2, 365 * 24])
def test_after_a_reboot_no_more_counts_than_the_time_since(node: Node, hours: int) -> None:
    child = node.subdomain(1, "www.alice.example", "203.0.113.5")
    settled(node)
    node.ahead = hours * 3600 * SECOND - node.now
    node.boot, node.now = "the next one", 0
    node.ahead += 1_700_000_000 * SECOND
    node.now += 600 * SECOND
    node.settle()
    node.now += 2900 * SECOND
    node.settle()
    assert node.answer(child) is None
    node.now += 700 * SECOND
    node.settle()
    assert node.answer(child) == REFUSED


@pytest.mark.parametrize("found", ["garbage", '{"since":99999999999}'])
def test_a_beginning_that_cannot_be_is_written_anew(node: Node, found: str) -> None:
    node.put(WAITING, "1-1", found)
    child = node.subdomain(1, "www.alice.example", "203.0.113.5")
    settled(node)
    assert node.text(WAITING, "1-1") == '{"since":1700000000,"boot":"this boot","uptime":1700000000.0}'
    node.now += 3600 * SECOND
    node.settle()
    assert node.answer(child) == REFUSED


def test_no_time_passes_while_the_explorer_has_not_listed_everything(node: Node) -> None:
    zone = node.delegate(1, "alice.example")
    node.subdomain(2, "www.alice.example", "203.0.113.5")
    settled(node)
    node.delete(zone)
    settled(node)
    node.now += 9999 * SECOND
    node.desired.generation = 0
    made = node.plan()
    assert (made.steps, made.problems) == ((), ())


def test_what_is_granted_once_and_only_lost_its_record_waits_too(node: Node) -> None:
    child = node.subdomain(
        1, "www.alice.example", "203.0.113.5", result=Result(workload_id="1-1", state=ResultState.OK, epoch=1)
    )
    settled(node)
    node.delegate(2, "alice.example")
    settled(node)
    assert node.recorded(child)


def test_a_name_that_waits_stays_its_users(node: Node) -> None:
    zone = node.delegate(1, "alice.example")
    node.subdomain(2, "www.alice.example", "203.0.113.5")
    settled(node)
    node.delete(zone)
    settled(node)
    foreign = [
        node.proxy(3, "www.alice.example", tid=8),
        node.proxy(4, "x.www.alice.example", tid=8),
        node.delegate(5, "alice.example", tid=8),
        node.delegate(6, "www.alice.example", tid=8),
    ]
    own = node.proxy(7, "www.alice.example")
    node.settle()
    assert [node.answer(workload)[0] for workload in foreign] == [ResultState.ERROR] * 4
    assert node.answer(own) == OK


def test_one_that_was_never_granted_holds_nothing(node: Node) -> None:
    waiting = node.subdomain(1, "www.alice.example", "203.0.113.5", tid=8)
    settled(node)
    zone = node.delegate(2, "alice.example")
    child = node.subdomain(3, "www.alice.example", "203.0.113.5")
    node.settle()
    assert [node.answer(workload) for workload in (zone, child)] == [OK, OK]
    assert node.answer(waiting) == (
        ResultState.ERROR,
        "cannot add subdomain www to zone alice.example: unauthorized error",
    )


def test_who_comes_first_has_the_name_when_a_domain_becomes_managed(make_node: Callable[..., Node]) -> None:
    node = make_node()
    first = node.subdomain(1, "www.gw2.example", "203.0.113.5", tid=8)
    second = node.subdomain(2, "www.gw2.example", "203.0.113.6")
    settled(node)
    node.policy = dataclasses.replace(node.policy, managed_domains=("gw2.example",))
    node.settle()
    assert (node.recorded(first), node.recorded(second)) == (True, False)


def test_p26_those_that_wait_count_for_their_user_and_come_after_all_others(make_node: Callable[..., Node]) -> None:
    node = make_node("gw1.example", max_reservations_per_user=3)
    waiting = [node.subdomain(number, f"n{number}.alice.example", "203.0.113.5") for number in range(1, 6)]
    node.settle()
    assert sorted(node.hashes[WAITING]) == ["1-1", "2-1", "3-1"]
    assert [node.answer(workload)[1] for workload in waiting[3:]] == [
        "quota exceeded: a user may have 3 reservations on this gateway"
    ] * 2
    node.acknowledge()
    other = node.subdomain(7, "www.gw1.example", "203.0.113.5", tid=8)
    own = node.subdomain(8, "own.gw1.example", "203.0.113.5")
    node.settle()
    assert (node.answer(own), node.answer(other)) == (OK, OK), "who waits keeps nobody out"
    assert sorted(node.hashes[WAITING]) == ["1-1", "2-1"]


def test_the_guard_counts_what_goes_dark_with_its_zone_once(make_node: Callable[..., Node]) -> None:
    node = make_node("gw1.example", max_removal_count=2, max_removal_share=0)
    zone = node.delegate(1, "alice.example")
    children = [node.subdomain(number, f"n{number}.alice.example", "203.0.113.5") for number in (2, 3)]
    others = [node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5") for number in (4, 5)]
    settled(node)
    node.delete(zone)
    made = node.settle()
    assert [str(step.action) for step in made.held_steps] == ["remove", "wait", "wait"]
    assert served(node, "n2") == FIVE
    node.acknowledge()
    assert node.settle(consent=made.held_digest).summary() == {"remove": 1, "wait": 2}
    node.acknowledge()
    # An hour later they end. Nothing of them is served, so that is no loss, and keeps no other removal back.
    node.now += 3600 * SECOND
    for other in others:
        node.delete(other)
    assert node.settle().summary() == {"remove": 2, "refuse": 2}
    assert [node.refusal(child) for child in children] == [REFUSED[1]] * 2


def test_news_about_a_zone_with_children_take_a_look_at_everything(node: Node) -> None:
    zone = node.delegate(1, "alice.example")
    child = node.subdomain(2, "www.alice.example", "203.0.113.5")

    def plan() -> Any:
        settled(node)
        made = node.planned()
        node.desired.take_fresh()
        return made

    made = plan()
    node.delete(zone)
    assert node.plan_incremental(made) is None, "the child goes dark"
    made = plan()
    node.delegate(3, "bob.example", tid=8)
    assert [step.id for step in node.plan_incremental(made).steps] == ["3-1"], "has nothing to do with who waits"
    made = plan()
    node.delegate(4, "alice.example")
    assert node.plan_incremental(made) is None, "the child can be served again"
    settled(node)
    new = node.subdomain(5, "www.carol.example", "203.0.113.5")
    made = plan()
    node.delete(new)
    assert node.plan_incremental(made) is None, "it counts for its user no more"
    assert node.recorded(child)


@st.composite
def _histories(draw: st.DrawFn) -> list[tuple[tuple[str, Any], str]]:
    """Events about one domain of user 7, its children, and another user who wants the same names; a pass after each."""
    events = st.one_of(
        st.tuples(st.just("delegate"), st.sampled_from([7, 7, 7, 8])),
        st.tuples(st.just("child"), st.sampled_from([("www", 7), ("mail", 7), ("a.www", 7), ("www", 8)])),
        st.tuples(st.just("delete"), st.integers(0, 30)),
        st.tuples(st.just("delete"), st.just(0)),
        st.tuples(st.just("lost"), st.just(0)),
        st.tuples(st.just("time"), st.integers(0, 900)),
    )
    passes = st.sampled_from(["", "cut", "unacknowledged", "whole", "whole"])
    return draw(st.lists(st.tuples(events, passes), min_size=4, max_size=20))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=_histories(), chance=st.randoms(use_true_random=False))
def test_children_are_deployed_once_their_parent_is(
    make_node: Callable[..., Node], history: list[tuple[tuple[str, Any], str]], chance: random.Random
) -> None:
    """Any order, any timing, a pass cut anywhere, redis emptied: as if everything that is left had come in order."""
    node = make_node("gw1.example", max_removal_count=1000, parent_timeout=10**6)
    alive: list[Workload] = []
    number = 0
    for (event, detail), look in history:
        number += 1
        if event == "delegate":
            alive.append(node.delegate(number, "alice.example", tid=detail))
        elif event == "child":
            alive.append(node.subdomain(number, f"{detail[0]}.alice.example", "203.0.113.5", tid=detail[1]))
        elif event == "delete" and alive:
            node.delete(alive.pop(detail % len(alive)))
        elif event == "time":
            node.now += detail * SECOND
        elif event == "lost":
            node.hashes.clear()
            node.strings.clear()
        if look:
            steps = node.plan().steps
            for step in steps[: chance.randint(0, len(steps)) if look == "cut" else len(steps)]:
                assert node.apply(step.transaction)
            if look != "unacknowledged":
                node.acknowledge()
        ended = {name for name, wanted in node.desired.items() if wanted.next_action == NextAction.DELETED}
        alive = [workload for workload in alive if gwid(workload) not in ended]
    # In the end user 7 has the domain and a child that came before it, and nobody is in the way.
    for workload in [one for one in alive if one.customer_tid == 8]:
        node.delete(workload)
    if not any(one.customer_tid == 7 and one.workload_type == 7 for one in alive):
        alive.append(node.subdomain(number + 1, "www.alice.example", "203.0.113.5"))
    for _ in range(2):
        node.settle()
        node.acknowledge()
    parent = node.delegate(number + 2, "alice.example")
    for _ in range(2):
        node.settle()
        node.acknowledge()
    assert node.recorded(parent)
    refused = {
        name: wanted.result.message
        for name, wanted in node.desired.items()
        if wanted.result is not None and wanted.result.state != ResultState.OK
    }
    assert REFUSED[1] not in refused.values(), "it could have waited"
    for workload in alive:
        if workload.customer_tid == 7 and gwid(workload) not in refused:
            assert node.recorded(workload), workload
    assert WAITING not in node.hashes
    fresh = make_node("gw1.example", parent_timeout=0)
    for name, wanted in node.desired.items():
        if name in node.hashes[RESERVATIONS]:
            fresh.want(msgspec.structs.replace(wanted.workload, result=Result()))
    fresh.settle()
    mine = {key: rows for key, rows in node.rows().items() if key != RESERVATIONS}
    assert mine == {key: rows for key, rows in fresh.rows().items() if key != RESERVATIONS}
