"""The clock of a machine is set, by hours or a year, while a gateway runs or is down: it goes on as if nothing was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.query
import dns.rcode
import msgspec
import pytest
from tfgateway.errors import LeaseError
from tfgateway.explorer.models import DomainDelegate, Subdomain
from tfgateway.reconciler.lease import Holder, Lease
from tfgateway.reconciler.status import decode_status
from tfgateway.redis_schema.connection import connect
from tfgateway.redis_schema.keys import OUTBOX, RESERVATIONS, SAMPLES, STATUS, WAITING

from tests.integration.clocks import Clock
from tests.integration.reconciler.conftest import Fleet
from tests.support.processes import RedisServer
from tests.support.waiting import until

HOUR = 3600
JUMPS = (2 * HOUR, 365 * 24 * HOUR, -2 * HOUR)
"""Seconds ahead of the right time, one after the other: the last is a year and more back from the one before."""
MANY = 7
MOST = 3
"""Removals within an hour that need no consent."""
GUARD = {"max_removal_count": MOST, "max_removal_share": 0.0}


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    yield Clock(tmp_path, monkeypatch)
    Clock.remove_left()


def recorded(fleet: Fleet) -> set[int]:
    """Numbers of reservations."""
    with fleet.redis() as client:
        return {int(name.decode().removesuffix("-1")) for name in client.hkeys(RESERVATIONS)}


class Visitor:
    """Asks the DNS plane, with the cookie that it was given."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookie = os.urandom(8)

    def asks(self, name: str) -> bool:
        query = dns.message.make_query(name, "A", use_edns=0)
        query.use_edns(0, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, self._cookie)])
        reply = dns.query.udp(query, "127.0.0.1", 10, self._port)
        assert reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
        # Beside it, of a copy without redis, a remark that it may be old.
        (self._cookie,) = (one.to_wire() for one in reply.options if one.otype == dns.edns.OptionType.COOKIE)
        return bool(reply.answer)


@pytest.mark.parametrize("running", [True, False], ids=["running", "down"])
def test_the_clock_of_a_gateway_is_set(clock: Clock, fleet: Fleet, running: bool) -> None:
    """Of the whole machine: explorer, redis, planes and reconciler."""
    fleet.clock = clock.time
    mine = {"node_id": fleet.node_id}

    def name(text: str) -> int:
        return fleet.reserve(Subdomain(domain=text, ips=("203.0.113.5",), **mine))

    def start() -> list[Any]:
        return [fleet.start("dns"), fleet.start(**GUARD)]

    processes = start()
    names = [f"n{number}.gw1.example" for number in range(MANY)]
    numbers = [name(text) for text in names]
    for number in numbers:
        fleet.deployed(number)
    child = name("www.alice.example")
    until(lambda: fleet.get(WAITING, f"{child}-1"), "it waits for its parent")
    with fleet.redis() as client:
        client.delete(SAMPLES)
    until(lambda: fleet.get(SAMPLES), "it is noted how many there are")
    for number in numbers[:MOST]:
        fleet.delete(number)
        fleet.gone(number)
    visitor = Visitor(fleet.ports["dns"])
    until(lambda: visitor.asks(names[-1]), "served")
    wanted = {*numbers[MOST:], child}

    for number, jump in enumerate(JUMPS, MOST):
        if running:
            clock.set(jump)
        else:
            processes[0].stop()
            processes[1].kill()
            fleet.explorer.stop()
            fleet.redis_server.stop()
            clock.set(jump)
            fleet.redis_server.start()
            fleet.start_explorer()
            processes = start()
        until(lambda: visitor.asks(names[-1]), "served as before")
        # The hour is not over: one more is one too many.
        fleet.delete(numbers[number])
        until(lambda: fleet.metric("tfgateway_reconciler_removals_held") == 1, "the guard remembers")
        (problem,) = fleet.state()["problems"]
        assert "removals are held back" in problem
        assert all(visitor.asks(text) for text in names[number:])
        # With a new one, it is no more than may be.
        fresh = name(f"fresh{number}.gw1.example")
        fleet.deployed(fresh)
        fleet.gone(numbers[number])
        until(partial(visitor.asks, f"fresh{number}.gw1.example"), "news are served")
        # Nor is the time over for which a child waits.
        assert fleet.get(WAITING, f"{child}-1") is not None
        wanted = {*wanted, fresh} - {numbers[number]}
        assert recorded(fleet) == wanted - {child}

    parent = fleet.reserve(DomainDelegate(domain="alice.example", **mine))
    fleet.deployed(parent)
    fleet.deployed(child)
    until(lambda: not fleet.get(WAITING, f"{child}-1"), "it has what it waited for")
    with fleet.redis() as client:
        until(lambda: not client.exists(OUTBOX), "all is delivered")
    assert recorded(fleet) == {*wanted, parent}
    assert all(process.running for process in processes)
    assert "Traceback" not in "".join(process.log for process in processes)


