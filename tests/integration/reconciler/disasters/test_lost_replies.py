"""A reply of redis that is lost, a step that others keep from being written: what was decided is delivered at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tfgateway import settings
from tfgateway.errors import StoreError
from tfgateway.identity import seedfile
from tfgateway.reconciler import cycle, loop, outbox
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.keys import OUTBOX, STATUS

from tests.support.processes import RedisServer
from tests.support.waiting import soon

Apply = Callable[[Store, Sequence[Transaction], Row | None], Awaitable[list[str]]]


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer, rogue: Any) -> str:
    seed = tmp_path / "identity.seed"
    seedfile.create(seed, bytes(range(32)))
    return f"""
identity.seed = "{seed}"
redis.url = "{redis_server.url}"
gateway.managed_domains = ["gw1.example"]
gateway.geoip = ""
[explorer]
url = "{rogue.url}"
poll_interval = 0.1
long_poll = 0
"""


@contextlib.asynccontextmanager
async def running(config: str) -> AsyncIterator[loop.Reconciler]:
    async with loop.opened(settings.parse(config.encode())) as reconciler:
        stopping = asyncio.Event()
        task = asyncio.create_task(reconciler.run(stopping=stopping, ready=lambda: None, status=lambda _text: None))
        try:
            yield reconciler
        finally:
            stopping.set()
            await task


@pytest.fixture
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pass did has to reach the outbox by itself."""
    monkeypatch.setattr(outbox, "_LOOK", 3600.0)


def around_apply(monkeypatch: pytest.MonkeyPatch, replace: Callable[[Apply], Apply]) -> None:
    monkeypatch.setattr(Store, "apply", replace(Store.apply))


async def test_the_reply_is_lost_after_the_script_ran(
    config: str, rogue: Any, no_second_look: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []

    def losing(apply: Apply) -> Apply:
        async def call(store: Store, steps: Sequence[Transaction], lease: Row | None) -> list[str]:
            replies = await apply(store, steps, lease)
            if not lost and any(row.key == OUTBOX for step in steps for row in step.writes):
                lost.append(len(steps))
                raise StoreError("the connection broke")
            return replies

        return call

    around_apply(monkeypatch, losing)
    rogue.listing = [rogue.subdomain(1, "one")]
    async with running(config):
        await soon(lambda: rogue.results["1-1"])
    assert lost
    assert len(rogue.results["1-1"]) == 1


async def test_the_second_of_two_news_is_changed_by_others_all_the_time(
    config: str, rogue: Any, redis_server: RedisServer, no_second_look: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    meddled: list[int] = []

    def meddling(apply: Apply) -> Apply:
        async def call(store: Store, steps: Sequence[Transaction], lease: Row | None) -> list[str]:
            if not any(row.field == "two" for step in steps for row in step.writes):
                return await apply(store, steps, lease)
            # There when it is written, and gone when it is looked at.
            meddled.append(len(steps))
            with redis_server.client() as client:
                client.hset("gw1.example.", "two", '{"a":[{"ip":"192.0.2.1","ttl":60}]}')
                replies = await apply(store, steps, lease)
                client.hdel("gw1.example.", "two")
            return replies

        return call

    rogue.listing = [rogue.subdomain(1, "zero")]
    async with running(config):
        await soon(lambda: rogue.results["1-1"])
        around_apply(monkeypatch, meddling)
        rogue.listing += [rogue.subdomain(2, "one"), rogue.subdomain(3, "two")]
        await soon(lambda: rogue.results["2-1"])
        await soon(lambda: len(meddled) > 3)
        assert not rogue.results["3-1"]
        monkeypatch.undo()
        await soon(lambda: rogue.results["3-1"])


async def test_what_waits_is_found_although_nobody_says_so(
    config: str, rogue: Any, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a script that redis ran when its caller had given up already."""
    monkeypatch.setattr(outbox, "_LOOK", 0.2)
    monkeypatch.setattr(outbox.Outbox, "wake", lambda _self: None)
    rogue.listing = [rogue.subdomain(1, "one")]
    async with running(config):
        await soon(lambda: rogue.results["1-1"])


async def test_what_an_operator_allowed_is_carried_out_to_the_end(
    config: str, rogue: Any, redis_server: RedisServer, no_second_look: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis fails in the middle of it, and once more when the loss is to be forgotten."""
    monkeypatch.setattr(cycle, "_AT_ONCE", 2)
    config += "[reconciler]\nmax_removal_count = 3\nmax_removal_share = 0.0\n"
    batches: list[int] = []
    forgetting: list[object] = []

    def failing(apply: Apply) -> Apply:
        async def call(store: Store, steps: Sequence[Transaction], lease: Row | None) -> list[str]:
            if any(
                row.key == OUTBOX and str(row.field).startswith("deleted:") for step in steps for row in step.writes
            ):
                batches.append(len(steps))
                if len(batches) == 2:
                    raise StoreError("the connection broke")
            return await apply(store, steps, lease)

        return call

    write_samples = Store.write_samples

    async def not_yet(store: Store, samples: Any) -> None:
        forgetting.append(samples)
        if len(forgetting) == 1:
            raise StoreError("the connection broke")
        await write_samples(store, samples)

    def listing(gone: int) -> list[dict[str, Any]]:
        return [rogue.subdomain(number, f"s{number}", action=4 if number <= gone else 3) for number in range(1, 13)]

    rogue.poll = lambda handler, _start: rogue.answer(handler, rogue.items(0))
    rogue.listing = listing(gone=0)
    async with running(config):
        await soon(lambda: len(rogue.results) == 12)
        around_apply(monkeypatch, failing)
        rogue.listing = listing(gone=5)
        with redis_server.client() as client:
            await soon(lambda: json.loads(client.get(STATUS) or b"{}").get("held"))
        monkeypatch.setattr(Store, "write_samples", not_yet)
        async with loop.opened(settings.parse(config.encode())) as operator:
            await operator.permit()
        await soon(lambda: set(rogue.deleted) == {f"{number}-1" for number in range(1, 6)})
        rogue.listing = listing(gone=6)
        await soon(lambda: "6-1" in rogue.deleted)
    assert batches == [2, 2, 2, 1, 1], "two of five, none, the other three, and the next one"
    assert len(forgetting) == 2


async def test_once_delivers_what_it_did_before_it_failed(
    config: str, rogue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losing(apply: Apply) -> Apply:
        async def call(store: Store, steps: Sequence[Transaction], lease: Row | None) -> list[str]:
            replies = await apply(store, steps, lease)
            if any(row.key == OUTBOX for step in steps for row in step.writes):
                raise StoreError("the connection broke")
            return replies

        return call

    around_apply(monkeypatch, losing)
    rogue.listing = [rogue.subdomain(1, "one")]
    async with loop.opened(settings.parse(config.encode())) as reconciler:
        with pytest.raises(StoreError, match="the connection broke"):
            await reconciler.once()
    assert rogue.results["1-1"]
