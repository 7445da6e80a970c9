"""Recorded reservations (pure): ``tfgateway_reservations``, decoded and compared with what the explorer says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tfgateway.errors import SchemaError
from tfgateway.explorer.models import ResultState, Workload
from tfgateway.ids import Gwid
from tfgateway.reconciler.planning import results
from tfgateway.reconciler.planning.inputs.desired import WANTED, Desired
from tfgateway.reconciler.planning.inputs.reservation import Reservation, of_record, of_workload, order, same_content
from tfgateway.reconciler.planning.inputs.rows import seal
from tfgateway.redis_schema.keys import OUTBOX, RESERVATIONS
from tfgateway.redis_schema.reservations import Recorded, decode_reservation
from tfgateway.telemetry.text import printable


@dataclass(frozen=True, slots=True)
class Records:
    """The decoded content of ``tfgateway_reservations``."""

    entries: Mapping[Gwid, Recorded] = field(default_factory=dict)
    damaged: Mapping[Gwid, str] = field(default_factory=dict)
    """Field -> why it cannot be read (P-17): left where it is until the explorer says what it was."""
    references: Mapping[Gwid, Gwid] = field(default_factory=dict)
    """gwid -> the older gwid that a migrated one is recorded under (P-24); ``entries`` has it under the new one."""
    unchanged: Mapping[Gwid, Reservation] = field(default_factory=dict)
    """Recorded exactly as the explorer describes them, and answered for: nothing else of the record is kept."""

    def __len__(self) -> int:
        return len(self.entries) + len(self.unchanged)

    def __contains__(self, identifier: str) -> bool:
        return identifier in self.unchanged or identifier in self.entries

    def names(self) -> list[Gwid]:
        """All gwids whose record can be read."""
        return [*self.entries, *self.unchanged]


class RecordDecoder:
    """Decodes records as they are read from redis, so that not all of their bytes are in memory at once.

    desired: with it, records that say the same as the explorer become ``unchanged``.
    """

    def __init__(self, desired: Desired | None = None) -> None:
        self._desired = desired
        self._waiting: set[str] = set()
        self._entries: dict[Gwid, Recorded] = {}
        self._damaged: dict[Gwid, str] = {}
        self._unchanged: dict[Gwid, Reservation] = {}

    def take(self, key: str, name: str, value: bytes) -> bytes:
        """Decode one field; the part of its value to keep. The outbox comes before the records."""
        if key == OUTBOX and self._desired is not None:
            self._waiting.add(name)
            return seal(value)
        return self._record(Gwid(name), value) if key == RESERVATIONS else value

    def unsealed(self) -> list[str]:
        """Fields of the outbox that were sealed, and whose content may be needed: answers for what is not recorded."""
        known = (self._entries, self._unchanged)
        return [name for name in self._waiting if not any(results.of_field(name) in some for some in known)]

    def records(self) -> Records:
        """All records."""
        return Records(self._entries, self._damaged, unchanged=self._unchanged)

    def _record(self, name: Gwid, value: bytes) -> bytes:
        """Decode a record; the field names the reservation, whatever is inside."""
        for known in (self._entries, self._unchanged, self._damaged):
            known.pop(name, None)  # a scan may show a field twice
        try:
            record = decode_reservation(value)
        except SchemaError as error:
            self._damaged[name] = printable(error)
            return value
        if record.id != name:
            self._damaged[name] = f"reservation: belongs to {printable(record.id)}"
            return value
        unchanged = self._if_unchanged(record)
        if unchanged is None:
            self._entries[name] = record
        else:
            self._unchanged[name] = unchanged
        return seal(value)

    def _if_unchanged(self, record: Recorded) -> Reservation | None:
        wanted = self._desired.get(record.id) if self._desired is not None else None
        result = record.result
        if wanted is None or result is None or not isinstance(wanted.workload, Workload):
            return None
        # What 4to6 answers depends on the settings: it is compared in full.
        if wanted.next_action not in WANTED or result.state != ResultState.OK or result.data_json != b"null":
            return None
        sent = results.same_answer(wanted.result, result) or results.result_field(record.id) in self._waiting
        asked = of_workload(wanted.workload)
        if not sent or not result.signature or wanted.workload.reference or not same_content(of_record(record), asked):
            return None
        return asked


def another(record: Recorded, workload: Workload) -> bool:
    """Whether the record is of another reservation of the same id, as after a restore of the explorer.

    What an old record does not say is no difference.
    """
    recorded, asked = of_record(record), of_workload(workload)
    pairs = ((recorded.user, asked.user), (recorded.type, asked.type), (recorded.domain, asked.domain))
    return any(one and other and one != other for one, other in pairs)


def orphans(records: Records, desired: Desired) -> list[Gwid]:
    """Recorded reservations that neither a complete listing shows nor the explorer knows.

    Or what it knows under the id is another reservation. By ascending id.
    """
    if not desired.complete:
        return []
    found = [name for name in records.names() if name in desired.unknown]
    for name, record in records.entries.items():
        wanted = desired.get(name)
        if wanted is not None and isinstance(wanted.workload, Workload) and another(record, wanted.workload):
            found.append(name)
    return sorted(found, key=order)


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
        old = Gwid(workload.reference)
        if old not in entries or identifier in entries or desired.get(old) is not None:
            continue
        if same_content(of_record(entries[old]), of_workload(workload)):
            entries[identifier] = entries.pop(old)
            references[identifier] = old
    return replace(records, entries=entries, references=references)
