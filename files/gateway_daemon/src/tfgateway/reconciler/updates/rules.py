"""What an update does (RFC 2136 §3): prerequisites, permissions, and the change as a whole or not at all (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tfgateway.dns.wire import codes, names, update
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.rrsets import TARGET_AT, RRset
from tfgateway.dns.wire.update import Record, Update
from tfgateway.errors import ParseError
from tfgateway.reconciler.updates.holdings import Held, Rights
from tfgateway.redis_schema.resource_records import MAX_DATA, ResourceRecord

_META: Final = range(codes.TSIG - 1, codes.ANY + 1)
"""Types of questions and of messages, not of data (RFC 6895 §3.1)."""
_HEAD: Final = 12
"""Bytes of a record in a message besides its data."""

Records = tuple[ResourceRecord, ...]


class Content(NamedTuple):
    """What is at a name before an update."""

    fixed: tuple[RRset, ...] = ()
    """Made by reservations, operators or the gateway itself: no update changes it."""
    own: Records = ()
    """Made by updates."""


@dataclass(frozen=True, slots=True)
class View:
    """All that an update is decided by."""

    user: str
    """Decimal tid of the one who signed it."""
    held: Callable[[Name], Held | None]
    content: Mapping[Name, Content]
    """Of every name in the update."""
    rights: Rights
    used: Callable[[Mapping[Name, Records]], bool]
    """Whether the user stays within their quota with these names changed."""


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """The response code, and with NOERROR what changes."""

    rcode: int
    changes: Mapping[Name, Records] = field(default_factory=dict)
    """Name -> all records that updates have made there from now on."""


class _Refused(Exception):
    def __init__(self, rcode: int) -> None:
        super().__init__(codes.RCODE_NAMES[rcode])
        self.rcode = rcode


def apply(asked: Update, view: View) -> UpdateOutcome:
    """The outcome of an update."""
    try:
        zone = view.held(asked.zone)
        if zone is None or zone.zone != asked.zone or asked.zone_class != codes.CLASS_IN:
            raise _Refused(codes.NOTAUTH)
        _check_prerequisites(asked, view)
        # RFC 2136 §3.4.1: the whole section is looked through before anything of it is done.
        for record in asked.updates:
            _check(record, asked.zone, view)
        drafts: dict[Name, _Draft] = {}
        for record in asked.updates:
            draft = drafts.get(record.name)
            if draft is None:
                draft = drafts[record.name] = _Draft(view.content[record.name], is_apex=record.name == asked.zone)
            draft.change(record)
        changed = {name: draft.records() for name, draft in drafts.items()}
    except _Refused as refused:
        return UpdateOutcome(refused.rcode)
    except ParseError:
        return UpdateOutcome(codes.FORMERR)
    changes = {name: records for name, records in changed.items() if records != view.content[name].own}
    if changes and not view.used(changes):
        return UpdateOutcome(codes.REFUSED)
    return UpdateOutcome(codes.NOERROR, changes)


def within_quota(all_of_user: Mapping[Name, Records], changes: Mapping[Name, Records], most: int, size: int) -> bool:
    """Whether a user has at most so many records and bytes with changes made; what takes something away always may."""
    before, after = _amount(all_of_user), _amount({**all_of_user, **changes})
    return all(now <= limit or now <= past for now, past, limit in zip(after, before, (most, size), strict=True))


def _amount(records: Mapping[Name, Records]) -> tuple[int, int]:
    count = sum(map(len, records.values()))
    size = sum(len(name) + _HEAD + len(item.data) // 2 for name, found in records.items() for item in found)
    return count, size


def _check_prerequisites(asked: Update, view: View) -> None:
    """RFC 2136 §3.2."""
    wanted: dict[tuple[Name, int], set[bytes]] = {}
    known: dict[Name, dict[int, set[bytes]]] = {}
    for record in asked.prerequisites:
        if record.ttl:
            raise _Refused(codes.FORMERR)
        if not names.is_within(record.name, asked.zone):
            raise _Refused(codes.NOTZONE)
        there = known.get(record.name)
        if there is None:
            there = known[record.name] = _types_at(record.name, view)
        if record.rrclass == codes.CLASS_IN:
            if record.type in _META:
                raise _Refused(codes.FORMERR)
            wanted.setdefault((record.name, record.type), set()).add(_canonical(record))
            continue
        if record.rrclass not in (codes.CLASS_ANY, codes.CLASS_NONE) or record.data:
            raise _Refused(codes.FORMERR)
        exists = bool(there) if record.type == codes.ANY else record.type in there
        if record.rrclass == codes.CLASS_ANY and not exists:
            raise _Refused(codes.NXDOMAIN if record.type == codes.ANY else codes.NXRRSET)
        if record.rrclass == codes.CLASS_NONE and exists:
            raise _Refused(codes.YXDOMAIN if record.type == codes.ANY else codes.YXRRSET)
    for (name, kind), data in wanted.items():
        if known[name].get(kind) != data:
            raise _Refused(codes.NXRRSET)


def _types_at(name: Name, view: View) -> dict[int, set[bytes]]:
    """Type -> data, in canonical form, of a name."""
    there = view.content[name]
    found: dict[int, set[bytes]] = {}
    for rrset in there.fixed:
        for body in rrset.bodies:
            found.setdefault(rrset.type, set()).add(update.canonical(rrset.type, body[_DATA_AT:]))
    for item in there.own:
        found.setdefault(item.type, set()).add(update.canonical(item.type, item.wire))
    return found


_DATA_AT: Final = 10
"""Where the data of a record without its owner begins."""


def _check(record: Record, zone: Name, view: View) -> None:
    """The form of an update (RFC 2136 §3.4.1.3), and whether its sender may make it (§3.3)."""
    name, kind = record.name, record.type
    if not names.is_within(name, zone):
        raise _Refused(codes.NOTZONE)
    adds = record.rrclass == codes.CLASS_IN
    if adds:
        wrong = kind in _META or kind == 0
    elif record.rrclass == codes.CLASS_ANY:
        wrong = bool(record.ttl or record.data) or (kind in _META and kind != codes.ANY)
    else:
        wrong = record.rrclass != codes.CLASS_NONE or bool(record.ttl) or kind in _META or kind == 0
    if wrong:
        raise _Refused(codes.FORMERR)
    if adds or record.rrclass == codes.CLASS_NONE:
        _canonical(record)
    held = view.held(name)
    if held is None or held.zone != zone:
        raise _Refused(codes.NOTZONE)  # another zone begins in between
    if held.user != view.user:
        raise _Refused(codes.REFUSED)
    if adds and not view.rights.allows(held, name, kind):
        raise _Refused(codes.REFUSED)


class _Draft:
    """The records of a name while an update is carried out (RFC 2136 §3.4.2); each is looked at once."""

    def __init__(self, content: Content, *, is_apex: bool) -> None:
        # SOA and NS of a zone are passed over; what else a reservation made is changed by that alone.
        passed = (codes.SOA, codes.NS) if is_apex else ()
        self._fixed = {
            rrset.type: {update.canonical(rrset.type, body[_DATA_AT:]) for body in rrset.bodies}
            for rrset in content.fixed
            if rrset.type not in passed
        }
        self._has_alias = any(rrset.type == codes.CNAME for rrset in content.fixed)
        self._has_other = any(rrset.type != codes.CNAME for rrset in content.fixed)
        self._own = {(item.type, update.canonical(item.type, item.wire)): item for item in content.own}
        self._ttls: dict[int, int] = {}

    def change(self, record: Record) -> None:
        """Carry out one update."""
        if record.rrclass == codes.CLASS_IN:
            self._add(record)
        elif record.rrclass == codes.CLASS_ANY:
            if self._fixed.keys() if record.type == codes.ANY else record.type in self._fixed:
                raise _Refused(codes.REFUSED)
            for key in [key for key in self._own if record.type in (codes.ANY, key[0])]:
                del self._own[key]
        else:
            key = record.type, _canonical(record)
            if key[1] in self._fixed.get(record.type, ()):
                raise _Refused(codes.REFUSED)
            self._own.pop(key, None)

    def records(self) -> Records:
        """What updates have made of the name; one TTL for all of a type, the newest (RFC 2181 §5.2)."""
        sizes: dict[int, int] = {}
        found = []
        for item in self._own.values():
            sizes[item.type] = sizes.get(item.type, 0) + len(item.data) // 2 + _HEAD
            found.append(ResourceRecord(item.type, self._ttls.get(item.type, item.ttl), item.data))
        if any(size > MAX_DATA for size in sizes.values()):
            raise _Refused(codes.REFUSED)
        return tuple(found)

    def _add(self, record: Record) -> None:
        """Add one; what goes with no alias, or is no alias beside others, is passed over."""
        alias = next((key for key in self._own if key[0] == codes.CNAME), None)
        if record.type == codes.CNAME:
            if self._has_alias or self._has_other or (self._own and alias is None):
                return
            self._own.clear()
        elif self._has_alias or alias is not None:
            return
        self._own[record.type, _canonical(record)] = ResourceRecord(record.type, record.ttl, record.data.hex())
        self._ttls[record.type] = record.ttl


def _canonical(record: Record) -> bytes:
    """The data as it is compared. Errors: ``ParseError``, also for none."""
    data = update.canonical(record.type, record.data)
    at = TARGET_AT.get(record.type)
    if at is not None and names.read(record.data, at - _DATA_AT) != len(record.data):
        raise ParseError("data follows a name")
    return data
