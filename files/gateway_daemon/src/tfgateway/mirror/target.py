"""The sink of a mirror, together with fingerprints of what it has."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Protocol

from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from tfgateway.errors import ParseError
from tfgateway.mirror.disk.snapshot import Item
from tfgateway.mirror.state import Known, Value, fingerprint_parts

Sink = Callable[[bytes, Value | None], None]
"""Called with a key and its whole new value; None: the key is gone."""


class FieldSink(Protocol):
    """Takes hashes in pieces and by field, so that no whole big hash is ever in memory. Errors are logged.

    While ``replace`` waits for a piece, ``change`` of another key may be called.
    """

    async def replace(self, key: bytes, pieces: AsyncIterator[Mapping[bytes, bytes]]) -> bool:
        """All fields of a hash; whatever ``pieces`` raises is passed on, and changes nothing. False: none was new."""

    async def change(self, key: bytes, fields: Mapping[bytes, bytes | None]) -> None:
        """These fields have other values now (None: removed)."""

    async def remove(self, key: bytes) -> None:
        """The key is gone."""


_SLICE = 0.002
"""Seconds of work after which the event loop gets to its other tasks."""
_PIECE = 2000
"""Fields of a hash that are passed on at a time."""


class Implausible(Exception):
    """Data that were read are not of the data set that is followed."""


class Torn(Exception):
    """A hash changed while it was read in pieces."""


class TrackedSink:
    """Passes differences on to the sink; a key that the sink fails on does not block the others."""

    def __init__(self, sink: Sink | FieldSink, log: FilteringBoundLogger) -> None:
        self.known = Known()
        self.changes = 0
        """Calls of the sink that changed something, so far."""
        self.fields = None if callable(sink) else sink
        """The sink, if it takes fields."""
        self._whole = sink if callable(sink) else None
        self._log = log
        self._slice_ends = -math.inf

    async def update(self, key: bytes, value: Value | None) -> None:
        """A key's whole value, if it differs from what the sink got last; None: it is gone."""
        fingerprint = None
        if value is not None:
            fingerprint = 0
            for part in fingerprint_parts(value):
                fingerprint += part
                await self.yield_to_others()
        if not self.known.update(key, fingerprint):
            return
        self.changes += 1
        try:
            if self._whole is not None:
                self._whole(key, value)
            elif self.fields is not None and value is None:
                await self.fields.remove(key)
            elif self.fields is not None and isinstance(value, dict):
                await self.fields.replace(key, self.cut(value))
        except Exception as error:
            self._failed(key, error)

    async def replace(self, key: bytes, pieces: AsyncIterator[Mapping[bytes, bytes]]) -> None:
        """A hash to a sink that takes fields. Errors: what ``pieces`` raises because of where they come from."""
        assert self.fields is not None  # noqa: S101 - the caller's duty
        self.known.distrust(key)  # it has no fingerprint
        try:
            if await self.fields.replace(key, pieces):
                self.changes += 1
        except (RedisError, OSError, ParseError, Implausible, Torn):
            raise
        except Exception as error:
            self._failed(key, error)

    async def change(self, key: bytes, fields: Mapping[bytes, bytes | None]) -> bool:
        """Pass some fields of a hash on; False: the sink failed, and the key has to be read."""
        assert self.fields is not None  # noqa: S101 - as above
        # Its fingerprint is dropped: whatever is read next goes to the sink.
        self.known.distrust(key)
        self.changes += 1
        try:
            await self.fields.change(key, fields)
        except Exception as error:
            self._log.error("change not applied", key=key, reason=repr(error), exc_info=True)
            return False
        finally:
            await self.yield_to_others()
        return True

    async def load(self, key: bytes, items: Iterator[Item]) -> None:
        """Pass a key of a copy on disk on. Errors: ``ParseError``, ``OSError``."""
        first, *more = [value for _, value in items] if self.fields is None else [next(items)[1]]
        if self.fields is None or isinstance(first, bytes):
            value: Value = first if isinstance(first, bytes) else {}
            for piece in (first, *more):
                if isinstance(piece, Mapping) and isinstance(value, dict):
                    value.update(piece)
            await self.update(key, value)
            await self.yield_to_others()
            return

        async def pieces() -> AsyncIterator[Mapping[bytes, bytes]]:
            yield first
            for _, piece in items:
                if isinstance(piece, Mapping):
                    yield piece
                await self.yield_to_others()

        await self.replace(key, pieces())

    async def cut(self, fields: dict[bytes, bytes]) -> AsyncIterator[Mapping[bytes, bytes]]:
        """In pieces, each freed when it was passed on."""
        while fields:
            yield dict(fields.popitem() for _ in range(min(len(fields), _PIECE)))
            await self.yield_to_others()

    async def yield_to_others(self) -> None:
        """Let other tasks run when this one has had the event loop for a slice."""
        if time.monotonic() > self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = time.monotonic() + _SLICE

    def _failed(self, key: bytes, error: Exception) -> None:
        """Log that the sink failed on a key, and go on with the others."""
        self.known.distrust(key)
        self._log.error("change not applied", key=key, reason=repr(error), exc_info=True)
