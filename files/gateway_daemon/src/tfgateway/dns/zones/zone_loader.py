"""Loads zones from the mirror into memory, in slices of work, so that answers never wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from tfgateway.dns.wire import names
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.rrsets import Packed, ZonePolicy
from tfgateway.dns.zones import field_decoder
from tfgateway.dns.zones.serial import SerialBook, is_newer
from tfgateway.dns.zones.zone import Zone
from tfgateway.dns.zones.zones import Zones
from tfgateway.errors import ParseError, SchemaError
from tfgateway.mirror import Selection
from tfgateway.redis_schema.keys import APEX_FIELD, SERIALS
from tfgateway.redis_schema.serials import decode_issued

_APEX = APEX_FIELD.encode("ascii")
_SERIALS = SERIALS.encode("ascii")
_SLICE = 0.002
"""Seconds of work after which the event loop gets to waiting queries."""
_AT_ONCE = 5_000
"""Changed names that are put into a zone between two queries; with more the zone is made anew beside the old one."""
_CHUNK = 500
_MAX_LINES = 20
"""Log lines about one zone at a time."""
_MOST_SHARED = 50_000
_MOST_SAID = 100_000

_T = TypeVar("_T")

Problem = tuple[bytes, str]
"""A field, and what of it cannot be used."""
Change = tuple[Name, Packed | None]
"""A name and its records; None: it is gone."""


class ZoneLoader:
    """Keeps the zones in step with the mirror, whose ``FieldSink`` it is."""

    def __init__(
        self,
        zones: Zones,
        policy: ZonePolicy,
        serials: SerialBook,
        log: FilteringBoundLogger,
        *,
        prefix: str = "",
        suffix: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """prefix, suffix: what redis keys have around the zone's name. clock: Unix time."""
        self._zones = zones
        self._policy = policy
        self._serials = serials
        self._log = log
        self._prefix = prefix.encode()
        self._suffix = suffix.encode()
        self._clock = clock
        self._said: dict[Name, set[int]] = {}
        """Zone -> hashes of the problems that were logged."""
        self._shared: dict[Packed, Packed] = {}
        """Records that many names have in common, kept once."""
        self._slice_end = 0.0
        self.damaged = 0
        """Elements, fields and keys that could not be used, so far."""

    @property
    def selection(self) -> Selection:
        """The keys that are zones: any hash whose name ends with a dot.

        Their serials come first: a zone that did not change must not get a new one.
        """
        return Selection(_literal(self._prefix) + b"*." + _literal(self._suffix), kind="hash", first=(_SERIALS,))

    async def replace(self, key: bytes, pieces: AsyncIterator[Mapping[bytes, bytes]]) -> bool:
        """Serve these fields, which are all that the zone has. What ``pieces`` raises leaves the zone as it was.

        False: it was served as it is already.
        """
        if key == _SERIALS:
            changed = False
            async for saved in pieces:
                changed |= await self._observe(saved)
            return changed
        name = self._name(key)
        if name is None:
            return False
        old = self._zones.get(name)
        problems: list[Problem] = []
        if old is None:
            zone = Zone(name, field_decoder.read_apex(None, name, self._policy)[0])
            count = 0
            async for fields in pieces:
                for chunk in _chunks(fields.items()):
                    changes = list(self._read(name, chunk, problems))
                    zone.apply(changes)
                    count += len(changes)
                    await self._breathe()
            zone.stamp(self._serials.issue(key, zone.digest, int(self._clock())))
            self._zones.put(zone)
        else:
            count = await self._compare(key, old, pieces, problems)
        self._report(key, name, problems, all_there_are=True)
        self._log.debug("zone loaded", zone=key, changed=count)
        return old is None or count > 0

    async def change(self, key: bytes, fields: Mapping[bytes, bytes | None]) -> None:
        """Serve these fields instead of what they were (None: gone); all others stay."""
        if key == _SERIALS:
            await self._observe(fields)
            return
        name = self._name(key)
        zone = None if name is None else self._zones.get(name)
        if name is None or zone is None:
            return
        problems: list[Problem] = []
        changes = [change for change in self._read(name, fields.items(), problems) if _matters(zone, change)]
        await self._put(key, zone, changes)
        self._report(key, name, problems, all_there_are=False)

    async def remove(self, key: bytes) -> None:
        """Serve the zone no more."""
        if key == _SERIALS:
            self._serials.save_all()
            return
        name = self._name(key, again=True)
        if name is not None:
            self._zones.remove(name)
            self._serials.forget(key)
            self._said.pop(name, None)
            self._log.info("zone removed", zone=key)

    def forget_old_serials(self) -> None:
        """Drop serials of zones that were removed while this process was down; for the end of the first snapshot."""
        self._serials.forget_others({self._prefix + names.to_text(zone.name) + self._suffix for zone in self._zones})

    async def _observe(self, saved: Mapping[bytes, bytes | None]) -> bool:
        """Go on from what was saved, and serve the serial that another worker has given to the data that we have.

        False: nothing of it was new.
        """
        changed = False
        for chunk in _chunks(saved.items()):
            for key, raw in chunk:
                if raw is None:
                    continue
                try:
                    issued = decode_issued(raw)
                except SchemaError as error:
                    self._log.warning("damaged serial skipped", zone=key, reason=str(error))
                    continue
                changed |= self._serials.observe({key: issued})
                name = self._name(key, again=True)
                zone = None if name is None else self._zones.get(name)
                if zone is not None and zone.digest == issued.digest and is_newer(issued.serial, zone.serial):
                    zone.stamp(issued.serial)
                    self._zones.announce(zone.name, [zone.name])
            await self._breathe()
        return changed

    def _name(self, key: bytes, *, again: bool = False) -> Name | None:
        """The zone's name; None: no query can ask for it, which is said but for ``again``."""
        try:
            return names.from_key(key[len(self._prefix) : len(key) - len(self._suffix)])
        except ParseError as error:
            if not again:
                self._log_damaged(key, [(b"", str(error))])
            return None

    def _read(
        self, zone: Name, fields: Iterable[tuple[bytes, bytes | None]], problems: list[Problem]
    ) -> Iterator[Change]:
        """What fields are on the wire; those that no query asks for are left out."""
        policy, share = self._policy, self._shared
        if len(share) > _MOST_SHARED:
            share.clear()
        for field, raw in fields:
            if field == _APEX:
                packed, skipped = field_decoder.read_apex(raw, zone, policy)
                yield zone, packed
            else:
                try:
                    owner = names.from_field(field, zone)
                except ParseError as error:
                    if raw is not None:
                        problems.append((field, str(error)))
                    continue
                if raw is None:
                    yield owner, None
                    continue
                packed, skipped = field_decoder.read(raw, policy)
                yield owner, share.setdefault(packed, packed)
            if skipped:
                problems += [(field, line) for line in skipped]

    async def _compare(
        self, key: bytes, zone: Zone, pieces: AsyncIterator[Mapping[bytes, bytes]], problems: list[Problem]
    ) -> int:
        """Put what differs into the zone, take out what is in none of the pieces; how many names that were."""
        changes: list[Change] = []
        reached = {zone.name}
        apex: Packed | None = None
        async for fields in pieces:
            for chunk in _chunks(fields.items()):
                for owner, packed in self._read(zone.name, chunk, problems):
                    if owner == zone.name:
                        apex = packed
                        continue
                    reached.add(owner)
                    if packed is not None and zone.differs(owner, packed):
                        changes.append((owner, packed))
                await self._breathe()
        apex = apex or field_decoder.read_apex(None, zone.name, self._policy)[0]
        if zone.differs(zone.name, apex):
            changes.append((zone.name, apex))
        if len(reached) < len(zone.nodes) + sum(1 for owner, _ in changes if owner not in zone.nodes):
            for part in _chunks(zone.copy()):
                changes += [(owner, None) for owner, _ in part if owner not in reached]
                await self._breathe()
        await self._put(key, zone, changes)
        return len(changes)

    async def _put(self, key: bytes, zone: Zone, changes: list[Change]) -> None:
        """Apply changes to the zone itself or, if they are many, to a new one while the old one is served."""
        if not changes:
            return
        if len(changes) <= _AT_ONCE:
            zone.apply(changes)
            zone.stamp(self._serials.issue(key, zone.digest, int(self._clock())))
            self._zones.announce(zone.name, [owner for owner, _ in changes])
            return
        new = Zone(zone.name, field_decoder.read_apex(None, zone.name, self._policy)[0])
        for source in (zone.copy(), changes):
            for chunk in _chunks(source):
                new.apply(chunk)
                await self._breathe()
        new.stamp(self._serials.issue(key, new.digest, int(self._clock())))
        self._zones.put(new)

    def _report(self, key: bytes, name: Name, problems: list[Problem], *, all_there_are: bool) -> None:
        """Log what could not be used, once. all_there_are: the zone has no other problems."""
        known = self._said.get(name, set())
        if problems or known:
            marks = {hash(problem) for problem in problems}
            self._said[name] = marks if all_there_are or len(known) > _MOST_SAID else known | marks
            if new := [problem for problem in problems if hash(problem) not in known]:
                self._log_damaged(key, new)

    async def _breathe(self) -> None:
        if time.monotonic() > self._slice_end:
            await asyncio.sleep(0)
            self._slice_end = time.monotonic() + _SLICE

    def _log_damaged(self, key: bytes, problems: list[Problem]) -> None:
        self.damaged += len(problems)
        for field, reason in problems[:_MAX_LINES]:
            self._log.warning("damaged element skipped", key=key, field=field, reason=reason)
        if len(problems) > _MAX_LINES:
            self._log.warning("more damaged elements skipped", key=key, count=len(problems) - _MAX_LINES)


def _matters(zone: Zone, change: Change) -> bool:
    owner, packed = change
    return owner in zone.nodes if packed is None else zone.differs(owner, packed)


def _literal(text: bytes) -> bytes:
    """A redis glob that matches ``text`` only."""
    return b"".join(b"\\%c" % byte if byte in b"*?[]\\^-" else b"%c" % byte for byte in text)


def _chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    source = iter(items)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk
