"""The live copy of what a plane needs of redis, over all connections that it takes (``mirror.session``)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NoReturn

from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from tfgateway.aio import Backoff, together
from tfgateway.errors import ParseError, StoreError
from tfgateway.mirror.disk import snapshot
from tfgateway.mirror.feed import open_feed
from tfgateway.mirror.plausibility import Hold, Plausibility
from tfgateway.mirror.selection import Selection
from tfgateway.mirror.session import MirrorSession, Progress
from tfgateway.mirror.target import FieldSink, Sink, TrackedSink
from tfgateway.redis_schema.connection import store_errors
from tfgateway.redis_schema.marker import Marker
from tfgateway.telemetry.text import printable


class Mirror:
    """Keeps a sink in step with the selected keys of redis, for as long as ``run`` runs.

    The sink gets a key only when its value differs from what it got last, also after a gap. While redis is away,
    or holds what cannot be believed (``mirror.plausibility``), nothing is removed: what is known stays known.
    """

    def __init__(
        self,
        connect: Callable[[], Redis],
        selection: Selection,
        sink: Sink | FieldSink,
        log: FilteringBoundLogger,
        *,
        file: Path | None = None,
        hold_for: float = math.inf,
        heartbeat: float = 2.0,
        retry_after: tuple[float, float] = (0.1, 5.0),
    ) -> None:
        """Set up; nothing is dialled before ``run``.

        connect: makes a client (bytes, RESP2, with a time-out for replies); the mirror closes it.
        sink: must be quick; what it raises is logged and the key is passed on again when it is read next.
        file: a snapshot (``mirror.disk.snapshot``) that is loaded when redis is away, or implausible, before anything
        else was known.
        hold_for: seconds for which a redis that is implausible is not followed; 0: it always is.
        heartbeat: seconds without a message after which redis is asked whether it is still there.
        retry_after: seconds before the first attempt to reconnect, and the most between two (jittered, doubling).
        """
        self._connect = connect
        self._selection = selection
        self._log = log
        self._file = file
        self._heartbeat = heartbeat
        self._retry_after = retry_after
        self._target = TrackedSink(sink, log)
        self._plausibility = Plausibility(hold_for)
        self._progress = Progress()

    @property
    def ready(self) -> asyncio.Event:
        """Set by the first complete snapshot, from redis or from disk, and never cleared."""
        return self._progress.ready

    @property
    def in_sync(self) -> bool:
        """A snapshot is complete and no change can have been missed since."""
        return self._progress.in_sync

    @property
    def resyncs(self) -> int:
        """The number of complete snapshots from redis so far."""
        return self._progress.resyncs

    @property
    def changes(self) -> int:
        """The number of calls of the sink that changed something."""
        return self._target.changes

    @property
    def keys(self) -> int:
        """The number of keys in the copy."""
        return len(self._target.known)

    @property
    def marker(self) -> Marker | None:
        """The marker of the data set in the copy; None: it had none, as with data of old programs."""
        return self._plausibility.seen

    @property
    def hold(self) -> Hold | None:
        """Why, and since when (``time.monotonic``), redis is not followed although it answers; None: it is."""
        return self._plausibility.hold

    def age(self) -> float:
        """Seconds since the copy was last known to be in sync: at most about a heartbeat unless redis is away.

        Infinite before the first complete snapshot.
        """
        return time.monotonic() - self._progress.last_in_sync

    def away(self) -> float:
        """Seconds since redis last answered, whether it was followed or not; infinite as ``age``."""
        return time.monotonic() - max(self._progress.last_in_sync, self._progress.last_held)

    async def run(self) -> NoReturn:
        """Follow redis until cancelled; only an error in this program ends it otherwise."""
        if self._file is not None:
            self._plausibility.seen = snapshot.marker(self._file, self._selection.match)
        first, longest = self._retry_after
        backoff = Backoff(first, longest)
        while True:
            resyncs = self.resyncs
            try:
                # In a task of its own, so that being cancelled never depends on redis-py (see aio.together).
                await together(self._follow())
            except StoreError as error:
                self._lost(str(error))
                if not self.ready.is_set():
                    await self._restore()
            if self.resyncs > resyncs:
                backoff.succeeded()
            await asyncio.sleep(backoff.failed())

    async def _follow(self) -> None:
        """Follow one connection until it fails with ``StoreError``."""
        with store_errors():
            async with (
                self._connect() as client,
                open_feed(client, self._selection.prefixes, self._heartbeat) as feed,
            ):
                await MirrorSession(
                    client,
                    feed,
                    self._selection,
                    self._target,
                    self._plausibility,
                    self._progress,
                    self._restore,
                    self._log,
                ).run()

    async def _restore(self) -> None:
        """Load the snapshot that the last process of this plane left on disk, if there is a valid one."""
        path = self._file
        if path is None:
            return
        try:
            copy = snapshot.read(path, self._selection.match)
            for key, group in groupby(copy.items, key=itemgetter(0)):
                await self._target.load(key, group)
        except FileNotFoundError:
            return
        except (ParseError, OSError) as error:
            self._log.warning("snapshot on disk ignored", path=str(path), reason=printable(error))
            return
        self._progress.last_in_sync = time.monotonic() - copy.age
        self.ready.set()
        self._log.warning("serving from disk", path=str(path), keys=self.keys, age=round(self.age()))

    def _lost(self, trouble: str) -> None:
        """Log why redis cannot be followed, once and not at every attempt."""
        self._progress.in_sync = False
        if trouble != self._progress.trouble:
            self._progress.trouble = trouble
            self._log.warning("redis is away: serving what is known", reason=trouble, keys=self.keys)
