"""Desired and recorded state (pure): what the explorer said so far, and what was recorded about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import msgspec

from tfgateway.errors import LayoutError
from tfgateway.explorer.models import (
    Approval,
    DomainDelegate,
    Gateway4To6,
    NextAction,
    Proxy,
    Result,
    ResultState,
    ReverseProxy,
    SigningRequest,
    Subdomain,
    Undecodable,
    Workload,
    gwid,
)
from tfgateway.explorer.wire import RawJson
from tfgateway.layout.keys import OUTBOX, RESERVATIONS
from tfgateway.layout.peers import decode_key
from tfgateway.layout.records import canonical_address
from tfgateway.layout.reservations import Recorded, decode_reservation
from tfgateway.reconciler import answers
from tfgateway.reconciler.rows import seal
from tfgateway.telemetry.text import printable

WANTED = frozenset({NextAction.CREATE, NextAction.DEPLOY})
"""What the explorer says of a reservation that is to be served."""
_NO_SIGNERS, _NO_APPROVAL, _NO_RESULT, _NULL = SigningRequest(), Approval(), Result(), RawJson(b"null")


@dataclass(frozen=True, slots=True)
class Reservation:
    """One reservation, the same whether it comes from the explorer or from the record."""

    id: str
    """gwid."""
    user: str
    """Decimal tid."""
    type: str
    data: Mapping[str, Any]
    """The members of redis-layout §6; from an old record they may be anything."""
    version: int = 2
    """Of the workload: it says how a secret is encrypted."""

    @property
    def domain(self) -> str:
        """Lower case (P-20); empty when there is none."""
        return _lower(self.stored_domain)

    @property
    def stored_domain(self) -> str:
        """As it stands in the data: an old daemon may have written rows under exactly this text."""
        return self._text("domain")

    @property
    def public_key(self) -> bytes:
        """Of a WireGuard peer; empty when there is none that could be used."""
        try:
            return decode_key(self._text("public_key"))
        except LayoutError:
            return b""

    def _text(self, name: str) -> str:
        value = self.data.get(name)
        return value if isinstance(value, str) else ""


def of_workload(workload: Workload) -> Reservation:
    """The explorer's form, the domain in lower case; types that are not served have no data."""
    data: dict[str, Any] = {}
    if isinstance(workload, DomainDelegate):
        data = {"domain": _lower(workload.domain)}
    elif isinstance(workload, Subdomain):
        destination = [*map(_canonical, workload.ips)]
        data = {"domain": _lower(workload.domain), "destination": destination}
    elif isinstance(workload, Proxy):
        data = {
            "domain": _lower(workload.domain),
            "addr": workload.addr,
            "port": workload.port,
            "port_tls": workload.port_tls,
        }
    elif isinstance(workload, ReverseProxy):
        data = {"domain": _lower(workload.domain), "secret": workload.secret}
    elif isinstance(workload, Gateway4To6):
        data = {"public_key": workload.public_key}
    return Reservation(gwid(workload), _decimal(workload.customer_tid), workload.type_name, data, workload.version)


@lru_cache(maxsize=4096)
def _decimal(number: int) -> str:
    """The same object for all reservations of a user: they are many."""
    return str(number)


def _lower(text: str) -> str:
    """``text`` itself when it is in lower case: a name is kept in many places, and should be in memory once."""
    lower = text.lower()
    return text if lower == text else lower


def _canonical(text: str) -> str:
    return canonical_address(text) or text


def of_record(record: Recorded) -> Reservation:
    """The recorded form."""
    return Reservation(record.id, record.user_id, record.type, record.data or {}, record.version)


def same_content(one: Reservation, other: Reservation) -> bool:
    """Whether both ask for the same; old records spell domains and addresses in their own way."""
    return (one.user, one.type, _normal(one)) == (other.user, other.type, _normal(other))


def _normal(reservation: Reservation) -> dict[str, Any]:
    normal = {**reservation.data, "domain": reservation.domain}
    destination = normal.get("destination")
    if isinstance(destination, list):
        normal["destination"] = [canonical_address(text) or text for text in map(str, destination)]
    return normal


def order(identifier: str) -> tuple[int, int, str]:
    """Sort key of a gwid: by the explorer's id (P-8)."""
    number, _, own = identifier.partition("-")
    return (int(number) if number.isdecimal() else 0, int(own) if own.isdecimal() else 0, identifier)


@dataclass(frozen=True, slots=True)
class Records:
    """``tfgateway_reservations``, decoded."""

    entries: Mapping[str, Recorded] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)
    """Field -> why it cannot be read (P-17): left where it is until the explorer says what it was."""
    references: Mapping[str, str] = field(default_factory=dict)
    """gwid -> the older gwid that a migrated one is recorded under (P-24); ``entries`` has it under the new one."""
    settled: Mapping[str, Reservation] = field(default_factory=dict)
    """Recorded exactly as the explorer describes them, and answered for: nothing else of the record is kept."""

    def __len__(self) -> int:
        return len(self.entries) + len(self.settled)

    def __contains__(self, identifier: str) -> bool:
        return identifier in self.settled or identifier in self.entries

    def names(self) -> list[str]:
        """All gwids whose record can be read."""
        return [*self.entries, *self.settled]


