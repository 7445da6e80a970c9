"""Reports to redis which clients are connected to this worker, for ``tfgateway state``. Nothing waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NoReturn

from redis.asyncio import Redis

from tfgateway.errors import StoreError
from tfgateway.redis_schema.connection import store_errors
from tfgateway.redis_schema.keys import TUNNELS_PREFIX
from tfgateway.redis_schema.tunnels import Connected, encode_tunnels

_EVERY = 10.0  # seconds between two reports when nothing changes
_TOGETHER = 0.3  # seconds in which changes become one report
_LASTS = 30  # seconds after which the report of a worker that was killed is forgotten


async def report(
    connect: Callable[[], Redis], name: str, clients: Callable[[], dict[str, Connected]], changed: asyncio.Event
) -> NoReturn:
    """Report until cancelled, and take the report back then.

    connect: makes a client, which is closed here. name: of this worker. clients: by fingerprint. changed: set when
    they are other ones. Redis may be away: the mirror says so.
    """
    key = TUNNELS_PREFIX + name
    async with connect() as redis:
        try:
            while True:
                changed.clear()
                with contextlib.suppress(StoreError), store_errors():
                    await redis.set(key, encode_tunnels(clients()), ex=_LASTS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_EVERY):
                        await changed.wait()
                await asyncio.sleep(_TOGETHER)
        finally:
            with contextlib.suppress(StoreError), store_errors():
                await redis.delete(key)
