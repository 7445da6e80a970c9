"""Delivers the outbox: entries are sent until the explorer has acknowledged them (P-16)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Awaitable

from tfgateway.aio import Backoff
from tfgateway.errors import ExplorerError, ExplorerRefused, StoreError
from tfgateway.explorer.client import ExplorerClient
from tfgateway.ids import Gwid, NodeId
from tfgateway.reconciler.planning import results
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.reservation import order
from tfgateway.reconciler.planning.results import OutboxEntry
from tfgateway.reconciler.store import Store
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")

_LOOK = 15.0
"""Seconds after which redis is asked whether something waits although nobody said so: another process, or a script that
redis ran later than its caller waited, may have put it there."""
_AT_ONCE = 8
_READ_AT_ONCE = 500
_GIVE_UP_AFTER = 3
"""Failures without one success between them after which a round ends: the explorer is away, not one item bad."""
_UNDELIVERABLE = frozenset({400, 404, 409, 410, 422})
"""Answers about the item itself. Anything else (identity, permissions) can be put right, and then it is sent."""


class Outbox:
    """Sends in the order of ids, what failed before last; within a reservation the result before the deletion."""

    def __init__(self, store: Store, client: ExplorerClient, node_id: NodeId, desired: Desired) -> None:
        self._store = store
        self._client = client
        self._node_id = node_id
        self._desired = desired
        self._failures: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Note that the outbox has new entries."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; new entries are tried at once, what failed after a back-off."""
        backoff = Backoff()
        while True:
            self._wake.clear()
            delay = _LOOK
            try:
                if not await self._store.outbox_length() or await self.flush():
                    backoff.succeeded()
                else:
                    delay = backoff.failed()
            except StoreError as error:
                delay = backoff.failed()
                _log.warning("outbox cannot be read", reason=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), delay)

    async def flush(self) -> bool:
        """One round; True: nothing waits any more. Errors: ``StoreError``."""
        names = await self._store.outbox_names()
        waiting = {results.of_field(name) for name in names if results.is_field(name)}
        strange = [name for name in names if not results.is_field(name)]
        self._failures = Counter({name: self._failures[name] for name in waiting if self._failures[name]})
        queue = deque(sorted(waiting, key=lambda name: (self._failures[name], order(name))))
        if strange:
            await self._drop(strange)
        while queue:
            # Not all at once, to bound memory.
            some = [queue.popleft() for _ in range(min(_READ_AT_ONCE, len(queue)))]
            fields = [field(name) for name in some for field in (results.result_field, results.deleted_field)]
            found, damaged = results.read_outbox(await self._store.outbox(fields))
            if damaged:
                await self._drop(damaged)
            by_name = {one.id: one for one in found}
            if not await self._deliver_all([by_name[name] for name in some if name in by_name]):
                return False
        return not self._failures

    async def _drop(self, damaged: list[str]) -> None:
        _log.error("outbox entries nobody can read dropped", fields=", ".join(damaged))
        await self._store.take_from_outbox(damaged)

    async def _deliver_all(self, waiting: list[OutboxEntry]) -> bool:
        """Deliver all that is due; False: the explorer is away."""
        queue = deque(waiting)
        in_a_row = 0

        async def work() -> None:
            nonlocal in_a_row
            while queue and in_a_row < _GIVE_UP_AFTER:
                one = queue.popleft()
                try:
                    await self._deliver(one)
                except (ExplorerError, StoreError) as error:
                    in_a_row += 1
                    self._failures[one.id] += 1
                    _log.warning("answer not delivered yet", id=one.id, reason=str(error))
                else:
                    in_a_row = 0
                    self._failures.pop(one.id, None)

        await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, len(waiting)))))
        return in_a_row < _GIVE_UP_AFTER

    async def _deliver(self, one: OutboxEntry) -> None:
        if one.result is not None:
            await self._send(one.id, self._client.put_result(self._node_id, one.id, one.result))
            # Before redis is asked: the explorer has it now, whether redis forgets it or not.
            self._desired.acknowledge(one.id, one.result)
            await self._store.take_from_outbox([results.result_field(one.id)])
        if one.deleted:
            await self._send(one.id, self._client.delete_reservation(self._node_id, one.id))
            self._desired.finish(one.id)
            await self._store.take_from_outbox([results.deleted_field(one.id)])

    async def _send(self, identifier: Gwid, call: Awaitable[None]) -> None:
        try:
            await call
        except ExplorerRefused as error:
            if error.status not in _UNDELIVERABLE:
                raise
            _log.error("the explorer does not want the answer", id=identifier, reason=str(error))