class Reader:
    """Takes in the records as they come out of redis, so that not all of their bytes are ever in memory.

    desired: with it, records that say the same as the explorer become ``settled``.
    """

    def __init__(self, desired: Desired | None = None) -> None:
        self._desired = desired
        self._waiting: set[str] = set()
        self._entries: dict[str, Recorded] = {}
        self._damaged: dict[str, str] = {}
        self._settled: dict[str, Reservation] = {}

    def take(self, key: str, name: str, value: bytes) -> bytes:
        """One field; what of its value is to be kept. The outbox comes before the records."""
        if key == OUTBOX and self._desired is not None:
            self._waiting.add(name)
            return seal(value)
        return self._record(name, value) if key == RESERVATIONS else value

    def unsealed(self) -> list[str]:
        """Fields of the outbox that were sealed, and whose content may be needed: answers for what is not recorded."""
        known = (self._entries, self._settled)
        return [name for name in self._waiting if not any(answers.of_field(name) in some for some in known)]

    def records(self) -> Records:
        """All of them."""
        return Records(self._entries, self._damaged, settled=self._settled)

    def _record(self, name: str, value: bytes) -> bytes:
        """Decode it; the field names the reservation, whatever stands inside."""
        for known in (self._entries, self._settled, self._damaged):
            known.pop(name, None)  # a scan may show a field twice
        try:
            record = decode_reservation(value)
        except LayoutError as error:
            self._damaged[name] = printable(error)
            return value
        if record.id != name:
            self._damaged[name] = f"reservation: belongs to {printable(record.id)}"
            return value
        settled = self._as_settled(record)
        if settled is None:
            self._entries[name] = record
        else:
            self._settled[name] = settled
        return seal(value)

    def _as_settled(self, record: Recorded) -> Reservation | None:
        wanted = self._desired.get(record.id) if self._desired is not None else None
        result = record.result
        if wanted is None or result is None or not isinstance(wanted.workload, Workload):
            return None
        # What 4to6 answers depends on the settings: it is compared in full.
        if wanted.next_action not in WANTED or result.state != ResultState.OK or result.data_json != b"null":
            return None
        told = answers.same_answer(wanted.result, result) or answers.result_field(record.id) in self._waiting
        asked = of_workload(wanted.workload)
        if not told or not result.signature or wanted.workload.reference or not same_content(of_record(record), asked):
            return None
        return asked


