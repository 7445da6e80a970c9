"""Time-outs of many things."""

from __future__ import annotations

from tfgateway.proxy.eventloop.deadlines import Deadlines


def test_what_came_first_expires_first() -> None:
    tested: Deadlines[str] = Deadlines(10.0)
    tested.start("a", 0.0)
    tested.start("b", 1.0)
    tested.start("c", 2.0)
    assert tested.oldest() == "a"
    assert list(tested.expired(9.9)) == []
    assert list(tested.expired(11.0)) == ["a", "b"]
    assert list(tested.expired(11.0)) == []
    assert len(tested) == 1


def test_started_again_it_is_the_youngest_and_stopped_it_is_forgotten() -> None:
    tested: Deadlines[str] = Deadlines(10.0)
    for name in "abc":
        tested.start(name, 0.0)
    tested.start("a", 5.0)
    tested.stop("b")
    tested.stop("nobody")
    assert list(tested.expired(10.0)) == ["c"]
    assert list(tested.expired(15.0)) == ["a"]
    assert tested.oldest() is None


def test_others_may_be_started_and_stopped_meanwhile() -> None:
    tested: Deadlines[str] = Deadlines(1.0)
    for name in "abc":
        tested.start(name, 0.0)
    seen = []
    for name in tested.expired(1.0):
        seen.append(name)
        tested.stop("b")
        tested.start(name, 1.0)
    assert seen == ["a", "c"]
    assert list(tested.expired(2.0)) == ["a", "c"]
