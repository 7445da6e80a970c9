"""The live copy: one task listens to what changed, the other reads it and tells the sink.

Two kinds of news come over one connection, and their order there is what makes this right:

* ``explain``: a gateway's transaction tells every field that it wrote (``layout.news``), while it runs;
* ``announce``: redis names the keys that anybody changed, after the commands of one turn of its event loop have run.

A key that is announced, and of which changes were explained since the last announcement, is taken as explained: its
fields are told to the sink, and it is not read. Any other announced key is read whole. What can go wrong, and why the
sink ends with what redis holds all the same:

* Somebody else writes the same key in the same turn of redis as a gateway does. Then the announcement stands for both
  writes and the explanation for one. So every explained key is read again later, when that costs no more than a
  hundredth of the time (``_CHECK_SHARE``); until then one foreign write may stay unseen.
* A change is explained while its key is read in pieces. It is held and put on top of what was read: it is newer than
  any older value of its fields, and what came after it is explained or announced itself.
* Others write a key while it is read in pieces. Pieces from before and after their writes do not belong together: the
  hash is then read in one go, which holds redis up for a moment, but ends.
* A change is explained of a key that the sink has not got, that is waiting to be read, or that is being read in one
  go: ignored, since the announcement that follows makes that it is read (again).
* An explanation is too long to be sent, or cannot be read: the announcement alone counts.
* The connection breaks, or redis drops it because we fall behind: both kinds of news end together, and everything is
  read again. A FLUSHALL is announced without names, with the same effect.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.typing import FilteringBoundLogger

from tfgateway.errors import ParseError, StoreError
from tfgateway.layout.connection import store_errors
from tfgateway.mirror import snapshot
from tfgateway.mirror.feed import Feed, open_feed
from tfgateway.mirror.reader import BIG, pieces, read, whole
from tfgateway.mirror.selection import Selection
from tfgateway.mirror.snapshot import Item
from tfgateway.mirror.state import Known, Pending, Reading, Value, fingerprint_parts
from tfgateway.telemetry.text import printable

Sink = Callable[[bytes, Value | None], None]
"""Called with a key and its whole new value; None: the key is gone."""


class FieldSink(Protocol):
    """Takes hashes in pieces and by field, so that no whole big hash is ever in memory. Errors are logged.

    While ``replace`` waits for a piece, ``change`` of another key may be called.
    """

    async def replace(self, key: bytes, pieces: AsyncIterator[Mapping[bytes, bytes]]) -> None:
        """All fields of a hash; whatever ``pieces`` raises is passed on, and changes nothing."""

    async def change(self, key: bytes, fields: Mapping[bytes, bytes | None]) -> None:
        """These fields have other values now (None: removed)."""

    async def remove(self, key: bytes) -> None:
        """The key is gone."""


_KEYS_AT_ONCE = 1000
"""SCAN's COUNT: how many keys redis looks at for one reply."""

_SLICE = 0.002
"""Seconds of work after which the event loop gets to its other tasks."""
_PIECE = 2000
"""Fields of a hash that are told at a time."""
_CHECK_SHARE = 0.01
"""Of the time that may go into reading again what was explained."""
_CHECK_AFTER = 1.0
"""Seconds after which an explained key is read again at the earliest."""


@dataclass(frozen=True, slots=True)
class _Link:
    """What lives and dies with the connection to redis."""

    client: Redis
    feed: Feed
    pending: Pending


class _Torn(Exception):
    """A hash was written by others while it was read in pieces."""


