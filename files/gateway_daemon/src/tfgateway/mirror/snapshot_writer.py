"""Writes a plane's snapshot to disk, reading redis, so that no second copy of the data is in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from tfgateway.errors import StoreError
from tfgateway.mirror.disk import freshness, snapshot
from tfgateway.mirror.disk.snapshot import Item
from tfgateway.mirror.mirror import Mirror
from tfgateway.mirror.reader import BIG, RedisReader
from tfgateway.mirror.selection import Selection
from tfgateway.redis_schema.connection import store_errors
from tfgateway.redis_schema.marker import Marker, Mismatch, mismatch
from tfgateway.telemetry.text import printable

_LOOK = 5.0
"""Seconds between two looks at whether there is something new."""
_PAUSE = 60.0
"""Seconds between two snapshots at least ..."""
_SHARE = 0.01
"""... and as many as make them take no more than this share of the time."""
_LARGEST = 4 << 30
_NOTHING: Final = (-1, "")
"""State of a file that is not there."""
_KEYS_AT_ONCE = 500
_FIELDS_AT_ONCE = 200
"""It is in no hurry, and neither redis' other clients nor this process' answers should notice."""


class SnapshotWriter:
    """Writes snapshots, in one worker of a plane."""

    def __init__(
        self, mirror: Mirror, connect: Callable[[], Redis], selection: Selection, path: Path, log: FilteringBoundLogger
    ) -> None:
        self._mirror = mirror
        self._connect = connect
        self._selection = selection
        self._path = path
        self._log = log
        self._written = _NOTHING

    async def run(self) -> NoReturn:
        """Write whenever something changed, though not more often than is worth it, until cancelled.

        While nothing does, the file is as good as new: it is given the time at which redis answered last.
        """
        not_before = 0.0
        while True:
            await asyncio.sleep(_LOOK)
            state = self._state()
            if not self._mirror.in_sync:
                continue
            if state == self._written:
                self._confirm()
            elif time.monotonic() >= not_before:
                started = time.monotonic()
                await self._write(state)
                now = time.monotonic()
                not_before = now + max(_PAUSE, (now - started) / _SHARE)

    def _confirm(self) -> None:
        try:
            freshness.confirm(self._path, self._mirror.age())
        except OSError:
            self._written = _NOTHING  # it was removed

    def _state(self) -> tuple[int, str]:
        """What makes a file current: the same content of the same data set."""
        marker = self._mirror.marker
        return self._mirror.changes, "" if marker is None else marker.incarnation

    async def _write(self, state: tuple[int, str]) -> None:
        marker = self._mirror.marker
        path, match = self._path, self._selection.match
        try:
            with store_errors():
                async with self._connect() as client:
                    size = await snapshot.write(path, match, self._items(client, marker), _LARGEST, marker)
        except (StoreError, OSError) as error:
            self._log.warning("snapshot not written", path=str(path), reason=printable(error))
        else:
            self._written = state
            self._confirm()
            self._log.info("snapshot written", path=str(path), bytes=size)

    async def _items(self, client: Redis, marker: Marker | None) -> AsyncIterator[Item]:
        """All selected keys. Not atomic: what changes meanwhile is in it or not.

        Errors: ``StoreError`` when redis does not hold the data set of ``marker`` any more.
        """

        def check_marker(found: Marker | Mismatch) -> None:
            if marker is not None and (why := mismatch(marker, found)):
                raise StoreError(f"redis is implausible: its marker is {why}")

        reader = RedisReader(
            client, self._selection, check_marker, self._log, keys_at_once=_KEYS_AT_ONCE, fields_at_once=_FIELDS_AT_ONCE
        )
        async for names in self._names(reader):
            async for key, value in reader.read(names):
                if value is BIG:
                    async for fields in reader.pieces(key):
                        yield key, fields
                        await asyncio.sleep(0)
                elif value is not None:
                    yield key, value
                await asyncio.sleep(0)
        check_marker(await reader.marker())

    async def _names(self, reader: RedisReader) -> AsyncIterator[Sequence[bytes]]:
        yield self._selection.first
        cursor = None
        while cursor != 0:
            cursor, names = await reader.names(cursor or 0)
            yield names
