"""What gateways write is told field by field, on a real redis, among writes of others: the copy ends as redis is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tfgateway.mirror import Mirror, Selection
from tfgateway.mirror import session as session_module
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.connection import connect
from tfgateway.telemetry.logs import logger

from tests.support.processes import RedisServer
from tests.support.waiting import soon

LIMIT = 30.0
BIG = 6000
"""Fields that take several replies to read."""


class Copy:
    """Keeps hashes as it is told, and how it was told."""

    def __init__(self, server: Any) -> None:
        self.values: dict[bytes, dict[bytes, bytes]] = {}
        self.replaced: list[bytes] = []
        self.changed: list[bytes] = []
        self.fail_on: bytes | None = None
        self._server = server
        self.mirror = Mirror(
            lambda: connect(server.url, timeout=30), Selection(b"*."), self, logger("test"), retry_after=(0.02, 0.1)
        )

    async def replace(self, key: bytes, pieces: AsyncIterator[Mapping[bytes, bytes]]) -> bool:
        fields: dict[bytes, bytes] = {}
        async for piece in pieces:
            fields.update(piece)
        self.values[key] = fields
        self.replaced.append(key)
        return True

    async def change(self, key: bytes, fields: Mapping[bytes, bytes | None]) -> None:
        self.changed.append(key)
        if key == self.fail_on:
            self.fail_on = None
            raise ValueError("the plane's own trouble")
        for name, value in fields.items():
            if value is None:
                self.values[key].pop(name, None)
            else:
                self.values[key][name] = value

    async def remove(self, key: bytes) -> None:
        self.values.pop(key, None)

    def is_current(self) -> bool:
        with self._server.client() as client:
            names = [key for key in client.keys("*.") if client.type(key) == b"hash"]
            return self.values == {key: client.hgetall(key) for key in names}


@asynccontextmanager
async def following(server: Any) -> AsyncIterator[tuple[Copy, Store]]:
    copy = Copy(server)
    task = asyncio.create_task(copy.mirror.run())
    client = connect(server.url, timeout=30)
    try:
        async with asyncio.timeout(LIMIT):
            await copy.mirror.ready.wait()
        yield copy, Store(client)
        assert not task.done(), task.exception()
    finally:
        await client.aclose()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def writes(*rows: tuple[str, str, bytes | None]) -> Transaction:
    return Transaction((), tuple(Row(*row) for row in rows))


async def write(store: Store, *rows: tuple[str, str, bytes | None]) -> None:
    assert await store.apply([writes(*rows)]) == [""]


def fill(server: Any, key: str = "big.", count: int = BIG) -> None:
    with server.client() as client:
        client.hset(key, mapping={f"n{number}": "0" for number in range(count)})


async def test_a_field_of_a_big_hash_is_told_without_reading_it(redis_server: RedisServer) -> None:
    fill(redis_server)
    async with following(redis_server) as (copy, store):
        assert copy.replaced == [b"big."]
        await write(
            store, ("big.", "n7", b"1"), ("big.", "new", b"\x00\xff:"), ("big.", "n8", None), ("zone", "x", b"y")
        )
        await soon(lambda: copy.values[b"big."].get(b"new") == b"\x00\xff:")
        assert copy.values[b"big."][b"n7"] == b"1"
        assert b"n8" not in copy.values[b"big."]
        assert copy.changed == [b"big."]
        assert copy.replaced == [b"big."]


@pytest.fixture
def checks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was explained is read again soon, and whatever it costs."""
    monkeypatch.setattr(session_module, "_CHECK_AFTER", 0.2)
    monkeypatch.setattr(session_module, "_CHECK_SHARE", 1.0)


@pytest.mark.usefixtures("checks_at_once")
async def test_what_was_explained_is_read_again_later(redis_server: RedisServer) -> None:
    fill(redis_server)
    async with following(redis_server) as (copy, store):
        await write(store, ("big.", "n7", b"1"))
        await soon(lambda: len(copy.replaced) == 2)
        assert copy.is_current()


@pytest.mark.usefixtures("checks_at_once")
async def test_a_write_of_others_in_the_same_turn_is_found_by_the_check(redis_server: RedisServer) -> None:
    """The one way in which an explanation does not tell all: both writes come to redis in one packet."""
    fill(redis_server)
    async with following(redis_server) as (copy, store):
        await write(store, ("big.", "n1", b"1"))  # the script is known to redis
        async with store._redis.pipeline(transaction=True) as pipe:
            pipe.hset("big.", "n2", b"foreign")
            keys, arguments = _script(writes(("big.", "n3", b"own")))
            pipe.evalsha(_sha(), len(keys), *keys, *arguments)
            await pipe.execute()
        await soon(copy.is_current)
        assert copy.values[b"big."][b"n2"] == b"foreign"


