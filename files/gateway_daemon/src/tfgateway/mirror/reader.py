"""Reads values of many keys with bounded size, each with the marker of the data set that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import MasterDownError, ResponseError
from structlog.typing import FilteringBoundLogger

from tfgateway.mirror.selection import Kind, Selection
from tfgateway.mirror.state import Value
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.marker import LONGEST, Marker, Mismatch, read_marker

_STRINGS_AT_ONCE = 500
_HASHES_AT_ONCE = 100
_MARKER: Final = ("GETRANGE", MARKER, "0", str(LONGEST))


class Big(Enum):
    """Placeholder for a hash that is too big for one reply."""

    BIG = 0


BIG: Final = Big.BIG


@dataclass(frozen=True, slots=True)
class RedisReader:
    """Reads what a selection names. All methods raise ``redis.RedisError`` and ``OSError``.

    The marker is asked for after the values, in the same packet: what ``check_marker`` refuses by raising
    never reaches the caller.
    """

    client: Redis
    selection: Selection
    check_marker: Callable[[Marker | Mismatch], None]
    log: FilteringBoundLogger
    keys_at_once: int = 1000
    """SCAN's COUNT: how many keys redis looks at for one reply."""
    fields_at_once: int = 2000
    """Fields of one reply: neither redis nor our event loop is held up by a big hash."""

    async def marker(self) -> Marker | Mismatch:
        """The current marker in redis."""
        try:
            found: Any = await self.client.getrange(MARKER, 0, LONGEST)
        except MasterDownError:
            raise
        except ResponseError:
            return Mismatch.UNREADABLE
        return read_marker(found)

    async def names(self, cursor: int) -> tuple[int, list[bytes]]:
        """Selected keys from a place of the scan on (0: its beginning), and where it goes on (0: it is at its end).

        A key may come twice.
        """
        reply: Any = await self.client.scan(cursor, match=self.selection.match, count=self.keys_at_once)
        following, names = reply
        return following, [name for name in names if self.selection.wants(name)]

    async def read(self, keys: Sequence[bytes]) -> AsyncIterator[tuple[bytes, Value | Big | None]]:
        """Each key with its value as it was at one moment; None: absent, or of another type (logged).

        ``BIG`` for a hash that has to be read by ``pieces`` or ``whole``: one of (about) more than ``fields_at_once``.
        """
        hashes = self.selection.kind == "hash"
        size = _HASHES_AT_ONCE if hashes else _STRINGS_AT_ONCE
        for start in range(0, len(keys), size):
            some = keys[start : start + size]
            for item in await (self._hashes(some) if hashes else self._strings(some)):
                yield item

    async def pieces(self, key: bytes) -> AsyncIterator[dict[bytes, bytes]]:
        """All fields of a big hash, about ``fields_at_once`` at a time. Only at its end is it known to be believed.

        Not of one moment: what is written meanwhile may be in them or not.
        """
        asked = asyncio.ensure_future(self.client.hscan(key, 0, count=self.fields_at_once))
        try:
            cursor = None
            while cursor != 0:
                reply: Any = await asked
                cursor, fields = reply
                if cursor:
                    # Redis prepares the next piece while this one is processed.
                    asked = asyncio.ensure_future(self.client.hscan(key, cursor, count=self.fields_at_once))
                yield fields
        finally:
            asked.cancel()
        self.check_marker(await self.marker())

    async def whole(self, key: bytes) -> dict[bytes, bytes]:
        """A hash as it is at one moment, however big; empty: it is gone."""
        fields: Any = (await self._asked([("HGETALL", key)]))[0]
        if isinstance(fields, ResponseError):
            raise fields
        return dict(fields)

    async def _strings(self, keys: Sequence[bytes]) -> list[tuple[bytes, Value | Big | None]]:
        # One reply for all, and a key of another type is nil in it instead of an error.
        values: Any = (await self._asked([("MGET", *keys)]))[0]
        if isinstance(values, ResponseError):
            raise values
        nil = [key for key, value in zip(keys, values, strict=True) if value is None]
        async with self.client.pipeline(transaction=False) as pipe:
            for key in nil:
                pipe.type(key)
            types = await pipe.execute()
        for key, found in zip(nil, types, strict=True):
            if found not in (b"none", b"string"):
                self._log_other_type(key, "string")
        return list(zip(keys, values, strict=True))

    async def _hashes(self, keys: Sequence[bytes]) -> list[tuple[bytes, Value | Big | None]]:
        # HSCAN rather than HGETALL: whole when it is small, a bounded beginning when it is not, in one round trip.
        count = str(self.fields_at_once)
        found: list[tuple[bytes, Value | Big | None]] = []
        for key, reply in zip(
            keys, await self._asked([("HSCAN", key, "0", "COUNT", count) for key in keys]), strict=True
        ):
            if isinstance(reply, ResponseError):
                if not str(reply).startswith("WRONGTYPE"):
                    raise reply
                self._log_other_type(key, "hash")
                found.append((key, None))
                continue
            cursor, fields = reply
            found.append((key, BIG if cursor else fields or None))
        return found

    async def _asked(self, commands: Sequence[tuple[str | bytes, ...]]) -> list[Any]:
        """The replies to a pipeline, errors among them; checked against the marker."""
        async with self.client.pipeline(transaction=False) as pipe:
            for command in (*commands, _MARKER):
                pipe.execute_command(*command)
            replies = await pipe.execute(raise_on_error=False)
        last = replies.pop()
        if isinstance(last, MasterDownError):
            raise last  # a replica that has lost its master says nothing about the data
        self.check_marker(Mismatch.UNREADABLE if isinstance(last, ResponseError) else read_marker(last))
        return replies

    def _log_other_type(self, key: bytes, expected: Kind) -> None:
        self.log.warning("key of another type skipped", key=key, expected=expected)
