"""Serials in a real redis that comes and goes."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
import structlog.testing
from tfgateway.dns.serialstore import SerialStore
from tfgateway.errors import StoreError
from tfgateway.layout.connection import connect
from tfgateway.telemetry.logs import logger

SERIALS = "tfgateway:serials"
DIGEST = 0xAB
SAVED = b"1790000000 000000000000000000000000000000ab"


@pytest.fixture
def store(redis_server) -> SerialStore:
    return SerialStore(partial(connect, redis_server.url, timeout=5), logger("dns"), retry_after=0.05)


async def until_saved(redis_server, expected: dict[bytes, bytes]) -> None:
    with redis_server.client() as client:
        while client.hgetall(SERIALS) != expected:  # noqa: ASYNC110 - redis sets no event
            await asyncio.sleep(0.01)


async def test_what_is_issued_while_redis_is_away_is_saved_when_it_is_back(store, redis_server) -> None:
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


async def test_restore_is_done_once_and_skips_what_is_damaged(store, redis_server) -> None:
    with redis_server.client() as client:
        client.hset(SERIALS, mapping={b"a.": SAVED, b"b.": b"damaged"})
    redis_server.stop()
    with pytest.raises(StoreError):
        await store.restore()
    redis_server.start()
    with structlog.testing.capture_logs() as logs:
        await store.restore()
        await store.restore()
    assert [(entry["event"], entry["zone"]) for entry in logs] == [("damaged serial skipped", b"b.")]
    assert store.book.issue(b"a.", DIGEST, 1_800_000_000) == 1_790_000_000
    assert store.book.issue(b"b.", DIGEST, 1_800_000_000) == 1_800_000_000