async def test_writes_of_others_are_found_by_reading(redis_server: RedisServer) -> None:
    fill(redis_server)
    async with following(redis_server) as (copy, store):
        with redis_server.client() as client:
            client.hset("big.", "n5", "foreign")
        await soon(copy.is_current)
        assert len(copy.replaced) == 2
        assert copy.changed == []
        await write(store, ("big.", "n5", b"own"))
        await soon(copy.is_current)


async def test_the_last_field_takes_the_key_with_it(redis_server: RedisServer) -> None:
    async with following(redis_server) as (copy, store):
        await write(store, ("small.", "a", b"1"), ("small.", "b", b"2"))
        await soon(copy.is_current)
        await write(store, ("small.", "a", None))
        await soon(lambda: copy.values == {b"small.": {b"b": b"2"}})
        await write(store, ("small.", "b", None))
        await soon(lambda: copy.values == {})


async def test_a_sink_that_fails_on_a_change_gets_the_whole_key(redis_server: RedisServer) -> None:
    fill(redis_server)
    async with following(redis_server) as (copy, store):
        copy.fail_on = b"big."
        await write(store, ("big.", "n7", b"1"))
        await soon(copy.is_current)
        assert len(copy.replaced) == 2


async def test_own_writes_while_a_big_hash_is_read_do_not_start_over(redis_server: RedisServer) -> None:
    fill(redis_server, count=60_000)
    copy = Copy(redis_server)
    client = connect(redis_server.url, timeout=30)
    store = Store(client)
    task = asyncio.create_task(copy.mirror.run())
    number = 0
    while not copy.mirror.ready.is_set():
        number += 1
        await write(store, ("big.", f"n{number * 37 % 60_000}", b"%d" % number), ("big.", f"new{number}", b"1"))
    await soon(copy.is_current)
    assert copy.replaced == [b"big."]
    assert number > 3
    await client.aclose()
    task.cancel()


@pytest.mark.parametrize("seed", range(4))
async def test_any_mixture_of_own_and_foreign_writes_ends_in_the_state_of_redis(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(session_module, "_CHECK_AFTER", 0.3)
    monkeypatch.setattr(session_module, "_CHECK_SHARE", 1.0)
    chance = random.Random(seed)
    fill(redis_server, "z0.")
    names = [f"z{number}." for number in range(4)]
    async with following(redis_server) as (copy, store):
        with redis_server.client() as client:
            for _ in range(600):
                dice = chance.random()
                name = chance.choice(names)
                if dice < 0.6:
                    rows = [
                        (chance.choice(names), f"n{chance.randrange(6)}", chance.choice([None, b"1", b"2"]))
                        for _ in range(chance.randrange(1, 4))
                    ]
                    await write(store, *{row[:2]: row for row in rows}.values())
                elif dice < 0.8:
                    client.hset(name, f"n{chance.randrange(6)}", str(chance.randrange(3)))
                elif dice < 0.9:
                    client.hdel(name, f"n{chance.randrange(6)}")
                elif dice < 0.94 and name != "z0.":
                    client.delete(name)
                elif dice < 0.97:
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                else:
                    await asyncio.sleep(0.02)
        await soon(copy.is_current)
        await soon(lambda: copy.mirror.in_sync and copy.is_current())
        assert copy.changed


async def test_without_a_script_s_news_everything_is_read(redis_server: RedisServer) -> None:
    """An access list that forbids the channel costs speed, not correctness."""
    fill(redis_server)
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "writer", "on", "nopass", "~*", "+@all", "resetchannels")
    async with following(redis_server) as (copy, _):
        mute = connect(redis_server.url.replace("redis://", "redis://writer:x@"), timeout=30)
        await write(Store(mute), ("big.", "n7", b"1"))
        await soon(copy.is_current)
        assert copy.changed == []
        await mute.aclose()


def _script(transaction: Transaction) -> Any:
    from tfgateway.reconciler.store import _arguments

    return _arguments(transaction, ())


def _sha() -> str:
    from tfgateway.reconciler.store import _APPLY_SHA

    return _APPLY_SHA
