"""The target of a connection: chosen, dialled, replaced when it does not accept, and counted as long as it is held."""

from __future__ import annotations

import pytest
from tfgateway.proxy import refusals
from tfgateway.proxy.protocol import HTTP, TLS
from tfgateway.proxy.refusals import Refused
from tfgateway.proxy.upstream.balance import Member, TargetPool
from tfgateway.proxy.upstream.upstream import Upstream

from tests.support.network import FakeDialler, FakeNetwork

TIMED_OUT = (refusals.DIAL_TIMEOUT, "")


UP, CLOSED = 8001, (8002, 8003, 8004, 8005)


@pytest.fixture
def network() -> FakeNetwork:
    network = FakeNetwork()
    network.listens(UP)
    return network


@pytest.fixture
def dialler(network: FakeNetwork) -> FakeDialler:
    return network.dialler


@pytest.fixture
def upstream(network: FakeNetwork) -> Upstream:
    return Upstream(network.engine, network.dialler, own_dials=None)


def pool_of(*ports: int) -> TargetPool:
    return TargetPool([Member("127.0.0.1", port, 0, addresses=("127.0.0.1",)) for port in ports])


def test_the_only_target_is_dialled_and_has_no_successor(upstream: Upstream) -> None:
    assert upstream.target == ""
    assert upstream.dial("127.0.0.1", UP, by_operator=True) is None
    target = upstream.socket
    assert target is not None
    assert upstream.target == f"127.0.0.1:{UP}"
    assert upstream.fail_over(TIMED_OUT) == TIMED_OUT
    assert upstream.socket is None
    assert target.fileno() < 0


def test_a_target_that_a_tenant_may_not_use_is_not_dialled(upstream: Upstream) -> None:
    failure = upstream.dial("127.0.0.1", UP, by_operator=False)
    assert failure is not None
    assert failure[0] is refusals.TARGET_DENIED
    assert upstream.socket is None


def test_another_target_follows_one_that_refuses(upstream: Upstream, dialler: FakeDialler) -> None:
    pool = pool_of(CLOSED[0], CLOSED[1], UP)
    assert upstream.dial_one_of(pool, HTTP) is None
    while upstream.target != f"127.0.0.1:{UP}":
        assert upstream.fail_over(TIMED_OUT) is None
    assert dialler.dialled[-1] == UP
    assert len(dialler.dialled) == len(set(dialler.dialled))
    assert [member.active for member in pool.members] == [0, 0, 1]
    upstream.drop()
    upstream.drop()
    assert [member.active for member in pool.members] == [0, 0, 0]


def test_three_targets_are_tried_at_most(upstream: Upstream, dialler: FakeDialler) -> None:
    """And the reason is the last one's, not that there is no other."""
    pool = pool_of(*CLOSED)
    failure = upstream.dial_one_of(pool, HTTP)
    while failure is None:  # a target refuses after it was dialled
        failure = upstream.fail_over((refusals.DIAL_FAILED, "Connection refused"))
    assert failure == (refusals.DIAL_FAILED, "Connection refused")
    assert len(dialler.dialled) == len(set(dialler.dialled)) == 3
    assert not any(member.active for member in pool.members)


def test_the_reason_is_that_of_the_last_target_that_was_dialled(upstream: Upstream, dialler: FakeDialler) -> None:
    dialler.refuses = {port: Refused(refusals.DIAL_FAILED, f"{port} refuses") for port in (1, 2)}
    assert upstream.dial_one_of(pool_of(1, 2), HTTP) == (refusals.DIAL_FAILED, f"{dialler.dialled[-1]} refuses")
    assert sorted(dialler.dialled) == [1, 2]


def test_without_a_target_that_works_none_is_dialled(upstream: Upstream, dialler: FakeDialler) -> None:
    pool = pool_of(UP)
    assert upstream.dial_one_of(pool, TLS) == (refusals.NO_TARGET, "")
    pool.members[0].up = False
    assert upstream.dial_one_of(pool, HTTP) == (refusals.NO_TARGET, "")
    assert dialler.dialled == []


def test_an_ipv6_target_is_logged_in_brackets(upstream: Upstream) -> None:
    upstream.dial("::1", 9, by_operator=True)
    assert upstream.target == "[::1]:9"
