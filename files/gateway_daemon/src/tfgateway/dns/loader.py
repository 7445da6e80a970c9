"""From the mirror's news to the zones in memory, a slice of work at a time, so that answers never wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NoReturn

from structlog.typing import FilteringBoundLogger

from tfgateway.dns import names, nodes
from tfgateway.dns.rrsets import Policy
from tfgateway.dns.serial import SerialBook
from tfgateway.dns.table import DnsTable
from tfgateway.dns.zone import Node, Zone
from tfgateway.errors import ParseError
from tfgateway.layout.keys import APEX_FIELD
from tfgateway.mirror import Selection

_APEX = APEX_FIELD.encode("ascii")
_SLICE = 0.002
"""Seconds of work after which the event loop gets to waiting queries."""
_AT_ONCE = 5_000
"""Changed names that are put into a zone between two queries; with more the zone is made anew beside the old one."""
_CHUNK = 500
_MAX_LINES = 20
"""Log lines about one zone at a time."""

Change = tuple[bytes, Node | None]


class Loader:
    """Keeps a table in step with what the mirror tells its sink."""

    def __init__(
        self,
        table: DnsTable,
        policy: Policy,
        serials: SerialBook,
        log: FilteringBoundLogger,
        *,
        prefix: str = "",
        suffix: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """prefix, suffix: what redis keys have around the zone's name (dns.md §1). clock: Unix time."""
        self._table = table
        self._policy = policy
        self._serials = serials
        self._log = log
        self._prefix = prefix.encode()
        self._suffix = suffix.encode()
        self._clock = clock
        self._pending: dict[bytes, dict[bytes, bytes] | None] = {}
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._unreachable: dict[bytes, set[bytes]] = {}
        """Zone -> fields that no query asks for: said once each."""
        self._slice_end = 0.0
        self.damaged = 0
        """Elements, fields and keys that could not be used, so far."""

    @property
    def selection(self) -> Selection:
        """The keys that are zones: any hash whose name ends with a dot (dns.md §11.4)."""
        return Selection(_literal(self._prefix) + b"*." + _literal(self._suffix), kind="hash")

    def sink(self, key: bytes, value: dict[bytes, bytes] | bytes | None) -> None:
        """Take note of a zone's new fields (None: gone); they are served soon after. The mirror's sink."""
        assert not isinstance(value, bytes)  # noqa: S101 - hashes were selected
        self._pending[key] = value
        self._idle.clear()
        self._news.set()

    async def settled(self) -> None:
        """Wait until all that the sink was told is served."""
        await self._idle.wait()

    def forget_old_serials(self) -> None:
        """Keep no serials of zones that went away while nobody looked. Call when the first snapshot is loaded."""
        self._serials.forget_others({self._prefix + names.to_text(zone.name) + self._suffix for zone in self._table})

    async def run(self) -> NoReturn:
        """Load what the sink is told, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._slice_end = time.monotonic() + _SLICE
            while self._pending:
                key = next(iter(self._pending))
                fields = self._pending.pop(key)
                try:
                    await self._load(key, fields)
                except ParseError as error:
                    self._report(key, [(b"", str(error))])
                except Exception as error:  # one zone must not keep the others from being served
                    self._log.error("zone not loaded", zone=key, reason=repr(error), exc_info=True)
            self._idle.set()

    async def _load(self, key: bytes, fields: dict[bytes, bytes] | None) -> None:
        name = names.from_key(key[len(self._prefix) : len(key) - len(self._suffix)])
        if fields is None:
            self._table.remove(name)
            self._serials.forget(key)
            self._unreachable.pop(name, None)
            self._log.info("zone removed", zone=key)
            return
        old = self._table.get(name)
        problems: list[tuple[bytes, str]] = []
        changes = await self._changes(name, old, fields, problems)
        if problems:
            self._report(key, problems)
        if old is not None and len(changes) <= _AT_ONCE:
            zone = old
            zone.apply(changes)
            zone.stamp(self._serials.issue(key, zone.digest, int(self._clock())))
            self._table.announce(name, [owner for owner, _ in changes])
        else:
            zone = await self._build(name, old, changes)
            zone.stamp(self._serials.issue(key, zone.digest, int(self._clock())))
            self._table.put(zone)
        self._log.debug("zone loaded", zone=key, names=len(zone.nodes), changed=len(changes), serial=zone.serial)

    async def _changes(
        self, name: bytes, old: Zone | None, fields: dict[bytes, bytes], problems: list[tuple[bytes, str]]
    ) -> list[Change]:
        """What distinguishes ``fields`` from the zone as it is served."""
        known = {} if old is None else old.nodes
        changes: list[Change] = []
        reached = {name}
        unreachable = set()
        for field, raw in fields.items():
            await self._breathe()
            if field == _APEX:
                continue
            try:
                owner = names.from_field(field, name)
            except ParseError as error:
                unreachable.add(field)
                if field not in self._unreachable.get(name, ()):
                    problems.append((field, str(error)))
                continue
            reached.add(owner)
            before = known.get(owner)
            if before is None or before.fingerprint != hash(raw):
                node, skipped = nodes.read(raw, self._policy)
                changes.append((owner, node))
                problems += [(field, line) for line in skipped]
        self._unreachable[name] = unreachable
        for owner in list(known):
            await self._breathe()
            if owner not in reached:
                changes.append((owner, None))
        raw_apex = fields.get(_APEX)
        if old is None or old.nodes[name].fingerprint != hash(raw_apex):
            apex, skipped = nodes.read_apex(raw_apex, name, self._policy)
            changes.append((name, apex))
            problems += [(_APEX, line) for line in skipped]
        return changes

    async def _build(self, name: bytes, old: Zone | None, changes: list[Change]) -> Zone:
        """A new zone of the old one's names and the changes, while the old one is served."""
        apex, _ = nodes.read_apex(None, name, self._policy)
        zone = Zone(name, apex)
        for source in (() if old is None else old.nodes.items(), changes):
            for chunk in _chunks(source):
                zone.apply(chunk)
                await self._breathe()
        return zone

    async def _breathe(self) -> None:
        if time.monotonic() > self._slice_end:
            await asyncio.sleep(0)
            self._slice_end = time.monotonic() + _SLICE

    def _report(self, key: bytes, problems: list[tuple[bytes, str]]) -> None:
        self.damaged += len(problems)
        for field, reason in problems[:_MAX_LINES]:
            self._log.warning("damaged element skipped", key=key, field=field, reason=reason)
        if len(problems) > _MAX_LINES:
            self._log.warning("more damaged elements skipped", key=key, count=len(problems) - _MAX_LINES)


def _literal(text: bytes) -> bytes:
    """A redis glob that matches ``text`` only."""
    return b"".join(b"\\%c" % byte if byte in b"*?[]\\^-" else b"%c" % byte for byte in text)


def _chunks(changes: Iterable[Change]) -> Iterator[list[Change]]:
    source = iter(changes)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk
