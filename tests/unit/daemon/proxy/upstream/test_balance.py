"""Which target of a service the next visitor gets."""

from __future__ import annotations

from collections import Counter

import pytest
from tfgateway.proxy.protocol import HTTP, TLS
from tfgateway.proxy.upstream.balance import Member, TargetPool


def member(address: str, *, weight: int = 1, tls: int = 443) -> Member:
    return Member(address, 80, tls, weight=weight, addresses=(address,))


def chosen(pool: TargetPool, times: int, now: float = 100.0) -> list[str]:
    found = [pool.choose(HTTP, now) for _ in range(times)]
    return [one[0].address for one in found if one is not None]


def test_round_robin_gives_each_its_turn() -> None:
    assert chosen(TargetPool([member("a"), member("b"), member("c")]), 6) == ["a", "b", "c"] * 2


def test_weights_are_kept_without_bursts() -> None:
    order = chosen(TargetPool([member("a", weight=4), member("b"), member("c")]), 6)
    assert Counter(order) == {"a": 4, "b": 1, "c": 1}
    assert "aaa" not in "".join(order)


def test_least_connections_looks_at_the_load_for_its_weight() -> None:
    one, two = member("a", weight=2), member("b")
    pool = TargetPool([one, two], "least_connections")
    one.active, two.active = 2, 0
    assert chosen(pool, 1) == ["b"]
    two.active = 2
    assert chosen(pool, 1) == ["a"]


def test_least_connections_takes_turns_among_equals() -> None:
    assert sorted(chosen(TargetPool([member("a"), member("b")], "least_connections"), 2)) == ["a", "b"]


@pytest.mark.parametrize("method", ["round_robin", "least_connections"])
def test_who_is_down_was_tried_or_has_no_such_port_or_address_is_not_chosen(method: str) -> None:
    down, tried, plain, nameless, good = (member(name) for name in ("down", "tried", "plain", "nameless", "good"))
    down.up = False
    plain.tls_port = 0
    nameless.addresses = ()
    pool = TargetPool([down, tried, plain, nameless, good], method)  # type: ignore[arg-type]
    before = [(tried, "tried")]
    assert {pool.choose(TLS, 0.0, before) for _ in range(10)} == {(good, "good")}
    good.up = False
    assert pool.choose(TLS, 0.0, before) is None
    assert pool.takes(TLS)


def test_rise_and_fall_count_checks_in_a_row() -> None:
    one = member("a")
    one.rise, one.fall = 2, 3
    outcomes = [False, False, True, False, False, False, True, False, True, True]
    changes = [one.observe(outcome, 0.0) for outcome in outcomes]
    assert [index for index, change in enumerate(changes) if change] == [5, 9]
    assert one.up


def test_slow_start_leads_a_target_that_came_back_up_to_its_share() -> None:
    steady, back = member("steady"), member("back")
    back.rise = back.fall = 1
    back.observe(False, 1000.0)
    back.observe(True, 1000.0)
    pool = TargetPool([steady, back], slow_start=100.0)
    shares = [Counter(chosen(pool, 1000, now=1000.0 + age))["back"] for age in (0, 25, 50, 100)]
    assert 50 < shares[0] < 150
    assert shares == sorted(shares)
    assert 480 <= shares[-1] <= 520


def test_the_addresses_of_a_name_take_turns() -> None:
    one = Member("name.example", 80, 0, addresses=("192.0.2.1", "192.0.2.2"))
    assert {one.next_address() for _ in range(2)} == {"192.0.2.1", "192.0.2.2"}
    one.addresses = ("192.0.2.3",)
    assert one.next_address() == "192.0.2.3"
    one.addresses = ()
    assert one.next_address() is None


def test_other_targets_are_tried_before_other_addresses_of_one() -> None:
    many = Member("many.example", 80, 0, addresses=("192.0.2.1", "192.0.2.2"))
    pool = TargetPool([many, member("b", tls=0)])
    tried: list[tuple[Member, str]] = []
    while (found := pool.choose(HTTP, 0.0, tried)) is not None:
        assert found not in tried
        tried.append(found)
    assert [one.address for one, _ in tried[:2]] in (["many.example", "b"], ["b", "many.example"])
    assert sorted(address for _, address in tried) == ["192.0.2.1", "192.0.2.2", "b"]
