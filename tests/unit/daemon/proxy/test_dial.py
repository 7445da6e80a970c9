"""Dialling targets: the deny rule, the ways to fail."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator

import pytest
from tfgateway.proxy.answers import DIAL_FAILED, DIAL_TIMEOUT, TARGET_DENIED, Refused
from tfgateway.proxy.dial import Dialler
from tfgateway.proxy.routing import Route
from tfgateway.targets import IPAddress, networks


def dialler(
    *,
    allowed: tuple[str, ...] = (),
    timeout: float = 30.0,
    own: Callable[[], frozenset[IPAddress]] = frozenset,
    clock: Callable[[], float] = lambda: 0.0,
) -> Dialler:
    return Dialler(timeout=timeout, allowed=networks(allowed), own_addresses=own, clock=clock)


def route(address: str, *, by_operator: bool = False) -> Route:
    return Route(address, 80, 443, by_operator=by_operator)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def accepted(server: socket.socket) -> bool:
    """Whether anybody has connected."""
    server.setblocking(False)
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


async def test_t20_a_connection_finds_dead_peers(server: socket.socket) -> None:
    port = server.getsockname()[1]
    with await dialler(allowed=("127.0.0.1/32",)).dial(route("127.0.0.1"), port) as target:
        assert target.getpeername() == ("127.0.0.1", port)
        assert target.gettimeout() == 0
        assert target.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert target.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 180
        assert target.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_ipv6_target() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        port = listening.getsockname()[1]
        with await dialler(allowed=("::1/128",)).dial(route("::1"), port) as target:
            assert target.getpeername()[:2] == ("::1", port)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0"])
async def test_t15_what_a_tenant_chose_is_checked_again(server: socket.socket, address: str) -> None:
    with pytest.raises(Refused) as caught:
        await dialler().dial(route(address), server.getsockname()[1])
    assert caught.value.refusal is TARGET_DENIED
    assert caught.value.detail
    assert not accepted(server)


async def test_t15_the_operator_may_name_any_address(server: socket.socket) -> None:
    (await dialler().dial(route("127.0.0.1", by_operator=True), server.getsockname()[1])).close()
    assert accepted(server)


async def test_t15_own_addresses_are_read_again_after_a_while(server: socket.socket) -> None:
    now = 0.0
    reads = 0

    def own() -> frozenset[IPAddress]:
        nonlocal reads
        reads += 1
        return frozenset({ipaddress.ip_address(f"203.0.113.{reads}")})

    tested = dialler(own=own, clock=lambda: now)
    for later, address in ((0.0, "203.0.113.1"), (9.0, "203.0.113.1"), (10.0, "203.0.113.2"), (100.0, "203.0.113.3")):
        now = later
        with pytest.raises(Refused, match="target_denied"):
            await tested.dial(route(address), 80)
    assert reads == 3


async def test_a_target_that_refuses(server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    with pytest.raises(Refused) as caught:
        await dialler(allowed=("127.0.0.1/32",)).dial(route("127.0.0.1"), port)
    assert caught.value.refusal is DIAL_FAILED
    assert "refused" in caught.value.detail


async def test_t2_a_target_that_hangs() -> None:
    """A full backlog: Linux drops further SYNs, as a host behind a silent firewall does."""
    with socket.socket() as server, socket.socket() as filler, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for one in (filler, second):
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        with pytest.raises(Refused) as caught:
            await dialler(allowed=("127.0.0.1/32",), timeout=0.2).dial(route("127.0.0.1"), server.getsockname()[1])
    assert caught.value.refusal is DIAL_TIMEOUT
