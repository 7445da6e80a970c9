"""Maintains the marker that says which data set redis holds: written by passes, read by planes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from tfgateway.errors import StoreError
from tfgateway.explorer.models import ResultState
from tfgateway.ids import NodeId
from tfgateway.reconciler.planning.inputs.desired import WANTED, Desired
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction
from tfgateway.reconciler.planning.model import Left
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.marker import ANY, NONE, Marker, Mismatch, encode_marker, mismatch, read_marker
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")


class DataSet:
    """The marker as this process last wrote it; only the holder of the lease writes rows."""

    def __init__(self, store: Store, node_id: NodeId) -> None:
        self._store = store
        self._node_id = node_id
        self._writer = secrets.token_hex(8)
        self._last: Marker | None = None
        """As it should stand in redis."""

    async def begin(self, lease: Sequence[Row]) -> None:
        """Prepare for a pass: give redis a new marker, unless it holds what this process has written.

        Errors: ``StoreError``.
        """
        raw = await self._store.marker()
        found = read_marker(raw)
        begun = self._continued(found) or self._new(found)
        if begun == found:
            self._last = begun
            return
        # An invalid marker is overwritten, whatever its type.
        expected = () if found is Mismatch.UNREADABLE else (Row(MARKER, None, raw or None),)
        if not await self._write(expected, begun, lease):
            raise StoreError("the marker in redis was changed by others")

    def wrote(self, transactions: int) -> None:
        """Count transactions with rows that were applied since ``begin``."""
        if self._last is not None:
            self._last = self._last._replace(counter=self._last.counter + transactions)

    async def unchanged(self) -> bool:
        """Whether redis holds what this process wrote last, and not an earlier state. Errors: ``StoreError``."""
        return read_marker(await self._store.marker()) == self._last

    async def complete(self, lease: Sequence[Row]) -> None:
        """Note that a pass has recorded all that the explorer had granted.

        Nothing is noted when redis has changed under the pass: then it has not looked at what is there now.
        Errors: ``StoreError``.
        """
        left = self._last
        if left is None:
            return
        previous = NONE if left.previous == ANY else left.previous
        noted = left._replace(passes=left.passes + 1, previous=previous)
        if not await self._write((Row(MARKER, None, encode_marker(left)),), noted, lease):
            _log.warning("full pass not noted: redis changed under it")
        elif noted.passes == 1:
            _log.info("data set complete", incarnation=noted.incarnation)

    def _continued(self, found: Marker | Mismatch) -> Marker | None:
        """The next marker of the same data set; None: it is another one."""
        if isinstance(found, Mismatch) or found.node_id != self._node_id:
            return None
        if self._last is not None and mismatch(self._last, found) is not None:
            return None
        if found.writer == self._writer:
            return found._replace(retired=False)
        return found._replace(retired=False, writer=self._writer, base=found.counter)

    def _new(self, found: Marker | Mismatch) -> Marker:
        """The marker of a new data set, which replaces the one of this process or of the writer before it."""
        before = self._last or (found if isinstance(found, Marker) else None)
        # A data set that was never filled has replaced nothing.
        previous = NONE if before is None else before.incarnation if before.passes else before.previous
        begun = Marker(self._node_id, secrets.token_hex(16), writer=self._writer, previous=previous)
        if before is None:
            _log.info("data set begun", incarnation=begun.incarnation)
        else:
            reason = (mismatch(self._last, found) if self._last is not None else None) or Mismatch.FOREIGN
            _log.warning("redis does not hold what was written to it", reason=reason, incarnation=begun.incarnation)
        return begun

    async def _write(self, expected: tuple[Row, ...], marker: Marker, lease: Sequence[Row]) -> bool:
        """Write by the script that writes rows, which raises the counter; False: redis holds another marker."""
        transaction = Transaction(expected, (Row(MARKER, None, encode_marker(marker)),))
        if await self._store.apply([transaction], lease) != [""]:
            return False
        self._last = marker._replace(counter=marker.counter + 1)
        return True


def is_whole(desired: Desired, left: Left) -> bool:
    """Whether nothing is missing in redis that was served before.

    All that the explorer knows as granted is there, or waits for its parent. The rows of a record that cannot be read
    stay as they are.
    """
    return desired.complete and all(
        identifier in left.recorded or identifier in left.waiting or identifier in left.damaged
        for identifier, wanted in desired.items()
        if wanted.next_action in WANTED and wanted.result is not None and wanted.result.state == ResultState.OK
    )
