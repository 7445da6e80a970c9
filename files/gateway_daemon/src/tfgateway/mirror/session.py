"""One connection of a mirror, from its first read to its end: one task listens, the other reads.

Two kinds of notifications come over one connection, and their order there is what makes this right:

* ``explain``: a gateway's transaction publishes every field that it wrote (``redis_schema.zone_changes``), while it
  runs;
* ``announce``: redis names the keys that any client changed, after the commands of one turn of its event loop have run.

A key that is announced, and of which changes were explained since the last announcement, is taken as explained: its
fields go to the sink, and it is not read. Any other announced key is read whole. What can go wrong, and why the
sink ends with what redis holds all the same:

* Another client writes the same key in the same turn of redis as a gateway does. Then the announcement stands for both
  writes and the explanation for one. So every explained key is read again later, when that costs no more than a
  hundredth of the time (``_CHECK_SHARE``); until then one foreign write may stay unseen.
* A change is explained while its key is read in pieces. It is held and put on top of what was read: it is newer than
  any older value of its fields, and what came after it is explained or announced itself.
* Others write a key while it is read in pieces. Pieces from before and after their writes do not belong together: the
  hash is then read in one go, which holds redis up for a moment, but ends.
* A change is explained of a key that the sink has not got, that is waiting to be read, or that is being read in one
  go: ignored, since the announcement that follows makes that it is read (again).
* An explanation is too long to be sent, cannot be read, or is not of the data set that is followed: the announcement
  alone counts.
* The connection breaks, or redis drops it because we fall behind: both kinds end together, and everything is
  read again. A FLUSHALL is announced without names, with the same effect.
* Redis announces nothing of two databases that were swapped, and a push may get lost: ``anti_entropy``.

Nothing reaches the sink before its marker was checked (``plausibility``): it comes with every reply that has
values, with every explanation, and is asked for every second besides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from redis.asyncio import Redis
from structlog.typing import FilteringBoundLogger

from tfgateway.aio import together
from tfgateway.mirror.anti_entropy import AntiEntropy
from tfgateway.mirror.feed import Feed
from tfgateway.mirror.plausibility import Plausibility
from tfgateway.mirror.reader import BIG, RedisReader
from tfgateway.mirror.selection import Selection
from tfgateway.mirror.state import PendingKeys, Reading, Value
from tfgateway.mirror.target import Implausible, Torn, TrackedSink
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.marker import Marker, Mismatch, read_marker
from tfgateway.redis_schema.zone_changes import Changes

_MARKER = MARKER.encode("ascii")
_LOOK = 1.0
"""Seconds between two looks at the marker."""
_CHECK_SHARE = 0.01
"""Of the time that may go into reading again what was explained."""
_CHECK_AFTER = 1.0
"""Seconds after which an explained key is read again at the earliest."""


@dataclass(slots=True)
class Progress:
    """How far the copy has come, over all connections."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    in_sync: bool = False
    resyncs: int = 0
    last_in_sync: float = float("-inf")
    last_held: float = float("-inf")
    """When redis answered last, and was not followed."""
    trouble: str = ""
    """Why redis could not be followed last; empty: it could."""


