"""Keeps serials in a redis hash, across restarts and for all workers. Without redis they live on in memory.

Each worker issues the serial of changed data on its own, so that no answer waits for redis, and workers come to the
same data at different times, or by other steps. They end with the newest serial for it: that is what the hash has then,
and each worker observes what is written there (``ZoneLoader``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from redis.asyncio import Redis
from redis.exceptions import WatchError

from tfgateway.dns.zones.serial import SerialBook, is_newer
from tfgateway.errors import SchemaError, StoreError
from tfgateway.redis_schema.connection import store_errors
from tfgateway.redis_schema.keys import SERIALS
from tfgateway.redis_schema.serials import Issued, decode_issued, encode_issued
from tfgateway.redis_schema.zone_changes import CHANNEL, encode_changes

_GATHER = 0.2
"""Seconds for which changed serials are gathered before they are saved."""


class SerialStore:
    """Saves the serials of a ``SerialBook``."""

    def __init__(self, connect: Callable[[], Redis], retry_after: float = 1.0) -> None:
        """connect: makes a client, which is closed here. retry_after: seconds after redis could not be reached."""
        self._connect = connect
        self._retry_after = retry_after
        self._unsaved = asyncio.Event()
        self.book = SerialBook(self._unsaved.set)

    async def run(self) -> NoReturn:
        """Save what changes, until cancelled."""
        async with self._connect() as client:
            while True:
                await self._unsaved.wait()
                # One write for many changes; if this process ends before it, the next serial is newer anyway.
                await asyncio.sleep(_GATHER)
                self._unsaved.clear()
                changes = self.book.take_unsaved()
                try:
                    with store_errors():
                        while not await _saved(client, changes):
                            pass
                except StoreError:
                    self.book.give_back(changes.keys())
                    await asyncio.sleep(self._retry_after)
                    self._unsaved.set()


async def _saved(client: Redis, changes: Mapping[bytes, Issued | None]) -> bool:
    """Write serials that are newer than those in redis; False: another process was faster, try again."""
    async with client.pipeline() as pipe:
        await pipe.watch(SERIALS)
        reply: Any = await pipe.hmget(SERIALS, list(changes))
        found = dict(zip(changes, reply, strict=True))
        issued = {key: encode_issued(new) for key, new in changes.items() if new and _is_newer(new, found[key])}
        removed = [key for key, new in changes.items() if new is None and found[key] is not None]
        if not issued and not removed:
            return True
        pipe.multi()  # type: ignore[no-untyped-call]
        if issued:
            pipe.hset(SERIALS, mapping=issued)  # type: ignore[arg-type]
        if removed:
            pipe.hdel(SERIALS, *removed)
        if message := encode_changes({SERIALS.encode(): {**issued, **dict.fromkeys(removed)}}):
            pipe.publish(CHANNEL, message)
        try:
            await pipe.execute()
        except WatchError:
            return False
    return True


def _is_newer(issued: Issued, raw: bytes | None) -> bool:
    try:
        return raw is None or is_newer(issued.serial, decode_issued(raw).serial)
    except SchemaError:
        return True
