"""Carries out DNS updates: decides them by what redis and the journal say, makes them durable, writes them to redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from tfgateway.dns.wire import codes, names, update
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.rrsets import RRset, ZonePolicy, render, render_name_servers, render_soa
from tfgateway.dns.wire.update import Update
from tfgateway.errors import ParseError, StoreError
from tfgateway.ids import NodeId
from tfgateway.reconciler.planning.inputs.names import relative, suffixes
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction
from tfgateway.reconciler.store import Store
from tfgateway.reconciler.updates import holdings, rules
from tfgateway.reconciler.updates.holdings import Held, Rights, text
from tfgateway.reconciler.updates.journal import Entry, Journal
from tfgateway.reconciler.updates.rules import Content, Records, View
from tfgateway.redis_schema import resource_records
from tfgateway.redis_schema.keys import APEX_FIELD, MANAGED_DOMAINS, ZONE_OWNERS, zone_key
from tfgateway.redis_schema.records import decode_records
from tfgateway.settings import UpdateSettings
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")
_T = TypeVar("_T")

_MEMORY: Final = 900.0
"""Seconds for which a signature is remembered: longer than it is accepted (RFC 8945 §10), whichever clock is ahead."""
_RATE: Final = 5.0
"""Updates a second of one user ..."""
_BURST: Final = 200.0
"""... and at once."""
_AT_ONCE: Final = 200
_ATTEMPTS: Final = 5
_SHOWN: Final = 20
_POLICY: Final = ZonePolicy(0, (names.ROOT,))
"""Only whether a zone's own SOA and NS are there matters here, not what they say."""

Write = Callable[[Sequence[Transaction]], Awaitable[list[str]]]
"""Applies transactions as ``Store.apply`` does. Errors: ``StoreError``."""
Field = tuple[str, str]
"""Key of a zone and field in it."""


@dataclass(slots=True)
class _Allowance:
    """What is left of a user's rate."""

    left: float
    seen: float