class Mirror:
    """Keeps a sink in step with the selected keys of redis, for as long as ``run`` runs.

    The sink hears of a key only when its value differs from what it heard last, also after a gap. While redis is away
    nothing is removed: what is known stays known.
    """

    def __init__(
        self,
        connect: Callable[[], Redis],
        selection: Selection,
        sink: Sink | FieldSink,
        log: FilteringBoundLogger,
        *,
        file: Path | None = None,
        heartbeat: float = 2.0,
        retry_after: tuple[float, float] = (0.1, 5.0),
    ) -> None:
        """Set up; nothing is dialled before ``run``.

        connect: makes a client (bytes, RESP2, with a time-out for replies); the mirror closes it.
        sink: must be quick; what it raises is logged and the key is told again when it is read next.
        file: a snapshot (``mirror.snapshot``) that is told when redis is away before anything else was known.
        heartbeat: seconds without news after which redis is asked whether it is still there.
        retry_after: seconds before the first attempt to reconnect, and the most between two (jittered, doubling).
        """
        self.ready = asyncio.Event()
        """Set by the first complete snapshot, from redis or from disk, and never cleared."""
        self.in_sync = False
        """A snapshot is complete and no change can have been missed since."""
        self.resyncs = 0
        """Complete snapshots so far."""
        self.changes = 0
        """Calls of the sink so far."""
        self._connect = connect
        self._selection = selection
        self._whole = sink if callable(sink) else None
        self._fields = None if callable(sink) else sink
        self._log = log
        self._file = file
        self._heartbeat = heartbeat
        self._retry_after = retry_after
        self._known = Known()
        self._checks: dict[bytes, float] = {}
        """Explained keys, and when they are to be read again."""
        self._took: dict[bytes, float] = {}
        """Seconds that reading a big hash took last."""
        self._last_in_sync = -math.inf
        self._slice_ends = -math.inf
        self._trouble = ""

    @property
    def keys(self) -> int:
        """How many keys the copy has."""
        return len(self._known)

    def age(self) -> float:
        """Seconds since the copy was last known to be in sync: at most about a heartbeat unless redis is away.

        Infinite before the first complete snapshot.
        """
        return time.monotonic() - self._last_in_sync

    async def run(self) -> NoReturn:
        """Follow redis until cancelled; only an error in this program ends it otherwise."""
        failures = 0
        while True:
            resyncs = self.resyncs
            try:
                # In a task of its own, so that being cancelled never depends on redis-py (see _end).
                await _together(self._follow())
            except StoreError as error:
                self._lost(str(error))
                if self._file is not None and not self.ready.is_set():
                    await self._restore(self._file)
            failures = 0 if self.resyncs > resyncs else failures + 1
            first, longest = self._retry_after
            # Half of the delay is by chance: a fleet of planes must not come back in the same instant.
            spread = random.uniform(0.5, 1.0)  # noqa: S311 - nobody gains by guessing it
            await asyncio.sleep(min(longest, first * 2 ** min(failures, 30)) * spread)

    async def _restore(self, path: Path) -> None:
        """Tell what the last life of this plane has left on disk."""
        try:
            known, items = snapshot.read(path, self._selection.match)
            for key, group in groupby(items, key=itemgetter(0)):
                await self._tell_from_disk(key, group)
        except FileNotFoundError:
            return
        except (ParseError, OSError) as error:
            self._log.warning("snapshot on disk ignored", path=str(path), reason=printable(error))
            return
        self._last_in_sync = time.monotonic() - max(0.0, time.time() - known)
        self.ready.set()
        self._log.warning("serving from disk", path=str(path), keys=self.keys, age=round(self.age()))

    async def _tell_from_disk(self, key: bytes, items: Iterator[Item]) -> None:
        first, *more = [value for _, value in items] if self._fields is None else [next(items)[1]]
        if self._fields is None or isinstance(first, bytes):
            value: Value = first if isinstance(first, bytes) else {}
            for piece in (first, *more):
                if isinstance(piece, Mapping) and isinstance(value, dict):
                    value.update(piece)
            self._known.update(key, sum(fingerprint_parts(value)))
            await self._tell(key, value)
            await self._give_way()
            return

        async def rest() -> AsyncIterator[Mapping[bytes, bytes]]:
            yield first
            for _, piece in items:
                if isinstance(piece, Mapping):
                    yield piece
                await self._give_way()

        self._known.distrust(key)
        self.changes += 1
        try:
            await self._fields.replace(key, rest())
        except (ParseError, OSError):
            raise
        except Exception as error:
            self._failed(key, error)

    async def _follow(self) -> None:
        """One connection's life; ends with ``StoreError`` only."""
        with store_errors():
            async with (
                self._connect() as client,
                open_feed(client, self._selection.prefixes, self._heartbeat) as feed,
            ):
                link = _Link(client, feed, Pending(self._selection.wants))
                news = asyncio.Event()
                await _together(self._listen(link, news), self._apply(link, news))

    async def _listen(self, link: _Link, news: asyncio.Event) -> NoReturn:
        """Take note of what changed at once, however busy ``_apply`` is: redis drops readers that fall behind."""
        while True:
            changed = await link.feed.next()
            if isinstance(changed, dict):
                if self._fields is not None:
                    link.pending.explain(changed, self._known.holds)
            else:
                self._check_later(link.pending.announce(changed))
                if changed is None:
                    self.in_sync = False
                elif self.in_sync:
                    self._last_in_sync = time.monotonic()
            news.set()
            # Reading what has arrived already does not wait, and would go on for as long as there is more of it.
            await self._give_way()

    def _check_later(self, keys: Iterable[bytes]) -> None:
        """Note when these may be read again for a hundredth of the time."""
        now = time.monotonic()
        for key in keys:
            self._checks.setdefault(key, now + max(_CHECK_AFTER, self._took.get(key, 0.0) / _CHECK_SHARE))

    def _due(self) -> list[bytes]:
        """Keys that are to be read again now."""
        now = time.monotonic()
        due = [key for key, at in self._checks.items() if at <= now]
        for key in due:
            del self._checks[key]
        return due

    async def _apply(self, link: _Link, news: asyncio.Event) -> NoReturn:
        while True:
            news.clear()
            if link.pending.everything:
                await self._snapshot(link)
            await self._change(link.pending)
            await self._refresh(link, link.pending.take())
            if due := self._due():
                await self._refresh(link, due)
            next_check = min(self._checks.values(), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if next_check is None else max(next_check - time.monotonic(), 0.0)):
                    await news.wait()

    async def _change(self, pending: Pending) -> None:
        """Tell the sink what was explained."""
        for key, fields in pending.take_changes().items():
            if fields is not None and self._known.holds(key):
                await self._tell_change(key, fields, pending)

    async def _tell_change(self, key: bytes, fields: Mapping[bytes, bytes | None], pending: Pending) -> None:
        if self._fields is None:
            return
        # Its fingerprint is not known any more: what is read next is told, whatever it is.
        self._known.distrust(key)
        self.changes += 1
        try:
            await self._fields.change(key, fields)
        except Exception as error:
            self._log.error("change not applied", key=key, reason=repr(error), exc_info=True)
            pending.announce([key])
        await self._give_way()

    async def _snapshot(self, link: _Link) -> None:
        """Read every selected key, tell the differences; news that comes meanwhile is read in between."""
        link.pending.everything = False
        unseen = set(self._known.keys()).difference(self._selection.first)
        await self._refresh(link, self._selection.first)
        cursor = None
        while cursor != 0:
            reply: Any = await link.client.scan(cursor or 0, match=self._selection.match, count=_KEYS_AT_ONCE)
            cursor, names = reply
            wanted = [name for name in names if self._selection.wants(name)]
            unseen.difference_update(wanted)
            await self._refresh(link, wanted)
            await self._change(link.pending)
            await self._refresh(link, link.pending.take())
        # A key that was deleted and made again during the scan may be missing in it: gone is what can not be read.
        await self._refresh(link, list(unseen))
        if link.pending.everything:
            return  # emptied meanwhile: the next snapshot tells
        self.resyncs += 1
        self.in_sync = True
        self._last_in_sync = time.monotonic()
        self._trouble = ""
        self.ready.set()
        self._log.info("in sync with redis", keys=self.keys, resyncs=self.resyncs)

    async def _refresh(self, link: _Link, keys: Sequence[bytes]) -> None:
        """Read these keys and tell the sink what differs."""
        link.pending.begin(keys)
        async for key, found in read(link.client, self._selection.kind, keys, self._log):
            self._checks.pop(key, None)
            if found is BIG and self._fields is not None:
                await self._replace(link, key, self._fields)
                continue
            value = await self._collected(link, key) if found is BIG else found
            fingerprint = None
            if value is not None:
                fingerprint = 0
                for part in fingerprint_parts(value):
                    fingerprint += part
                    await self._give_way()
            self._took.pop(key, None)
            if self._known.update(key, fingerprint):
                await self._tell(key, value)
            link.pending.end(key)
            await self._give_way()

    async def _replace(self, link: _Link, key: bytes, sink: FieldSink) -> None:
        """A big hash to a sink that takes pieces."""
        started = time.monotonic()
        self.changes += 1
        self._known.distrust(key)  # it has no fingerprint
        try:
            with link.pending.reading(key) as reading:
                try:
                    await sink.replace(key, self._unbroken(link, key, reading))
                except _Torn:
                    fields = await self._at_one_moment(link.client, key, reading)
                    if fields:
                        await sink.replace(key, self._cut(fields))
                    else:
                        self._known.update(key, None)
                        await sink.remove(key)
        except (RedisError, OSError):
            raise
        except Exception as error:
            self._failed(key, error)
        self._took[key] = time.monotonic() - started
        if reading.missed:
            await self._tell_change(key, reading.missed, link.pending)

    async def _collected(self, link: _Link, key: bytes) -> Value | None:
        """A big hash as one value, for a sink that takes no pieces."""
        fields: dict[bytes, bytes] = {}
        with link.pending.reading(key) as reading:
            try:
                async for piece in self._unbroken(link, key, reading):
                    fields.update(piece)
            except _Torn:
                fields = await self._at_one_moment(link.client, key, reading)
        return fields or None

    async def _unbroken(self, link: _Link, key: bytes, reading: Reading) -> AsyncIterator[Mapping[bytes, bytes]]:
        """All fields in pieces. Errors: ``_Torn``: others wrote it, so that the pieces may not belong together."""
        async for fields in pieces(link.client, key):
            yield fields
            await self._change(link.pending)
            await self._give_way()
        await link.feed.caught_up()
        if reading.touched:
            raise _Torn

    async def _at_one_moment(self, client: Redis, key: bytes, reading: Reading) -> dict[bytes, bytes]:
        # It holds redis up for a moment, but ends however often others write; and it has what was missed so far.
        reading.missed.clear()
        reading.touched = False
        return await whole(client, key)

    async def _cut(self, fields: dict[bytes, bytes]) -> AsyncIterator[Mapping[bytes, bytes]]:
        """In pieces, each let go of when it was told."""
        while fields:
            yield dict(fields.popitem() for _ in range(min(len(fields), _PIECE)))
            await self._give_way()

    async def _give_way(self) -> None:
        """Let other tasks have the event loop when we had it for a slice."""
        if time.monotonic() > self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = time.monotonic() + _SLICE

    async def _tell(self, key: bytes, value: Value | None) -> None:
        self.changes += 1
        try:
            if self._whole is not None:
                self._whole(key, value)
            elif self._fields is not None and value is None:
                await self._fields.remove(key)
            elif self._fields is not None and isinstance(value, dict):
                await self._fields.replace(key, self._cut(value))
        except Exception as error:
            self._failed(key, error)

    def _failed(self, key: bytes, error: Exception) -> None:
        """One key that the plane can not digest must not keep the others from it."""
        self._known.distrust(key)
        self._log.error("change not applied", key=key, reason=repr(error), exc_info=True)

    def _lost(self, trouble: str) -> None:
        """Say once why redis can not be followed, not at every attempt."""
        self.in_sync = False
        if trouble != self._trouble:
            self._trouble = trouble
            self._log.warning("redis is away: serving what is known", reason=trouble, keys=self.keys)


async def _together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run all as tasks; raise what the first that fails raised, once the others have ended too."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(tasks)
    for task in done:
        task.result()


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until it works: redis-py sends through ``wait_for``, which can lose a cancellation (Python < 3.12)."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=0.05)
    await asyncio.gather(*tasks, return_exceptions=True)
