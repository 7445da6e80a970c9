"""One pass: look at redis, plan, apply step by step."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace

from tfgateway.reconciler.board import Policy, UserKeys
from tfgateway.reconciler.lease import Lease
from tfgateway.reconciler.metrics import ReconcilerMetrics
from tfgateway.reconciler.phonebook import Phonebook
from tfgateway.reconciler.plan import Action, Plan, Step, plan
from tfgateway.reconciler.rows import Actual
from tfgateway.reconciler.session import look
from tfgateway.reconciler.store import Store
from tfgateway.reconciler.world import Desired, Records, migrated
from tfgateway.targets import own_addresses
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")


@dataclass(frozen=True, slots=True)
class Pass:
    """What was planned, what it was planned from, and the steps that were carried out."""

    plan: Plan
    records: Records
    done: tuple[Step, ...] = ()

    @property
    def repaired(self) -> int:
        """Reservations whose rows or record had drifted."""
        return sum(1 for step in self.done if step.action is Action.REPAIR)


class Passes:
    """Makes passes; remembers between them only what was told already.

    ask_for: asks the explorer for reservations one by one, by gwid, and takes the answers into ``desired``.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        desired: Desired,
        ask_for: Callable[[Sequence[str]], Awaitable[None]],
        phonebook: Phonebook,
        metrics: ReconcilerMetrics,
    ) -> None:
        self._policy = policy
        self._store = store
        self._desired = desired
        self._ask_for = ask_for
        self._phonebook = phonebook
        self._metrics = metrics
        self._more: Callable[[Collection[str], int], Plan | None] | None = None
        self._problems: frozenset[str] = frozenset()
        self._held = ""

    async def preview(self, *, allow_removals: bool = False) -> Pass:
        """What a pass would do. allow_removals: as if an operator had allowed them. Errors: ``StoreError``."""
        actual, records = await look(self._store)
        records = migrated(records, self._desired)
        if unlisted := self._desired.unlisted([*records.entries, *records.damaged]):
            await self._ask_for(unlisted)
        self._desired.take_fresh()
        users = self._phonebook.known
        made = self._plan(actual, records, users)
        # Without a complete listing the explorer may be away, and this pass is not to wait for it.
        if made.unknown_users and self._desired.complete:
            users = await self._phonebook.ask(made.unknown_users)
            made = self._plan(actual, records, users)
        if made.held:
            consent = made.held_digest if allow_removals else await self._store.consent()
            if consent:
                made = self._plan(actual, records, users, consent)
        return Pass(made, records)

    async def run(self, lease: Lease, *, allow_removals: bool = False) -> Pass:
        """One look at everything. What was applied stays when it ends early. Errors: ``StoreError``, ``LeaseError``."""
        started = time.monotonic()
        self._more = None
        await lease.hold()
        found = await self.preview(allow_removals=allow_removals)
        self._tell(found.plan)
        done = await self._apply(found.plan, lease)
        if len(done) == len(found.plan.steps):
            self._more = found.plan.more
        self._metrics.pass_seconds.set(time.monotonic() - started)
        return replace(found, done=done)

    async def news(self, lease: Lease) -> tuple[Step, ...] | None:
        """Only what the explorer told since the last pass, on top of what that one left; nobody looks at all of redis.

        Each transaction still finds out whether redis holds what it was planned from. The steps that were carried out;
        None: this takes ``run``. Errors: ``StoreError``.
        """
        more, self._more = self._more, None
        fresh = self._desired.take_fresh() if more is not None else None
        made = more(fresh, time.time_ns()) if more is not None and fresh is not None else None
        if made is None:
            return None
        done = await self._apply(made, lease)
        if len(done) < len(made.steps):
            return None
        self._more = more
        return done

    async def _apply(self, made: Plan, lease: Lease) -> tuple[Step, ...]:
        """The steps that were carried out. Errors: ``StoreError``."""
        done: list[Step] = []
        for step in made.steps:
            failure = await self._store.apply(step.transaction, lease.row)
            if failure:
                # The next pass looks again and decides anew.
                self._metrics.steps_failed.labels(step.action).inc()
                _log.warning("step not done", step=str(step), reason=failure)
                continue
            done.append(step)
            self._metrics.done(step.action)
            _log.info(
                str(step.action),
                id=step.id,
                type=step.type,
                domain=step.domain,
                user=step.user,
                message=step.message,
            )
        return tuple(done)

    def _plan(self, actual: Actual, records: Records, users: UserKeys, consent: str = "") -> Plan:
        # Addresses of this host come and go while we run.
        policy = replace(self._policy, own_addresses=own_addresses())
        # A big plan makes millions of objects that all live as long as it does: looking for garbage doubles its time.
        gc.disable()
        try:
            return plan(self._desired, records, actual, policy, time.time_ns(), users, consent=consent)
        finally:
            gc.enable()

    def _tell(self, made: Plan) -> None:
        """Trouble is logged when it begins, not again with every pass."""
        problems = frozenset(made.problems)
        for text in sorted(problems - self._problems):
            _log.warning("problem", reason=text)
        if made.held and made.held != self._held:
            _log.error("removals held back", reason=made.held)
        self._problems = problems
        self._held = made.held
        self._metrics.problems.set(len(problems))
        self._metrics.held.set(bool(made.held))
