"""Values of many keys, read without trusting their type or size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from structlog.typing import FilteringBoundLogger

from tfgateway.mirror.selection import Kind
from tfgateway.mirror.state import Value

_STRINGS_AT_ONCE = 500
_HASHES_AT_ONCE = 100
_FIELDS_AT_ONCE = 2000
"""Fields of one reply: neither redis nor our event loop is held up by a big hash."""


class Big(Enum):
    """Stands for a hash that is too big for one reply."""

    BIG = 0


BIG: Final = Big.BIG


async def read(
    client: Redis, kind: Kind, keys: Sequence[bytes], log: FilteringBoundLogger, *, most: int = _FIELDS_AT_ONCE
) -> AsyncIterator[tuple[bytes, Value | Big | None]]:
    """Each key with its value as it was at one moment; None: absent, or of another type (logged).

    ``BIG`` for a hash that has to be read by ``pieces`` or ``whole``: one of (about) more than ``most`` fields.
    Errors: ``redis.RedisError``, ``OSError``.
    """
    size = _HASHES_AT_ONCE if kind == "hash" else _STRINGS_AT_ONCE
    for start in range(0, len(keys), size):
        some = keys[start : start + size]
        values = _hashes(client, some, log, most) if kind == "hash" else _strings(client, some, log)
        async for item in values:
            yield item


async def _strings(
    client: Redis, keys: Sequence[bytes], log: FilteringBoundLogger
) -> AsyncIterator[tuple[bytes, Value | None]]:
    # One reply for all, and a key of another type is nil in it instead of an error.
    values: list[Any] = await client.mget(keys)
    nil = [key for key, value in zip(keys, values, strict=True) if value is None]
    async with client.pipeline(transaction=False) as pipe:
        for key in nil:
            pipe.type(key)
        types = await pipe.execute()
    for key, found in zip(nil, types, strict=True):
        if found not in (b"none", b"string"):
            _log_other_type(log, key, "string")
    for item in zip(keys, values, strict=True):
        yield item


async def _hashes(
    client: Redis, keys: Sequence[bytes], log: FilteringBoundLogger, most: int
) -> AsyncIterator[tuple[bytes, Value | Big | None]]:
    # HSCAN rather than HGETALL: whole when it is small, a bounded beginning when it is not, in one round trip.
    async with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hscan(key, count=most)
        replies = await pipe.execute(raise_on_error=False)
    for key, reply in zip(keys, replies, strict=True):
        if isinstance(reply, ResponseError):
            if not str(reply).startswith("WRONGTYPE"):
                raise reply
            _log_other_type(log, key, "hash")
            yield key, None
            continue
        cursor, fields = reply
        yield key, BIG if cursor else fields or None


async def pieces(client: Redis, key: bytes, *, most: int = _FIELDS_AT_ONCE) -> AsyncIterator[dict[bytes, bytes]]:
    """All fields of a big hash, about ``most`` at a time.

    Not of one moment: what is written meanwhile may be in them or not.
    """
    asked = asyncio.ensure_future(client.hscan(key, 0, count=most))
    try:
        cursor = None
        while cursor != 0:
            reply: Any = await asked
            cursor, fields = reply
            if cursor:
                # Redis makes the next piece while this one is looked at.
                asked = asyncio.ensure_future(client.hscan(key, cursor, count=most))
            yield fields
    finally:
        asked.cancel()


async def whole(client: Redis, key: bytes) -> dict[bytes, bytes]:
    """A hash as it is at one moment, however big; empty: it is gone."""
    fields: Any = await client.hgetall(key)
    return dict(fields)


def _log_other_type(log: FilteringBoundLogger, key: bytes, expected: Kind) -> None:
    log.warning("key of another type skipped", key=key, expected=expected)
