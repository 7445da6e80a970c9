"""Dialling targets: the deny rule, the ways to fail."""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
from collections.abc import Callable, Iterator

import pytest
from tfgateway.net.addresses import IPAddress, networks
from tfgateway.net.sockets import keep_alive
from tfgateway.proxy.own_addresses import OwnAddresses
from tfgateway.proxy.refusals import DIAL_FAILED, TARGET_DENIED, TOO_MANY, Refused
from tfgateway.proxy.routing.table import Route
from tfgateway.proxy.upstream.dial import Dialler, refused


def dial(tested: Dialler, to: Route, port: int) -> socket.socket:
    """As a socket of the ordinary class."""
    return socket.socket(fileno=tested.dial(to.address, port, by_operator=to.by_operator).detach())


def connected(sock: socket.socket) -> socket.socket:
    """``sock`` once its connection is there, or has failed."""
    select.select([], [sock], [], 30)
    return sock


def dialler(
    *,
    allowed: tuple[str, ...] = (),
    own: Callable[[], frozenset[IPAddress]] = frozenset,
    clock: Callable[[], float] = lambda: 0.0,
) -> Dialler:
    return Dialler(allowed=networks(allowed), own_addresses=OwnAddresses(own, clock))


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


def test_t20_a_connection_finds_dead_peers(server: socket.socket) -> None:
    port = server.getsockname()[1]
    with connected(dial(dialler(allowed=("127.0.0.1/32",)), route("127.0.0.1"), port)) as target:
        assert target.getpeername() == ("127.0.0.1", port)
        assert not os.get_blocking(target.fileno())
        keep_alive(target)  # what a connection does that lasts longer than most
        assert target.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert target.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 180
        assert target.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_ipv6_target() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        port = listening.getsockname()[1]
        with connected(dial(dialler(allowed=("::1/128",)), route("::1"), port)) as target:
            assert target.getpeername()[:2] == ("::1", port)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0"])
def test_t15_what_a_tenant_chose_is_checked_again(server: socket.socket, address: str) -> None:
    with pytest.raises(Refused) as caught:
        dial(dialler(), route(address), server.getsockname()[1])
    assert caught.value.refusal is TARGET_DENIED
    assert caught.value.detail
    assert not accepted(server)


def test_t15_the_operator_may_name_any_address(server: socket.socket) -> None:
    (dial(dialler(), route("127.0.0.1", by_operator=True), server.getsockname()[1])).close()
    assert accepted(server)


def test_t15_own_addresses_are_read_again_after_a_while(server: socket.socket) -> None:
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
            dial(tested, route(address), 80)
    assert reads == 3


def test_t15_own_addresses_that_cannot_be_read_open_nothing() -> None:
    """Without descriptors /proc cannot be read: what was known stays, and without it nobody is led anywhere."""
    now = 0.0
    fails = True

    def own() -> frozenset[IPAddress]:
        if fails:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return frozenset({ipaddress.ip_address("203.0.113.1")})

    tested = dialler(own=own, clock=lambda: now)
    with pytest.raises(Refused, match="too_many"):
        dial(tested, route("203.0.113.1"), 80)
    fails = False
    with pytest.raises(Refused, match="target_denied"):
        dial(tested, route("203.0.113.1"), 80)
    fails, now = True, 1000.0
    with pytest.raises(Refused, match="target_denied"):
        dial(tested, route("203.0.113.1"), 80)


def test_a_target_that_refuses(server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    with (
        connected(dial(dialler(allowed=("127.0.0.1/32",)), route("127.0.0.1"), port)) as target,
        pytest.raises(ConnectionRefusedError) as caught,
    ):
        target.send(b"x")
    why = refused(caught.value)
    assert why.refusal is DIAL_FAILED
    assert "refused" in why.detail


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_t10_out_of_descriptors_is_no_fault_of_the_target(number: int) -> None:
    assert refused(OSError(number, "")).refusal is TOO_MANY


def test_an_address_that_cannot_be_reached_is_refused_at_once() -> None:
    with pytest.raises(Refused) as caught:
        dial(dialler(), route("2001:db8::1%nowhere", by_operator=True), 80)
    assert caught.value.refusal is DIAL_FAILED


def test_t2_a_target_that_hangs_keeps_nobody_waiting() -> None:
    """A full backlog: Linux drops further SYNs, as a host behind a silent firewall does."""
    with socket.socket() as server, socket.socket() as filler, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for one in (filler, second):
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        tested = dialler(allowed=("127.0.0.1/32",))
        with dial(tested, route("127.0.0.1"), server.getsockname()[1]) as target, pytest.raises(BlockingIOError):
            target.send(b"x")
