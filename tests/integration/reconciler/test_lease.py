"""Who alone may write: leases on a real redis, and two real reconcilers on one redis by mistake."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from tfgateway.errors import LeaseError, StoreError
from tfgateway.explorer.models import Subdomain
from tfgateway.reconciler.lease import Holder, Lease
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.connection import connect
from tfgateway.redis_schema.keys import FENCE, LEASE

from tests.integration.reconciler.conftest import Fleet
from tests.support.processes import RedisServer
from tests.support.waiting import soon, until

WRITE = Transaction((Row("h", "a", None),), (Row("h", "a", b"1"),))


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(redis_server.url, timeout=30)
    yield client
    await client.aclose()


def holder(**members: Any) -> Holder:
    """Somebody on another machine."""
    return msgspec.structs.replace(Holder("N", "other.example", 4711), **members)


def here(**members: Any) -> Holder:
    return msgspec.structs.replace(Holder.me("N"), **members)


async def test_it_is_one_holders_until_it_is_given_back(redis: Redis) -> None:
    mine, other = Lease(redis, here(), 30), Lease(redis, holder(), 30)
    await mine.hold()
    await mine.hold()
    with pytest.raises(LeaseError, match=f"process {os.getpid()} on {socket.gethostname()} for node N"):
        await other.hold()
    await other.release()
    with pytest.raises(LeaseError):
        await other.hold()
    await mine.release()
    await other.hold()
    with pytest.raises(LeaseError, match=r"process 4711 on other\.example for node N"):
        await mine.hold()


async def test_it_ends_when_it_is_not_renewed_and_lasts_when_it_is(redis: Redis) -> None:
    mine, other = Lease(redis, here(space=""), 1), Lease(redis, holder(), 1)
    await mine.hold()
    renewing = asyncio.create_task(mine.renew())
    with pytest.raises(LeaseError):
        await other.take()
    renewing.cancel()
    await other.take()
    with pytest.raises(LeaseError):
        await mine.renew()


async def test_a_holder_that_ended_here_is_followed_at_once(redis: Redis) -> None:
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await ended.wait()
    for gone in (here(pid=ended.pid), here(started="1")):
        await Lease(redis, gone, 3600).hold()
        await Lease(redis, here(), 3600).take()
        await redis.delete(LEASE)


async def test_a_holder_that_runs_here_is_respected_at_once(redis: Redis) -> None:
    await Lease(redis, here(pid=1, started=""), 3600).hold()
    with pytest.raises(LeaseError, match="process 1 on"):
        await asyncio.wait_for(Lease(redis, here(), 3600).take(), 5)


@pytest.mark.parametrize("text", [b"", b"null", b'{"pid":"x"}', b'{"node_id":"\x1b[2J","host":"h","pid":1}'])
async def test_what_cannot_be_read_belongs_to_somebody(redis: Redis, text: bytes) -> None:
    await redis.set(LEASE, text or b" ")
    with pytest.raises(LeaseError) as caught:
        await Lease(redis, here(), 30).hold()
    assert "\x1b" not in str(caught.value)


async def test_whoever_lost_it_writes_nothing(redis: Redis) -> None:
    store, mine = Store(redis), Lease(redis, here(), 30)
    await mine.hold()
    assert await store.apply([WRITE], mine.rows) == [""]
    await redis.delete("h")
    for stolen in (b"another's", None):
        await (redis.delete(LEASE) if stolen is None else redis.set(LEASE, stolen))
        with pytest.raises(StoreError, match="the lease was lost"):
            await store.apply([WRITE], mine.rows)
    assert await redis.exists("h") == 0


async def test_what_was_sent_before_it_was_lost_is_refused_though_its_process_has_it_again(redis: Redis) -> None:
    store, mine, other = Store(redis), Lease(redis, here(), 30), Lease(redis, holder(), 30)
    await mine.hold()
    before = mine.rows
    await mine.hold()
    assert mine.rows == before, "renewed"
    await redis.delete(LEASE)  # it expires
    await other.hold()
    await other.release()
    await mine.hold()
    with pytest.raises(StoreError, match="the lease was lost"):
        await store.apply([WRITE], before)
    assert await store.apply([WRITE], mine.rows) == [""]


async def test_the_token_never_falls_for_whoever_has_seen_it(redis: Redis) -> None:
    """A failover brought back what was written before."""
    mine = Lease(redis, here(), 30)
    for _ in range(3):
        await mine.hold()
        await redis.delete(LEASE)
    await redis.set(FENCE, 1)
    await mine.hold()
    assert await redis.get(FENCE) == b"4"
    await redis.set(FENCE, 1)
    await mine.hold()
    assert await redis.get(FENCE) == b"5", "also while it holds the lease"


async def test_a_standby_follows_one_that_gives_it_up_and_one_that_falls_silent(redis: Redis) -> None:
    seen: list[str] = []
    mine, other = Lease(redis, here(), 1), Lease(redis, holder(), 1)
    await other.hold()
    waiting = asyncio.create_task(mine.stand_by(seen.append))
    renewing = asyncio.create_task(other.renew())
    await soon(lambda: seen == ["process 4711 on other.example for node N"])
    await other.release()
    await waiting
    with pytest.raises(LeaseError):
        await renewing
    waiting = asyncio.create_task(other.stand_by(seen.append))
    await waiting  # nobody renews it
    assert len(seen) == 2
    with pytest.raises(LeaseError):
        await mine.hold()


def test_a_second_reconciler_refuses_and_says_who_holds_the_lease(fleet: Fleet) -> None:
    first = fleet.start()
    metrics = f"127.0.0.1:{fleet.ports['rm']}"
    other = fleet.config().replace(metrics, f"127.0.0.1:{fleet.ports['dm']}")
    for arguments in (["reconcile"], ["reconcile", "--once"]):
        second = fleet.tfgateway.run(*arguments, config=other)
        assert second.returncode == 1
        assert "tfgateway: error: another reconciler holds the lease: process" in second.stderr
        assert f"process {first.pid} on {socket.gethostname()} for node {fleet.node_id}" in second.stderr
    assert fleet.run("reconcile", "--dry-run").returncode == 0, "looking is free"
    fleet.deployed(fleet.reserve(Subdomain(domain="a.gw1.example", ips=("203.0.113.5",), node_id=fleet.node_id)))
    assert first.stop() == 0
    assert fleet.get(LEASE) is None
    assert fleet.tfgateway.run("reconcile", "--once", config=other).returncode == 0


def test_a_reconciler_that_was_killed_is_followed_at_once(fleet: Fleet) -> None:
    first = fleet.start(lease=3600)
    first.kill()
    assert fleet.get(LEASE) is not None
    fleet.start(lease=3600).stop()


def test_a_reconciler_whose_lease_went_to_another_stops(fleet: Fleet) -> None:
    process = fleet.start()
    with fleet.redis() as client:
        client.set(LEASE, json.dumps({"node_id": "N", "host": "other.example", "pid": 4711}), px=60_000)
    until(lambda: not process.running, "it stopped")
    assert "another reconciler holds the lease: process 4711 on other.example for node N" in process.log
    assert fleet.get(LEASE) is not None
