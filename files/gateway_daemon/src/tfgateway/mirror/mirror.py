"""The live copy: one task listens to what changed, the other reads it and tells the sink."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NoReturn

from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from tfgateway.errors import StoreError
from tfgateway.layout.connection import store_errors
from tfgateway.mirror.feed import Feed, open_feed
from tfgateway.mirror.reader import read
from tfgateway.mirror.selection import Selection
from tfgateway.mirror.state import Known, Pending, Value, fingerprint_parts

Sink = Callable[[bytes, Value | None], None]
"""Called with a key and its whole new value; None: the key is gone."""

_KEYS_AT_ONCE = 1000
"""SCAN's COUNT: how many keys redis looks at for one reply."""

_SLICE = 0.005
"""Seconds of work after which the event loop gets to its other tasks."""


class Mirror:
    """Keeps a sink in step with the selected keys of redis, for as long as ``run`` runs.

    The sink hears of a key only when its value differs from what it heard last, also after a gap. While redis is away
    nothing is removed: what is known stays known.
    """

    def __init__(
        self,
        connect: Callable[[], Redis],
        selection: Selection,
        sink: Sink,
        log: FilteringBoundLogger,
        *,
        heartbeat: float = 2.0,
        retry_after: tuple[float, float] = (0.1, 5.0),
    ) -> None:
        """Set up; nothing is dialled before ``run``.

        connect: makes a client (bytes, RESP2, with a time-out for replies); the mirror closes it.
        sink: must be quick; what it raises is logged and the key is told again when it is read next.
        heartbeat: seconds without news after which redis is asked whether it is still there.
        retry_after: seconds before the first attempt to reconnect, and the most between two (jittered, doubling).
        """
        self.ready = asyncio.Event()
        """Set by the first complete snapshot, and never cleared."""
        self.in_sync = False
        """A snapshot is complete and no change can have been missed since."""
        self.resyncs = 0
        """Complete snapshots so far."""
        self.changes = 0
        """Calls of the sink so far."""
        self._connect = connect
        self._selection = selection
        self._sink = sink
        self._log = log
        self._heartbeat = heartbeat
        self._retry_after = retry_after
        self._known = Known()
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
            failures = 0 if self.resyncs > resyncs else failures + 1
            first, longest = self._retry_after
            # Half of the delay is by chance: a fleet of planes must not come back in the same instant.
            spread = random.uniform(0.5, 1.0)  # noqa: S311 - nobody gains by guessing it
            await asyncio.sleep(min(longest, first * 2 ** min(failures, 30)) * spread)

    async def _follow(self) -> None:
        """One connection's life; ends with ``StoreError`` only."""
        with store_errors():
            async with (
                self._connect() as client,
                open_feed(client, self._selection.prefix, self._heartbeat) as feed,
            ):
                pending = Pending(self._selection.wants)
                news = asyncio.Event()
                await _together(self._listen(feed, pending, news), self._apply(client, pending, news))

    async def _listen(self, feed: Feed, pending: Pending, news: asyncio.Event) -> NoReturn:
        """Take note of what changed at once, however busy ``_apply`` is: redis drops readers that fall behind."""
        while True:
            changed = await feed.next()
            pending.announce(changed)
            if changed is None:
                self.in_sync = False
            elif self.in_sync:
                self._last_in_sync = time.monotonic()
            news.set()

    async def _apply(self, client: Redis, pending: Pending, news: asyncio.Event) -> NoReturn:
        while True:
            news.clear()
            if pending.everything:
                await self._snapshot(client, pending)
            await self._refresh(client, pending.take())
            await news.wait()

    async def _snapshot(self, client: Redis, pending: Pending) -> None:
        """Read every selected key, tell the differences; news that comes meanwhile is read in between."""
        pending.everything = False
        unseen = set(self._known.keys())
        cursor = None
        while cursor != 0:
            reply: Any = await client.scan(cursor or 0, match=self._selection.match, count=_KEYS_AT_ONCE)
            cursor, names = reply
            wanted = [name for name in names if self._selection.wants(name)]
            unseen.difference_update(wanted)
            await self._refresh(client, wanted)
            await self._refresh(client, pending.take())
        # A key that was deleted and made again during the scan may be missing in it: gone is what can not be read.
        await self._refresh(client, list(unseen))
        if pending.everything:
            return  # emptied meanwhile: the next snapshot tells
        self.resyncs += 1
        self.in_sync = True
        self._last_in_sync = time.monotonic()
        self._trouble = ""
        self.ready.set()
        self._log.info("in sync with redis", keys=self.keys, resyncs=self.resyncs)

    async def _refresh(self, client: Redis, keys: Sequence[bytes]) -> None:
        """Read these keys and tell the sink what differs."""
        async for key, value in read(client, self._selection.kind, keys, self._log):
            fingerprint = None
            if value is not None:
                fingerprint = 0
                for part in fingerprint_parts(value):
                    fingerprint += part
                    await self._give_way()
            if self._known.update(key, fingerprint):
                self._tell(key, value)
            await self._give_way()

    async def _give_way(self) -> None:
        """Let other tasks have the event loop when we had it for a slice."""
        if time.monotonic() > self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = time.monotonic() + _SLICE

    def _tell(self, key: bytes, value: Value | None) -> None:
        self.changes += 1
        try:
            self._sink(key, value)
        except Exception as error:
            # One key that the plane can not digest must not keep the others from it.
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
