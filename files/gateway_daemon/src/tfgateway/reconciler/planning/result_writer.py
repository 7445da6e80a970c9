"""Writes results and deletions of a plan into the outbox's rows (pure). ``results`` has their encoding."""

from __future__ import annotations

import msgspec

from tfgateway.explorer.models import Result, ResultState
from tfgateway.identity.keys import Identity
from tfgateway.ids import Gwid
from tfgateway.instant import Instant
from tfgateway.reconciler.planning import results
from tfgateway.reconciler.planning.claims import NotNow
from tfgateway.reconciler.planning.inputs.desired import Wanted
from tfgateway.reconciler.planning.inputs.records import Records
from tfgateway.reconciler.planning.inputs.rows import Rows, Seal
from tfgateway.redis_schema.keys import OUTBOX


class ResultWriter:
    """Writes to the outbox's rows of ``rows``. now: for what is signed from now on."""

    def __init__(self, rows: Rows, records: Records, identity: Identity, now: Instant) -> None:
        self._rows = rows
        self._records = records
        self._identity = identity
        self.now = now

    def has_result(self, identifier: Gwid) -> bool:
        """Whether the outbox holds a result for a reservation."""
        return self._rows.get(OUTBOX, results.result_field(identifier)) is not None

    def has_deletion(self, identifier: Gwid) -> bool:
        """Whether the outbox holds its deletion."""
        return self._rows.get(OUTBOX, results.deleted_field(identifier)) is not None

    def make(self, identifier: Gwid, category: int, state: ResultState, message: str, data: bytes = b"null") -> Result:
        """A signed result, not written yet."""
        return results.make_result(identifier, category, state, message, self._identity, self.now.unix_ns, data)

    def ok(self, identifier: Gwid, wanted: Wanted, category: int, data: bytes) -> Result:
        """The result that waits already, or a new one, which is written. Errors: ``NotNow``."""
        waiting = self._rows.get(OUTBOX, results.result_field(identifier))
        if isinstance(waiting, Seal):
            raise NotNow("an answer for it is still on its way")
        if waiting is not None:
            result = results.decode_result(identifier, waiting)
            if result.state != ResultState.OK:
                raise NotNow("an error result for it is still on its way")
            return result
        result = self.make(identifier, category, ResultState.OK, "", data)
        if not results.same_answer(wanted.result, result):
            self.write(identifier, result)
        return result

    def write(self, identifier: Gwid, result: Result) -> None:
        """Write a result, under both ids of a migrated reservation (P-24)."""
        for name in self._names(identifier):
            own = msgspec.structs.replace(result, workload_id=name)
            self._rows.put(OUTBOX, results.result_field(name), results.encode_result(own))

    def write_deletion(self, identifier: Gwid) -> None:
        """Write a deletion, under both ids of a migrated reservation (P-24)."""
        for name in self._names(identifier):
            self._rows.put(OUTBOX, results.deleted_field(name), results.encode_deleted(self.now.unix_ns))

    def _names(self, identifier: Gwid) -> tuple[Gwid, ...]:
        return tuple(dict.fromkeys((identifier, self._records.references.get(identifier, identifier))))