def test_a_reconciler_that_was_not_asked_yet_is_not_silent(clock: Clock, fleet: Fleet) -> None:
    process = fleet.start()
    until(lambda: (found := decode_status(fleet.get(STATUS))) and found.last_success, "a pass went through")
    for jump in JUMPS:
        process.send_signal(signal.SIGSTOP)
        clock.set(jump)
        shown = fleet.run("state").stdout
        process.send_signal(signal.SIGCONT)
        assert "has not polled" not in shown
        ages = [int(text.split()[-1]) for text in shown.split(" s ago")[:-1]]
        assert len(ages) == 2
        assert all(0 <= age < HOUR for age in ages)
        polled = decode_status(fleet.get(STATUS))
        until(lambda before=polled: decode_status(fleet.get(STATUS)) != before, "it goes on")


def test_only_the_gateways_clock_is_wrong_for_a_while(clock: Clock, fleet: Fleet) -> None:
    """The explorer refuses what is signed then: state says why, and the answers are there as soon as it is right."""
    fleet.explorer.stop()
    with pytest.MonkeyPatch.context() as others:
        others.delenv("LD_PRELOAD")
        fleet.start_explorer()
    process = fleet.start(**GUARD)
    mine = {"node_id": fleet.node_id, "ips": ("203.0.113.5",)}
    before = fleet.reserve(Subdomain(domain="before.gw1.example", **mine))
    fleet.deployed(before)
    done = {before}
    for jump in (2 * HOUR, -2 * HOUR):
        clock.set(jump)
        wrong = fleet.reserve(Subdomain(domain=f"wrong{jump}.gw1.example", **mine))
        until(partial(fleet.get, "gw1.example.", f"wrong{jump}"), "it is served")
        until(lambda: any("this node's clock is" in text for text in fleet.state()["problems"]), "it says so")
        assert fleet.workload(wrong).result.empty
        clock.set(0)
        fleet.deployed(wrong)
        done.add(wrong)
        assert recorded(fleet) == done
    words = ("this node's clock", "the reconciler")
    until(lambda: not any(word in text for text in fleet.state()["problems"] for word in words), "all is well again")
    assert process.running


def test_a_plane_that_starts_without_redis_knows_how_old_its_copy_is(
    clock: Clock, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    with fleet.redis() as client:
        client.hset("gw1.example.", "www", '{"a":[{"ip":"203.0.113.5","ttl":60}]}')
    plane = fleet.start("dns")
    until((tmp_path / "dns.snapshot").exists, "a copy")
    fleet.redis_server.stop()
    for jump in JUMPS:
        plane.stop()
        clock.set(jump)
        plane = fleet.start("dns")
        assert Visitor(fleet.ports["dns"]).asks("www.gw1.example")
        of_each_worker = [json.loads(line) for line in plane.log.splitlines() if "serving from disk" in line]
        assert of_each_worker
        assert all(line["age"] < HOUR for line in of_each_worker)


TTL = 1.5


def elsewhere() -> Holder:
    return Holder("N", "other.example", 4711)


@pytest.mark.parametrize("jump", [-2 * HOUR, -365 * 24 * HOUR])
async def test_a_lease_ends_in_time_though_the_clock_of_redis_was_set_back(
    clock: Clock, redis_server: RedisServer, jump: float
) -> None:
    async with connect(redis_server.url, timeout=30) as redis:
        await Lease(redis, elsewhere(), TTL).hold()
        clock.set(jump)
        started = time.monotonic()
        await asyncio.wait_for(Lease(redis, Holder.me("N"), 30).take(), 20 * TTL)
        assert time.monotonic() - started >= TTL


async def test_a_lease_ends_in_time_though_that_happens_meanwhile(clock: Clock, redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=30) as redis:
        await Lease(redis, elsewhere(), TTL).hold()
        taking = asyncio.create_task(Lease(redis, Holder.me("N"), 30).take())
        await asyncio.sleep(TTL / 3)
        clock.set(-2 * HOUR)
        await asyncio.wait_for(taking, 20 * TTL)


async def test_a_lease_that_is_renewed_stays_though_the_clock_of_redis_is_set(
    clock: Clock, redis_server: RedisServer
) -> None:
    async with connect(redis_server.url, timeout=30) as redis, connect(redis_server.url, timeout=5) as other:
        theirs = Lease(other, elsewhere(), TTL)
        await theirs.hold()
        renewing = asyncio.create_task(theirs.renew())
        clock.set(-2 * HOUR)
        with pytest.raises(LeaseError, match=r"process 4711 on other\.example"):
            await asyncio.wait_for(Lease(redis, Holder.me("N"), 30).take(), 20 * TTL)
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing


async def test_the_lease_of_an_older_release_is_outlasted_by_our_own_measure(
    clock: Clock, redis_server: RedisServer
) -> None:
    async with connect(redis_server.url, timeout=30) as redis:
        await redis.set("tfgateway:lease", msgspec.json.encode(elsewhere()), px=1500)
        clock.set(-2 * HOUR)
        await asyncio.wait_for(Lease(redis, Holder.me("N"), TTL).take(), 20 * TTL)
