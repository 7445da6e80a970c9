"""Who is evicted when there is too much of something."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tfgateway.fair_shares import FairShares


def test_the_source_with_most_gives_way() -> None:
    shares = FairShares[str](4)
    for name, source in (("a1", "a"), ("b1", "b"), ("b2", "b"), ("b3", "b"), ("c1", "c")):
        shares.add(name, [source], 1)
    assert shares.has_most(["b"])
    assert not shares.has_most(["c"])
    assert shares.evict() == ["b1"]
    assert shares.total == 4
    assert shares.evict() == []


def test_idle_ones_first_then_those_with_most_then_the_oldest() -> None:
    shares = FairShares[str](0)
    for name, amount in (("busy", 9), ("old", 1), ("large", 2), ("new", 1)):
        shares.add(name, ["a"], amount)
    for name in ("old", "large", "new"):
        shares.mark_idle(name)
    shares.mark_idle("unknown")
    shares.mark_busy("old")
    shares.mark_idle("old")
    assert shares.evict() == ["large", "new", "old", "busy"]


def test_a_network_has_most_only_with_the_larger_ones_that_it_is_in() -> None:
    shares = FairShares[int](2)
    for holder, networks in enumerate((["a", "x"], ["a", "x"], ["b", "y"], ["b", "z"], ["b", "w"])):
        shares.add(holder, networks, 1)
    assert shares.amount(["a", "x"]) > shares.amount(["b", "y"])
    assert shares.has_most(["b", "y"])
    assert not shares.has_most(["a", "x"])
    assert not shares.has_most(["c", "u"])
    assert shares.evict(room=1) == [2, 0, 3, 1]


def test_one_that_has_given_way_returns_nothing() -> None:
    shares = FairShares[str](5)
    shares.add("a", ["a"], 10)
    assert shares.evict() == ["a"]
    shares.add("a", ["a"], -10)
    shares.remove("a")
    assert (shares.total, shares.amount(["a"])) == (0, 0)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "mark_idle", "mark_busy"]), st.integers(0, 7), st.integers(-5, 9)),
    max_size=40,
)


@given(_STEPS, st.integers(0, 30))
def test_the_sums_are_right_and_the_limit_is_kept(steps: list[tuple[str, int, int]], limit: int) -> None:
    shares = FairShares[int](limit)
    held: Counter[int] = Counter()
    for step, holder, amount in steps:
        if step == "add":
            shares.add(holder, [str(holder % 3)], amount)
            held[holder] = max(held[holder] + amount, 0)
        elif step == "remove":
            shares.remove(holder)
            held[holder] = 0
        else:
            getattr(shares, step)(holder)
        for ended in shares.evict():
            sums = Counter({source: sum(n for h, n in held.items() if h % 3 == source) for source in range(3)})
            assert sums[ended % 3] == max(sums.values())
            held[ended] = 0
        assert shares.total == sum(held.values()) <= limit
