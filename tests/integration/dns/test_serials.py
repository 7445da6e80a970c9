"""Serials in a real redis that comes and goes."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from tfgateway.dns.zones.serial_store import SerialStore
from tfgateway.redis_schema.connection import connect

from tests.support.processes import RedisServer
from tests.support.waiting import soon

SERIALS = "tfgateway:serials"
DIGEST = 0xAB
SAVED = b"1790000000 000000000000000000000000000000ab"


@pytest.fixture
def store(redis_server: RedisServer) -> SerialStore:
    return SerialStore(partial(connect, redis_server.url, timeout=30), retry_after=0.05)


async def until_saved(redis_server: RedisServer, expected: dict[bytes, bytes]) -> None:
    with redis_server.client() as client:
        await soon(lambda: client.hgetall(SERIALS) == expected)


async def test_what_is_issued_while_redis_is_away_is_saved_when_it_is_back(store, redis_server: RedisServer) -> None:
    saving = asyncio.create_task(store.run())
    async with asyncio.timeout(30):
        store.book.issue(b"a.", DIGEST, 1_790_000_000)
        await until_saved(redis_server, {b"a.": SAVED})
        redis_server.stop()
        store.book.issue(b"b.", DIGEST, 1_790_000_000)
        store.book.forget(b"a.")
        await asyncio.sleep(0.2)  # some attempts fail
        redis_server.start()
        await until_saved(redis_server, {b"b.": SAVED})
    saving.cancel()


async def test_the_newer_serial_stays_whichever_process_saves_last(redis_server: RedisServer) -> None:
    stores = [SerialStore(partial(connect, redis_server.url, timeout=30)) for _ in range(3)]
    with redis_server.client() as client:
        client.hset(SERIALS, mapping={b"a.": b"damaged", b"b.": SAVED})
    expected = {b"a.": SAVED, b"b.": SAVED}
    for number, store in enumerate(stores):
        store.book.issue(b"a.", DIGEST, 1_790_000_000 - number)
        store.book.issue(b"b.", DIGEST + 1, 1_780_000_000)
        store.book.issue(own := b"%d." % number, DIGEST, 1_790_000_000)
        expected[own] = SAVED
    saving = [asyncio.create_task(store.run()) for store in stores]
    async with asyncio.timeout(30):
        await until_saved(redis_server, expected)
    for task in saving:
        task.cancel()
