"""ClientHellos that come back: from elsewhere at once, from the same source after many, and only for a while."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.proxy.loops.repeated_hellos import TABLE_SIZE, RepeatedHellos

from tests.support.tls import client_hello

VISITOR, GATEWAY = "198.51.100.1", "2001:db8::1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hellos(clock: Clock) -> RepeatedHellos:
    return RepeatedHellos(mmap.mmap(-1, TABLE_SIZE), clock)


def hello() -> bytes:
    return client_hello("www.example")


def test_one_that_comes_from_elsewhere_has_gone_round(hellos: RepeatedHellos) -> None:
    data = hello()
    assert not hellos.was_here(data, VISITOR)
    assert hellos.was_here(data, GATEWAY)
    assert not hellos.was_here(data, VISITOR)


def test_hellos_of_one_client_differ(hellos: RepeatedHellos) -> None:
    assert not any(hellos.was_here(hello(), source) for _ in range(50) for source in (VISITOR, GATEWAY))


def test_a_client_may_repeat_one_but_not_for_ever(hellos: RepeatedHellos) -> None:
    """A visitor may share its address with the gateway that sends it back; a tool may send what it has recorded."""
    data = hello()
    assert [hellos.was_here(data, VISITOR) for _ in range(20)] == [False] * 17 + [True] * 3


def test_it_counts_for_half_a_minute(hellos: RepeatedHellos, clock: Clock) -> None:
    data = hello()
    assert not hellos.was_here(data, VISITOR)
    clock.now += 30
    assert hellos.was_here(data, GATEWAY)
    clock.now += 1
    assert not hellos.was_here(data, GATEWAY)


def test_all_workers_know_it(clock: Clock) -> None:
    table = mmap.mmap(-1, TABLE_SIZE)
    one, other = RepeatedHellos(table, clock), RepeatedHellos(table, clock)
    data = hello()
    assert not one.was_here(data, VISITOR)
    assert other.was_here(data, GATEWAY)


@given(st.binary(max_size=60), st.text(max_size=40))
def test_whatever_came_first(data: bytes, source: str) -> None:
    """Also what is shorter than a random: it has been read as a ClientHello, over several records."""
    hellos = RepeatedHellos(mmap.mmap(-1, TABLE_SIZE), Clock())
    assert not hellos.was_here(data, source)
    assert hellos.was_here(data, source + "x")