class UpdateService:
    """All updates of a gateway, one after the other."""

    def __init__(
        self,
        node_id: NodeId,
        settings: UpdateSettings,
        store: Store,
        journal: Journal,
        write: Write,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """journal: loaded. write: as the holder of the lease. clock: Unix time."""
        self._node_id = node_id
        self._settings = settings
        self._rights = Rights(settings)
        self._store = store
        self._journal = journal
        self._write = write
        self._clock = clock
        self._lock = asyncio.Lock()
        self._whole = False
        """Whether redis was seen to hold all that the explorer had granted."""
        self._answered: dict[str, tuple[float, int]] = {}
        """MAC, in hex, of an update that was not carried out -> when, and the response code."""
        self._allowances: dict[str, _Allowance] = {}
        self._next_forget = 0.0
        self._running: set[asyncio.Task[int]] = set()

    async def update(self, user: str, mac: bytes, message: bytes) -> int:
        """The response code of an update that ``user`` (decimal tid) has signed; with NOERROR it is durable."""
        try:
            asked = update.read(message)
        except update.TooManyRecords:
            return codes.REFUSED
        except ParseError:
            return codes.FORMERR
        # The DNS plane may go away meanwhile: what is begun comes to its end, with the lock held until then.
        task = asyncio.create_task(self._decide(user, asked, mac.hex()))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _decide(self, user: str, asked: Update, mark: str) -> int:
        async with self._lock:
            now = self._clock()
            self._forget(now)
            if mark in self._journal.macs:
                return codes.NOERROR  # sent again, by the client or by somebody else: it is carried out once
            if mark in self._answered:
                return self._answered[mark][1]
            if not self._may_go_on(user, now):
                return codes.SERVFAIL
            try:
                rcode = await self._carry_out(user, asked, mark, now)
            except (StoreError, OSError) as error:
                _log.error("update not carried out", user=user, reason=str(error))
                return codes.SERVFAIL
            if rcode not in (codes.NOERROR, codes.SERVFAIL):
                self._answered[mark] = now, rcode
            return rcode

    async def may_transfer(self, user: str, zone: Name) -> bool:
        """Whether a user may copy a zone: it is delegated by a reservation of theirs. Errors: ``StoreError``."""
        found = (await self._held([zone]))[zone]
        return found is not None and found.delegated and found.zone == zone and found.user == user

    def concern(self, domains: Collection[str]) -> bool:
        """Whether any record depends on reservations of these domains."""
        return next(self._concerned(domains), None) is not None

    async def restore(self, found: Collection[Field], domains: Collection[str] | None, *, whole: bool) -> None:
        """Have redis hold what the journal says.

        found: fields of redis that have records by updates. domains: of reservations that changed; None: all may
        have. whole: redis holds all that the explorer has granted, so that what has no reservation there has none any
        more, and its records are dropped. Errors: ``StoreError``.
        """
        async with self._lock:
            if domains is None:
                self._whole = whole
            try:
                if self._journal.is_new:
                    if whole and domains is None:
                        await self._adopt(found)
                    return
                for some in _batches(self._concerned(domains)):
                    await self._restore(some, whole=whole)
                if domains is None:
                    known = {(zone_key(held_zone), field) for held_zone, field in await self._places()}
                    await self._remove([place for place in found if place not in known])
            except OSError as error:
                _log.error("journal of updates not written", reason=error.strerror)

    async def _carry_out(self, user: str, asked: Update, mark: str, now: float) -> int:
        """Errors: ``StoreError``, ``OSError``."""
        here = [asked.zone, *(record.name for record in (*asked.prerequisites, *asked.updates))]
        held = await self._held(here)
        if self._journal.is_new or (held[asked.zone] is None and not self._whole):
            return codes.SERVFAIL  # what redis does not have may come back
        content = await self._content(asked, held)
        view = View(user, held.__getitem__, content, self._rights, lambda changes: self._in_quota(user, changes))
        outcome = rules.apply(asked, view)
        if outcome.rcode != codes.NOERROR or not asked.updates:
            return outcome.rcode
        entries: dict[Name, Entry] = {}
        for name, records in outcome.changes.items():
            place = held[name]
            assert place is not None  # noqa: S101 - or it would have been refused
            entries[name] = Entry(user, text(place.domain), records)
        await asyncio.to_thread(self._journal.append, entries, now=now, mac=mark)
        if entries:
            _log.info("update carried out", user=user, names=[text(name) for name in entries][:_SHOWN])
            try:
                await self._put(
                    zone_key(text(asked.zone)), {_field(name, asked.zone): one.records for name, one in entries.items()}
                )
            except StoreError as error:  # it is durable, and the next pass writes it
                _log.warning("update not in redis yet", reason=str(error))
        return outcome.rcode

    def _in_quota(self, user: str, changes: Mapping[Name, Records]) -> bool:
        settings = self._settings
        mine = self._journal.of(user)
        return rules.within_quota(mine, changes, settings.max_records_per_user, settings.max_bytes_per_user)

    def _may_go_on(self, user: str, now: float) -> bool:
        allowance = self._allowances.setdefault(user, _Allowance(_BURST, now))
        allowance.left = min(_BURST, allowance.left + max(0.0, now - allowance.seen) * _RATE) - 1
        allowance.seen = now
        if allowance.left < 0:
            allowance.left = 0
            return False
        return True

    def _forget(self, now: float) -> None:
        if now < self._next_forget <= now + _MEMORY:
            return
        self._next_forget = now + _MEMORY / 10
        self._journal.forget_macs(now - _MEMORY)
        for mark in [mark for mark, (when, _) in self._answered.items() if when < now - _MEMORY]:
            del self._answered[mark]
        for user in [user for user, one in self._allowances.items() if one.seen < now - _MEMORY]:
            del self._allowances[user]

    async def _held(self, asked: Iterable[Name]) -> dict[Name, Held | None]:
        """Whose each name is. Errors: ``StoreError``."""
        wanted = dict.fromkeys(asked)
        above = dict.fromkeys(suffix for name in wanted for suffix in holdings.candidates(name))
        zones: dict[str, bytes] = {}
        claims: dict[str, bytes] = {}
        for some in _batches(above):
            owners, claimed = await asyncio.gather(
                self._store.fields(ZONE_OWNERS, some), self._store.fields(MANAGED_DOMAINS, some)
            )
            zones |= owners
            claims |= claimed
        return {name: holdings.held(name, self._node_id, zones, claims) for name in wanted}

    async def _content(self, asked: Update, held: Mapping[Name, Held | None]) -> dict[Name, Content]:
        """What is at each name of an update. Errors: ``StoreError``."""
        there = {record.name for record in (*asked.prerequisites, *asked.updates)}
        inside = [name for name in there if names.is_within(name, asked.zone)]
        key = zone_key(text(asked.zone))
        raws = await self._store.fields(key, [_field(name, asked.zone) for name in inside])
        content = dict.fromkeys(there, Content())
        for name in inside:
            place = held[name]
            if place is None or place.zone != asked.zone:
                continue
            raw = raws.get(_field(name, asked.zone), b"{}")
            entry = self._journal.entries.get(name)
            own = entry.records if entry is not None and _still(entry, place) else ()
            content[name] = Content(tuple(_fixed(raw, name, asked.zone)), own)
        return content

    def _concerned(self, domains: Collection[str] | None) -> Iterator[Name]:
        """Names whose records a change of these domains may concern."""
        if domains is None:
            yield from list(self._journal.entries)
            return
        wanted = {domain.lower() for domain in domains}
        for name, entry in list(self._journal.entries.items()):
            if entry.domain in wanted or not wanted.isdisjoint(suffixes(entry.domain)):
                yield name

    async def _restore(self, some: Sequence[Name], *, whole: bool) -> None:
        """Write what redis lacks of these names, drop what nobody holds any more.

        Errors: ``StoreError``, ``OSError``.
        """
        entries = self._journal.entries
        held = await self._held(some)
        lost, gone = set(), {}
        for name in some:
            entry, place = entries.get(name), held[name]
            if entry is not None and not _still(entry, place):
                lost.add(name)
                # Without a reservation nothing is certain before a full pass; another user's is.
                if whole or (place is not None and place.user not in ("", entry.user)):
                    gone[name] = Entry(entry.user, entry.domain)
        if gone:
            await asyncio.to_thread(self._journal.append, gone, now=self._clock())
            _log.info("records dropped with their reservation", names=[text(name) for name in gone][:_SHOWN])
        by_zone: dict[Name, dict[Name, Records]] = {}
        for name in some:
            place = held[name]
            if place is not None and (name not in lost or name in gone):
                records = entries[name].records if name in entries else ()
                by_zone.setdefault(place.zone, {})[name] = records
        for zone, wanted in by_zone.items():
            await self._put(zone_key(text(zone)), {_field(name, zone): records for name, records in wanted.items()})

    async def _put(self, key: str, wanted: Mapping[str, Records]) -> None:
        """Have fields of a zone hold exactly these records by updates. Errors: ``StoreError``."""
        fields = list(wanted)
        for _ in range(_ATTEMPTS):
            raws = await self._store.fields(key, fields)
            expected, writes = [], []
            for field in fields:
                raw = raws.get(field)
                if (new := resource_records.edit(raw, wanted[field])) != raw and not _same(raw, wanted[field]):
                    expected.append(Row(key, field, raw))
                    writes.append(Row(key, field, new))
            if not writes or await self._write([Transaction(tuple(expected), tuple(writes))]) == [""]:
                return
        _log.warning("records of updates not written: others change the same names", zone=key)

    async def _places(self) -> set[tuple[str, str]]:
        """Zone and field of everything in the journal that is somebody's. Errors: ``StoreError``."""
        found = set()
        for some in _batches(self._journal.entries):
            for name, place in (await self._held(some)).items():
                if place is not None:
                    found.add((text(place.zone), _field(name, place.zone)))
        return found

    async def _remove(self, places: Sequence[Field]) -> None:
        """Take records out of redis that the journal does not know. Errors: ``StoreError``."""
        for key in dict.fromkeys(key for key, _ in places):
            for some in _batches(field for of, field in places if of == key):
                await self._put(key, dict.fromkeys(some, ()))

    async def _adopt(self, places: Collection[Field]) -> None:
        """Begin a journal with what redis has, as after a restore. Errors: ``StoreError``, ``OSError``."""
        adopted: dict[Name, Entry] = {}
        for some in _batches(places):
            at = {name: place for place in some if (name := _name(*place)) is not None}
            held = await self._held(at)
            for name, (key, field) in at.items():
                raw = (await self._store.fields(key, [field])).get(field, b"")
                records, holder = resource_records.decode(raw)[0], held[name]
                if records and holder is not None and zone_key(text(holder.zone)) == key and holder.user:
                    adopted[name] = Entry(holder.user, text(holder.domain), records)
        await asyncio.to_thread(self._journal.append, adopted, now=self._clock())
        if adopted:
            _log.info("journal of updates begun with what redis has", names=len(adopted))


def _still(entry: Entry, held: Held | None) -> bool:
    """Whether a name is still its user's, be it by another reservation."""
    return held is not None and held.user == entry.user


def _same(raw: bytes | None, records: Records) -> bool:
    """Whether a field has exactly these records, however it writes them."""
    return resource_records.decode(raw or b"{}") == (records, ())


def _fixed(raw: bytes, name: Name, zone: Name) -> Iterator[RRset]:
    """The records at a name that no update made; of the zone itself, those too that every zone has."""
    records = decode_records(raw)[0]
    yield from render(records, 0)[0]
    if name == zone:
        yield render_soa(records.soa, zone, _POLICY)[0]
        if not records.ns:
            yield render_name_servers(_POLICY)


def _field(name: Name, zone: Name) -> str:
    """The field of a name in its zone's hash."""
    return relative(text(name), text(zone)) or APEX_FIELD


def _name(key: str, field: str) -> Name | None:
    """The name of a field of a zone; None: no query asks for it."""
    try:
        zone = names.from_key(key.encode("utf-8", "surrogateescape"))
        return zone if field == APEX_FIELD else names.from_field(field.encode("utf-8", "surrogateescape"), zone)
    except ParseError:
        return None


def _batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    source = iter(items)
    while batch := list(islice(source, _AT_ONCE)):
        yield batch