def read_records(raw: Iterable[tuple[str, bytes]]) -> Records:
    """Decode what can be decoded."""
    reader = Reader()
    for name, value in raw:
        reader.take(RESERVATIONS, name, value)
    return reader.records()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the explorer says about one reservation."""

    workload: Workload | Undecodable
    next_action: int
    result: Result | None = None
    """The answer that the explorer has; None: none yet."""


# A workload never goes back: what arrives late (from a queue, a slow answer) must not undo what is known.
_PROGRESS: dict[int, int] = {
    NextAction.CREATE: 0,
    NextAction.SIGN: 1,
    NextAction.PAY: 2,
    NextAction.DEPLOY: 3,
    NextAction.DELETE: 4,
    NextAction.INVALID: 5,
    NextAction.MIGRATED: 5,
    NextAction.DELETED: 6,
}
_UNKNOWN_PROGRESS = 5


_MOST_TEXTS = 10_000
_UNUSED: dict[str, Any] = {
    "description": "",
    "signing_request_provision": _NO_SIGNERS,
    "signing_request_delete": _NO_SIGNERS,
    "json": "",
    "signatures_provision": (),
    "signature_farmer": _NO_APPROVAL,
    "signatures_delete": (),
    "metadata": "",
    "result": _NO_RESULT,
}
"""Members of a workload that nobody looks at here; of a hundred thousand they are a hundred megabytes."""


class Desired:
    """Everything that the explorer told about this gateway, kept up to date by pages of a poll.

    A listing (all pages from id 0) tells more than a page: only when it came to its end does the absence of a
    reservation mean something, and even then only that it has to be asked for by itself.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._wanted: dict[str, Wanted] = {}
        self._texts: dict[str, str] = {}
        """Texts that many answers have in common, held once."""
        self._seen: set[str] | None = None
        self.complete = False
        """True once a listing came to its end."""
        self.unknown: set[str] = set()
        """Asked for one by one, and the explorer has never heard of them."""
        self.news = 0
        """Grows with everything that the explorer tells and that was not known."""
        self._fresh: set[str] | None = None

    def get(self, identifier: str) -> Wanted | None:
        return self._wanted.get(identifier)

    def items(self) -> list[tuple[str, Wanted]]:
        """All by ascending id (P-8)."""
        return sorted(self._wanted.items(), key=lambda item: order(item[0]))

    def referring(self) -> list[tuple[str, Workload]]:
        """Those that name an older reservation which they replace, by ascending id."""
        found = [(name, wanted.workload) for name, wanted in self._wanted.items()]
        return sorted(
            ((name, work) for name, work in found if isinstance(work, Workload) and work.reference),
            key=lambda item: order(item[0]),
        )

    def begin_listing(self) -> None:
        """The pages that follow are a listing from 0; one that was begun before counts for nothing."""
        self._seen = set()
        # What the explorer tells from here on is newer than any deletion it has acknowledged.
        self._wanted = {
            name: wanted for name, wanted in self._wanted.items() if wanted.next_action != NextAction.DELETED
        }

    def end_listing(self) -> None:
        """The listing came to its end: what it did not show is unknown again, deleted ones included."""
        if self._seen is not None:
            self._wanted = {name: wanted for name, wanted in self._wanted.items() if name in self._seen}
            self._seen = None
            self.complete = True
            self.unknown.clear()
            self._fresh = None

    def take_fresh(self) -> set[str] | None:
        """What the explorer told since the last call; None: a listing ended, so that anything may have changed."""
        fresh, self._fresh = self._fresh, set()
        return fresh

    def merge(self, item: Workload | Undecodable) -> bool:
        """Take in one item of a page or a single answer; False: it is not for this gateway, or has no id."""
        if isinstance(item, Undecodable):
            if item.gwid is None:
                return False
            self._put(item.gwid, Wanted(item, NextAction.DEPLOY))
            return True
        if item.node_id != self._node_id:
            return False
        identifier = gwid(item)
        result = None if item.result.empty else self._slim(identifier, item.result)
        slim = msgspec.structs.replace(item, **_UNUSED, node_id=self._node_id)
        self._put(identifier, Wanted(slim, item.next_action, result))
        return True

    def acknowledge(self, identifier: str, result: Result) -> None:
        """The explorer has this result now."""
        if wanted := self._wanted.get(identifier):
            self._wanted[identifier] = Wanted(wanted.workload, wanted.next_action, self._slim(identifier, result))

    def _slim(self, identifier: str, result: Result) -> Result:
        """The same with as little of its own as possible: all who succeed have the same signature."""
        if len(self._texts) >= _MOST_TEXTS:
            self._texts.clear()
        share = self._texts.setdefault
        return msgspec.structs.replace(
            result,
            workload_id=identifier,
            signature=share(result.signature, result.signature),
            message=share(result.message, result.message),
            data_json=_NULL if result.data_json == _NULL else result.data_json,
            epoch=0,
            node_id="",
        )

    def finish(self, identifier: str) -> None:
        """The explorer has acknowledged the deletion: later news of it are old news until the next listing."""
        if wanted := self._wanted.get(identifier):
            self._wanted[identifier] = Wanted(wanted.workload, NextAction.DELETED, wanted.result)

    def unlisted(self, recorded: Iterable[str]) -> list[str]:
        """Recorded ones that a complete listing did not show: each has to be asked for, by ascending id."""
        if not self.complete:
            return []
        return sorted((name for name in recorded if name not in self._wanted and name not in self.unknown), key=order)

    def _put(self, identifier: str, wanted: Wanted) -> None:
        if self._seen is not None:
            self._seen.add(identifier)
        known = self._wanted.get(identifier)
        if known is None or (known != wanted and _progress(wanted) >= _progress(known)):
            self._wanted[identifier] = wanted
            self.news += 1
            if self._fresh is not None:
                self._fresh.add(identifier)


def migrated(records: Records, desired: Desired) -> Records:
    """Recognise reservations that the explorer lists under a new gwid, with the old one as ``reference`` (P-24).

    Anybody can write anything there: it counts only for what is recorded for the same user with the same content, and
    is not listed by itself.
    """
    referring = desired.referring()
    if not referring:
        return records
    entries, references = dict(records.entries), dict(records.references)
    for identifier, workload in referring:
        old = workload.reference
        if old not in entries or identifier in entries or desired.get(old) is not None:
            continue
        if same_content(of_record(entries[old]), of_workload(workload)):
            entries[identifier] = entries.pop(old)
            references[identifier] = old
    return replace(records, entries=entries, references=references)


def _progress(wanted: Wanted) -> int:
    # An item that cannot be decoded says nothing about what came before it.
    if isinstance(wanted.workload, Undecodable):
        return -1
    return _PROGRESS.get(wanted.next_action, _UNKNOWN_PROGRESS)
