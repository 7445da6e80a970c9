"""Invalidation messages for changed keys: client-side caching in broadcast mode, over RESP2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from tfgateway.errors import SchemaError, StoreError
from tfgateway.redis_schema import zone_changes
from tfgateway.redis_schema.zone_changes import Changes

_CHANNEL = b"__redis__:invalidate"


class Feed:
    """A connection that redirects its invalidation messages to itself.

    With another connection as target, the death of the target alone would end the messages without a sign (RESP2 cannot
    say ``tracking-redir-broken``). Here tracking and delivery live and die together, and one PING proves both.
    """

    def __init__(self, connection: AbstractConnection, heartbeat: float) -> None:
        self._connection = connection
        self._heartbeat = heartbeat
        self._asked: dict[bytes, asyncio.Event] = {}
        self._number = 0

    async def subscribe(self, prefixes: Iterable[bytes]) -> None:
        """After this every change of a key that begins with a prefix is announced; what is read now is current."""
        own_id = await self._ask("CLIENT", "ID")
        narrowed = [word for prefix in prefixes if prefix for word in ("PREFIX", prefix)]
        await self._ask("CLIENT", "TRACKING", "ON", "REDIRECT", own_id, "BCAST", *narrowed)
        # In one command: a push between two would be taken for the reply to the second.
        await self._ask("SUBSCRIBE", _CHANNEL, zone_changes.CHANNEL)
        await self._connection.read_response()  # an answer for each channel

    async def next(self) -> Sequence[bytes] | Changes | None:
        """The next changed keys; none after a quiet heartbeat; None when redis can not say which (FLUSHALL).

        Or what a gateway's own transaction changed, which comes before the names of the keys that it changed.

        Errors: ``redis.RedisError``, ``OSError``, ``StoreError``; a silent redis is a ``redis.TimeoutError``. After an
        error messages may be lost: open another feed, then take a snapshot.
        """
        # A quiet redis is no error: the connection's own time-out must not apply to waiting for zone_changes.
        message = await self._connection.read_response(timeout=self._heartbeat)
        if message is None:
            message = await self._ask("PING")
        match message:
            case [b"message", zone_changes.CHANNEL, bytes(raw)]:
                try:
                    return zone_changes.decode_changes(raw)
                except SchemaError:
                    return ()  # the names of the keys are still to come
            case [b"message", _, list(keys)]:
                return keys
            case [b"message", _, None]:
                return None
            case [b"pong", number]:
                if number in self._asked:
                    self._asked[number].set()
                return ()
        raise StoreError("redis sent something else than a message on the connection for messages")

    async def caught_up(self) -> None:
        """Wait until ``next`` has returned all messages about what redis had done when this was called.

        What was read over another connection may be newer than the messages that have arrived here.

        Errors: as ``next``.
        """
        self._number += 1
        number = b"%d" % self._number
        answered = self._asked[number] = asyncio.Event()
        try:
            await self._connection.send_command("PING", number)
            await answered.wait()
        finally:
            del self._asked[number]

    async def _ask(self, *command: str | bytes | int) -> Any:
        await self._connection.send_command(*command)
        return await self._connection.read_response()


@asynccontextmanager
async def open_feed(client: Redis, prefixes: Iterable[bytes], heartbeat: float) -> AsyncIterator[Feed]:
    """A subscribed feed on a connection of its own. Errors: ``redis.RedisError``, ``OSError``."""
    connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        feed = Feed(connection, heartbeat)
        await feed.subscribe(prefixes)
        yield feed
    finally:
        # Given back as it is, its next user would get invalidations for replies.
        await connection.disconnect(nowait=True)
        await client.connection_pool.release(connection)
