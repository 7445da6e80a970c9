"""The removal guard over time: slices of a loss count together, and nobody's ordinary work is held up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tfgateway.instant import Instant
from tfgateway.reconciler.planning import render
from tfgateway.reconciler.planning.inputs import guard
from tfgateway.reconciler.planning.planner import Stream

SECOND = 10**9
MINUTE = 60 * SECOND


def subdomains(node: Any, count: int, first: int = 1) -> list[Any]:
    return [node.subdomain(n, f"n{n}.gw1.example", "203.0.113.5") for n in range(first, first + count)]


def settled(node: Any, count: int) -> list[Any]:
    """A gateway of long standing."""
    workloads = subdomains(node, count)
    node.settle()
    node.acknowledge()
    node.now += 2 * 60 * MINUTE
    node.settle()
    return workloads


def delete(node: Any, workloads: list[Any]) -> Any:
    for workload in workloads:
        node.delete(workload)
    made = node.settle()
    node.acknowledge()
    return made


@pytest.mark.parametrize(("count", "size"), [(800, 200), (80, 8), (80, 1)])
def test_a_loss_in_slices_is_held_back_like_one_in_one_go(node: Any, count: int, size: int) -> None:
    workloads = settled(node, count)
    for start in range(0, count, size):
        made = delete(node, workloads[start : start + size])
        if made.held:
            break
        node.now += 10 * SECOND
    allowed = count * 3 // 10
    gone = allowed // size * size
    assert sum(map(node.recorded, workloads)) == count - gone
    assert render.held_reason(made.held).startswith(
        f"{size} of {count - gone} reservations would be removed after {gone} within the hour and at most {allowed} may"
    )


@pytest.mark.parametrize("size", [200, 10])
def test_a_loss_that_comes_as_news_of_polls_is_held_back(node: Any, size: int) -> None:
    """Pages of a poll, between two looks at everything."""
    workloads = settled(node, 800)
    made = node.planned()
    node.desired.take_fresh()
    removed = 0
    for start in range(0, 800, size):
        for workload in workloads[start : start + size]:
            node.delete(workload)
        more = node.plan_incremental(made)
        if more is None:
            break
        removed += len(more.steps)
        assert all(node.apply(step.transaction) for step in more.steps)
    assert removed == 240 // size * size
    assert "within the hour" in render.held_reason(node.plan().held)


def test_an_active_user_of_a_small_gateway_holds_nothing_up(node: Any) -> None:
    """He makes and removes one every two minutes, for three hours; others remove ten of twenty in an hour."""
    workloads = settled(node, 20)
    for minute in range(0, 180, 2):
        (tried,) = subdomains(node, 1, first=1000 + minute)
        assert node.settle().held is None
        assert delete(node, [tried]).held is None
        node.now += 2 * MINUTE
        if minute >= 120 and minute % 6 == 0:
            assert delete(node, [workloads.pop()]).held is None
    assert sum(map(node.recorded, workloads)) == 10


def test_what_was_made_and_removed_within_minutes_is_no_loss(node: Any) -> None:
    settled(node, 20)
    for start in (1000, 2000, 3000):
        made = subdomains(node, 30, first=start)
        node.settle()
        for workload in made:
            assert delete(node, [workload]).held is None
        node.now += 5 * MINUTE


def test_what_one_more_than_may_be_has_to_wait_for_goes_when_the_hour_is_over(node: Any) -> None:
    workloads = settled(node, 20)
    for workload in workloads[:10]:
        assert delete(node, [workload]).held is None
        node.now += MINUTE
    held = render.held_reason(delete(node, [workloads[10]]).held)
    assert held == (
        "1 of 10 reservations would be removed after 10 within the hour and at most 10 may be: "
        "`tfgateway reconcile --allow-removals` if this is meant"
    )
    node.now += 40 * MINUTE
    assert node.settle().held
    node.now += 20 * MINUTE
    assert node.settle().summary() == {"remove": 1}


def test_consent_is_the_end_of_the_count(node: Any) -> None:
    workloads = settled(node, 20)
    for start in (0, 8):
        made = delete(node, workloads[start : start + 8])
    assert "8 of 12 reservations would be removed after 8 within the hour" in render.held_reason(made.held)
    assert node.settle(consent=made.held_digest).consented
    assert sum(map(node.recorded, workloads)) == 4
    assert delete(node, workloads[16:17]).held is None


def test_what_is_lost_from_redis_does_not_hold_its_return_up(node: Any) -> None:
    workloads = settled(node, 20)
    node.hashes.clear()
    assert node.settle().held is None
    node.hashes.clear()
    made = delete(node, workloads[:1])
    assert made.summary()["deploy"] == 19
    assert node.settle().held is None
    assert not node.recorded(workloads[0])


def at(seconds: float, *, ahead: float = 0, boot: str = "this boot") -> Instant:
    """So long after the boot; ahead: seconds by which the clock was set since."""
    return Instant(round((1_700_000_000 + seconds + ahead) * SECOND), boot, seconds)


def test_numbers_are_noted_every_ten_minutes_for_an_hour() -> None:
    samples: tuple[guard.CountSample, ...] = ()
    for minute in range(600):
        samples = guard.noted(samples, at(minute * 60), minute)
        assert len(samples) <= 7
    assert [sample.recorded for sample in samples] == [540, 550, 560, 570, 580, 590]
    assert guard.most(samples, at(599 * 60)) == 590
    assert guard.most(samples, at(700 * 60)) == 0


YEAR = 365 * 24 * 3600


@pytest.mark.parametrize("ahead", [7200, -7200, YEAR, -YEAR])
def test_a_clock_that_is_set_changes_nothing(ahead: float) -> None:
    samples = guard.noted((), at(100_000), 800)
    assert guard.most(samples, at(100_000 + 3599, ahead=ahead)) == 800
    assert guard.noted(samples, at(100_000 + 599, ahead=ahead), 5) == samples
    assert len(guard.noted(samples, at(100_000 + 600, ahead=ahead), 5)) == 2
    assert guard.most(samples, at(100_000 + 3601, ahead=ahead)) == 0


@pytest.mark.parametrize("ahead", [7200, -7200, YEAR, -YEAR])
def test_after_a_reboot_numbers_count_for_an_hour_whatever_the_clock_says(ahead: float) -> None:
    samples = guard.noted((), at(100_000), 800)
    for old in (samples, tuple(guard.CountSample(one.taken, one.recorded) for one in samples)):
        assert guard.most(old, at(3599, ahead=ahead, boot="the next one")) == 800
        assert guard.most(old, at(3601, ahead=ahead, boot="the next one")) == 0


def test_numbers_of_an_older_release_go_by_the_clock() -> None:
    samples = (guard.CountSample(at(100_000).unix, 800),)
    assert guard.most(samples, at(100_000 + 3599)) == 800
    assert guard.most(samples, at(100_000 + 3601)) == 0


def test_numbers_come_back_from_redis_and_garbage_is_none() -> None:
    samples = (guard.CountSample(1.5, 800), guard.CountSample(601.5, 700, "this boot", 3.5))
    assert guard.decode_samples(msgspec.json.encode(samples)) == samples
    assert guard.decode_samples(b"[[1.5,800]]") == samples[:1]
    for raw in (None, b"", b"{", b"[[1]]", b'["x"]'):
        assert guard.decode_samples(raw) == ()


def test_nothing_is_a_stream_where_much_was_recorded_of_late(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example")
    assert Stream.fits(node.policy, 10)
    assert not Stream.fits(node.policy, 11)