class MirrorSession:
    """The state that belongs to one connection to redis."""

    def __init__(
        self,
        client: Redis,
        feed: Feed,
        selection: Selection,
        target: TrackedSink,
        plausibility: Plausibility,
        progress: Progress,
        restore: Callable[[], Awaitable[None]],
        log: FilteringBoundLogger,
    ) -> None:
        """restore: gives the sink what is on disk, as far as anything is; see ``Mirror``."""
        self._feed = feed
        self._selection = selection
        self._target = target
        self._plausibility = plausibility
        self._progress = progress
        self._restore = restore
        self._log = log
        self._reader = RedisReader(client, selection, self._check_marker, log)
        self._pending = PendingKeys(selection.wants)
        self._wake = asyncio.Event()
        self._checks: dict[bytes, float] = {}
        """Explained keys, and when they are to be read again."""
        self._took: dict[bytes, float] = {}
        """Seconds that reading a big hash took last."""
        self._anti_entropy = AntiEntropy(
            target.known.keys, target.known.holds, self._reader.names, self._refresh, time.monotonic
        )

    async def run(self) -> None:
        """Follow redis until the connection breaks. Errors: ``redis.RedisError``, ``OSError``, ``StoreError``."""
        await together(self._listen(), self._apply())

    async def _listen(self) -> NoReturn:
        """Queue changes at once, however busy ``_apply`` is: redis disconnects readers that fall behind."""
        while True:
            changed = await self._feed.next()
            if isinstance(changed, dict):
                self._explained(changed)
            elif self._plausibility.hold is not None:
                # All of it is read when redis is followed again.
                self._pending.announce(None)
            else:
                self._check_later(self._pending.announce(changed))
                if changed is None:
                    self._progress.in_sync = False
                elif self._progress.in_sync:
                    self._progress.last_in_sync = time.monotonic()
            if self._plausibility.hold is None:
                self._wake.set()
            # Reading what has arrived already does not wait, and would go on for as long as there is more of it.
            await self._target.yield_to_others()

    def _explained(self, changes: Changes) -> None:
        if self._target.fields is None:
            return
        text = (changes.pop(_MARKER, None) or {}).get(b"")
        written = read_marker(text or b"")
        if not self._plausibility.confirm(written if isinstance(written, Marker) else None):
            # Keys that planes write are not part of the reconciler's data set.
            changes = {key: changes[key] for key in self._selection.first if key in changes}
            if self._plausibility.hold is not None:
                return
        self._pending.explain(changes, self._target.known.holds)

    async def _apply(self) -> NoReturn:
        look_at = 0.0
        while True:
            self._wake.clear()
            with suppress(Implausible):
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + _LOOK
                    await self._look()
                if self._plausibility.hold is None:
                    await self._catch_up()
            wait = look_at
            if self._plausibility.hold is None:
                wait = min(look_at, self._anti_entropy.due, *self._checks.values())
            with suppress(TimeoutError):
                async with asyncio.timeout(max(wait - time.monotonic(), 0.0)):
                    await self._wake.wait()

    async def _look(self) -> None:
        """Check the marker alone. Errors: ``Implausible``."""
        found = await self._reader.marker()
        try:
            self._check_marker(found)
        except Implausible:
            if self._progress.ready.is_set():
                raise
            await self._restore()
            if self._progress.ready.is_set():
                raise
            self._log.warning("redis is followed: there is no copy that could be served instead")
            self._plausibility.forget()

    def _check_marker(self, found: Marker | Mismatch) -> None:
        """Check that data with this marker may be used. Errors: ``Implausible``: it may not."""
        before = self._plausibility.hold
        if self._plausibility.observe(found, time.monotonic()):
            if before is not None:
                self._log.warning("redis is followed again", held=round(time.monotonic() - before.since))
            return
        self._progress.in_sync = False
        self._progress.last_held = time.monotonic()
        # What was announced may be lost by now: when redis is followed again, everything is read.
        self._pending = PendingKeys(self._selection.wants)
        hold = self._plausibility.hold
        if hold is not None and (before is None or before.why is not hold.why):
            self._log.error(
                "redis is implausible: serving what is known", reason=hold.why, keys=len(self._target.known)
            )
        raise Implausible

    async def _catch_up(self) -> None:
        """Read all that is due and pass it on to the sink. Errors: ``Implausible``."""
        if self._pending.everything:
            await self._snapshot()
        await self._change()
        await self._refresh(self._pending.take())
        if due := self._due():
            await self._refresh(due)
        if time.monotonic() >= self._anti_entropy.due:
            await self._anti_entropy.step()

    async def _snapshot(self) -> None:
        """Read every selected key and pass differences on to the sink; changes are read in between."""
        self._pending.everything = False
        unseen = set(self._target.known.keys()).difference(self._selection.first)
        await self._refresh(self._selection.first)
        cursor = None
        while cursor != 0:
            cursor, names = await self._reader.names(cursor or 0)
            unseen.difference_update(names)
            await self._refresh(names)
            await self._change()
            await self._refresh(self._pending.take())
        # A key that was deleted and made again during the scan may be missing in it: only a read shows that it is gone.
        await self._refresh(list(unseen))
        await self._look()  # where nothing was to be read, nothing was judged
        if self._pending.everything:
            return  # emptied meanwhile: the next snapshot counts
        progress = self._progress
        progress.resyncs += 1
        progress.in_sync = True
        progress.last_in_sync = time.monotonic()
        progress.trouble = ""
        progress.ready.set()
        self._log.info("in sync with redis", keys=len(self._target.known), resyncs=progress.resyncs)

    async def _refresh(self, keys: Sequence[bytes]) -> None:
        """Read these keys and pass on to the sink what differs."""
        self._pending.begin(keys)
        async for key, found in self._reader.read(keys):
            self._checks.pop(key, None)
            if found is BIG and self._target.fields is not None:
                await self._replace(key)
                continue
            value = await self._collected(key) if found is BIG else found
            self._took.pop(key, None)
            await self._target.update(key, value)
            self._pending.end(key)
            await self._target.yield_to_others()

    async def _replace(self, key: bytes) -> None:
        """Pass a big hash on in pieces."""
        started = time.monotonic()
        with self._pending.reading(key) as reading:
            try:
                await self._target.replace(key, self._unbroken(key, reading))
            except Torn:
                fields = await self._at_one_moment(key, reading)
                if fields:
                    await self._target.replace(key, self._target.cut(fields))
                else:
                    await self._target.update(key, None)
        self._took[key] = time.monotonic() - started
        if reading.missed:
            await self._pass_on(key, reading.missed)

    async def _collected(self, key: bytes) -> Value | None:
        """A big hash as one value, for a sink that takes no pieces."""
        fields: dict[bytes, bytes] = {}
        with self._pending.reading(key) as reading:
            try:
                async for piece in self._unbroken(key, reading):
                    fields.update(piece)
            except Torn:
                fields = await self._at_one_moment(key, reading)
        return fields or None

    async def _unbroken(self, key: bytes, reading: Reading) -> AsyncIterator[Mapping[bytes, bytes]]:
        """All fields in pieces. Errors: ``Torn``: others wrote it, so that the pieces may not belong together."""
        async for fields in self._reader.pieces(key):
            yield fields
            await self._change()
            await self._target.yield_to_others()
        await self._feed.caught_up()
        if reading.touched:
            raise Torn

    async def _at_one_moment(self, key: bytes, reading: Reading) -> dict[bytes, bytes]:
        # It holds redis up for a moment, but ends however often others write; and it has what was missed so far.
        reading.missed.clear()
        reading.touched = False
        return await self._reader.whole(key)

    async def _change(self) -> None:
        """Pass what was explained on to the sink."""
        for key, fields in self._pending.take_changes().items():
            if fields is not None and self._target.known.holds(key):
                await self._pass_on(key, fields)

    async def _pass_on(self, key: bytes, fields: Mapping[bytes, bytes | None]) -> None:
        if not await self._target.change(key, fields):
            self._pending.announce([key])

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
