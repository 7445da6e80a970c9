"""Writes a plane's snapshot to disk: from redis itself, so that no second copy of anything is in memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from tfgateway.errors import StoreError
from tfgateway.layout.connection import store_errors
from tfgateway.mirror import snapshot
from tfgateway.mirror.mirror import Mirror
from tfgateway.mirror.reader import BIG, pieces, read
from tfgateway.mirror.selection import Selection
from tfgateway.mirror.snapshot import Item
from tfgateway.telemetry.text import printable

_LOOK = 5.0
"""Seconds between two looks at whether there is something new."""
_PAUSE = 60.0
"""Seconds between two snapshots at least ..."""
_SHARE = 0.01
"""... and as many as make them take no more than this share of the time."""
_LARGEST = 4 << 30
_KEYS_AT_ONCE = 500
_FIELDS_AT_ONCE = 200
"""It is in no hurry, and neither redis' other clients nor this process' answers should notice."""


class Keeper:
    """One worker of a plane has one."""

    def __init__(
        self, mirror: Mirror, connect: Callable[[], Redis], selection: Selection, path: Path, log: FilteringBoundLogger
    ) -> None:
        self._mirror = mirror
        self._connect = connect
        self._selection = selection
        self._path = path
        self._log = log
        self._written = -1

    async def run(self) -> NoReturn:
        """Write whenever something changed, though not more often than is worth it, until cancelled.

        While nothing does, the file is as good as new: it is given the time at which redis was heard last.
        """
        not_before = 0.0
        while True:
            await asyncio.sleep(_LOOK)
            changes = self._mirror.changes
            if not self._mirror.in_sync:
                continue
            if changes == self._written:
                self._confirm()
            elif time.monotonic() >= not_before:
                started = time.monotonic()
                await self._write(changes)
                now = time.monotonic()
                not_before = now + max(_PAUSE, (now - started) / _SHARE)

    def _confirm(self) -> None:
        known = time.time() - self._mirror.age()
        try:
            os.utime(self._path, (known, known))
        except OSError:
            self._written = -1  # somebody removed it

    async def _write(self, changes: int) -> None:
        try:
            with store_errors():
                async with self._connect() as client:
                    size = await snapshot.write(self._path, self._selection.match, self._items(client), _LARGEST)
        except (StoreError, OSError) as error:
            self._log.warning("snapshot not written", path=str(self._path), reason=printable(error))
        else:
            self._written = changes
            self._log.info("snapshot written", path=str(self._path), bytes=size)

    async def _items(self, client: Redis) -> AsyncIterator[Item]:
        """Everything that is selected. Not of one moment: what changes meanwhile is in it or not."""
        async for names in self._names(client):
            async for key, value in read(client, self._selection.kind, names, self._log, most=_FIELDS_AT_ONCE):
                if value is BIG:
                    async for fields in pieces(client, key, most=_FIELDS_AT_ONCE):
                        yield key, fields
                        await asyncio.sleep(0)
                elif value is not None:
                    yield key, value
                await asyncio.sleep(0)

    async def _names(self, client: Redis) -> AsyncIterator[Sequence[bytes]]:
        yield self._selection.first
        cursor = None
        while cursor != 0:
            reply: Any = await client.scan(cursor or 0, match=self._selection.match, count=_KEYS_AT_ONCE)
            cursor, names = reply
            yield [name for name in names if self._selection.wants(name)]
