"""The target of a connection: chosen, dialled, replaced when it does not accept, and counted as long as it is held."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tfgateway.proxy import refusals
from tfgateway.proxy.eventloop.engine import Engine
from tfgateway.proxy.protocol import HTTP, TLS
from tfgateway.proxy.refusals import Refused
from tfgateway.proxy.upstream.balance import Member, Pool
from tfgateway.proxy.upstream.dial import Dialler
from tfgateway.proxy.upstream.upstream import Upstream

TIMED_OUT = (refusals.DIAL_TIMEOUT, "")


class Counting(Dialler):
    """Notes what is dialled, and fails at once where it has to: other hosts refuse a moment later."""

    def __init__(self) -> None:
        super().__init__(allowed=(), own_addresses=frozenset)
        self.dialled: list[int] = []
        self.refuses: dict[int, Refused] = {}

    def dial(self, address: str, port: int, *, by_operator: bool) -> socket.SocketType:
        self.dialled.append(port)
        if port in self.refuses:
            raise self.refuses[port]
        return super().dial(address, port, by_operator=by_operator)


@pytest.fixture
def dialler() -> Counting:
    return Counting()


@pytest.fixture
def upstream(engine: Engine, dialler: Counting) -> Iterator[Upstream]:
    upstream = Upstream(engine, dialler)
    yield upstream
    upstream.drop()


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> Iterator[list[int]]:
    """Ports at which nothing listens."""
    taken = [socket.socket() for _ in range(4)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    yield [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()


def pool_of(*ports: int) -> Pool:
    return Pool([Member("127.0.0.1", port, 0, addresses=("127.0.0.1",)) for port in ports])


async def test_the_only_target_is_dialled_and_has_no_successor(upstream: Upstream, port: int) -> None:
    assert upstream.target == ""
    assert upstream.dial("127.0.0.1", port, by_operator=True) is None
    target = upstream.socket
    assert target is not None
    assert upstream.target == f"127.0.0.1:{port}"
    assert upstream.fail_over(TIMED_OUT) == TIMED_OUT
    assert upstream.socket is None
    assert target.fileno() < 0


async def test_a_target_that_a_tenant_may_not_use_is_not_dialled(upstream: Upstream, port: int) -> None:
    failure = upstream.dial("127.0.0.1", port, by_operator=False)
    assert failure is not None
    assert failure[0] is refusals.TARGET_DENIED
    assert upstream.socket is None


async def test_another_target_follows_one_that_refuses(
    upstream: Upstream, dialler: Counting, port: int, closed: list[int]
) -> None:
    pool = pool_of(closed[0], closed[1], port)
    assert upstream.dial_one_of(pool, HTTP) is None
    while upstream.target != f"127.0.0.1:{port}":
        assert upstream.fail_over(TIMED_OUT) is None
    assert dialler.dialled[-1] == port
    assert len(dialler.dialled) == len(set(dialler.dialled))
    assert [member.active for member in pool.members] == [0, 0, 1]
    upstream.drop()
    upstream.drop()
    assert [member.active for member in pool.members] == [0, 0, 0]


async def test_three_targets_are_tried_at_most(upstream: Upstream, dialler: Counting, closed: list[int]) -> None:
    """And the reason is the last one's, not that there is no other."""
    pool = pool_of(*closed)
    failure = upstream.dial_one_of(pool, HTTP)
    while failure is None:  # the kernel says it later
        failure = upstream.fail_over((refusals.DIAL_FAILED, "Connection refused"))
    assert failure == (refusals.DIAL_FAILED, "Connection refused")
    assert len(dialler.dialled) == len(set(dialler.dialled)) == 3
    assert not any(member.active for member in pool.members)


async def test_the_reason_is_that_of_the_last_target_that_was_dialled(upstream: Upstream, dialler: Counting) -> None:
    dialler.refuses = {port: Refused(refusals.DIAL_FAILED, f"{port} refuses") for port in (1, 2)}
    assert upstream.dial_one_of(pool_of(1, 2), HTTP) == (refusals.DIAL_FAILED, f"{dialler.dialled[-1]} refuses")
    assert sorted(dialler.dialled) == [1, 2]


async def test_without_a_target_that_works_none_is_dialled(upstream: Upstream, dialler: Counting, port: int) -> None:
    pool = pool_of(port)
    assert upstream.dial_one_of(pool, TLS) == (refusals.NO_TARGET, "")
    pool.members[0].up = False
    assert upstream.dial_one_of(pool, HTTP) == (refusals.NO_TARGET, "")
    assert dialler.dialled == []


async def test_an_ipv6_target_is_logged_in_brackets(upstream: Upstream) -> None:
    upstream.dial("::1", 9, by_operator=True)
    assert upstream.target == "[::1]:9"
