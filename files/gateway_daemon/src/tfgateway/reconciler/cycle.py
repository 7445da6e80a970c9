"""One pass of the reconciler: read redis, plan, apply step by step."""

from __future__ import annotations

import contextlib
import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from tfgateway import machine
from tfgateway.ids import Gwid
from tfgateway.net.addresses import denied_reason, literals, own_addresses
from tfgateway.reconciler.dataset import DataSet, is_whole
from tfgateway.reconciler.explorer_side.user_keys import UserKeyCache
from tfgateway.reconciler.lease import Lease
from tfgateway.reconciler.lookups.cache import Lookups
from tfgateway.reconciler.lookups.delegations import Delegations
from tfgateway.reconciler.metrics import ReconcilerMetrics
from tfgateway.reconciler.planning.claims import Policy, UserKeys
from tfgateway.reconciler.planning.inputs import guard
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.records import Records, migrated, orphans
from tfgateway.reconciler.planning.inputs.rows import Actual, Row, Transaction
from tfgateway.reconciler.planning.model import Action, Plan, Step
from tfgateway.reconciler.planning.planner import Incremental, Planned, Stream, plan_all
from tfgateway.reconciler.planning.proofs import NameFacts
from tfgateway.reconciler.planning.removals import served
from tfgateway.reconciler.planning.render import held_reason, step_line
from tfgateway.reconciler.session import look
from tfgateway.reconciler.store import Store
from tfgateway.reconciler.updates.service import Field
from tfgateway.reconciler.updates.updates import Updates
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")

_AT_ONCE = 100
"""Steps that are sent to redis together; each is a transaction of its own."""


@dataclass(slots=True)
class Applied:
    """What became of the steps that were sent to redis, whether the pass came to its end or not."""

    done: Counter[Action] = field(default_factory=Counter)
    """Steps that redis confirmed."""
    failed: set[str] = field(default_factory=set)
    """Reservations whose steps redis did not take."""
    unconfirmed: int = 0
    """Steps that were sent and not answered: redis may have carried them out."""

    @property
    def may_have_answers(self) -> bool:
        """Whether the outbox may have new entries."""
        return bool(self.done or self.unconfirmed)


@dataclass(frozen=True, slots=True)
class Pass:
    """What was planned, and what could not be carried out of it."""

    plan: Plan
    failed: frozenset[str] = frozenset()
    """Reservations whose steps redis did not take."""
    incremental: Incremental | None = None
    """What plans for changes from now on; None: a full plan is next."""


class Cycle:
    """Makes passes; remembers between them only which problems were logged.

    ask_for: asks the explorer for reservations one by one, and takes the answers into ``desired``.
    applied: called with what was done before ``run`` and ``run_incremental`` return, also when they end with an error.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        desired: Desired,
        ask_for: Callable[[Sequence[Gwid]], Awaitable[None]],
        user_keys: UserKeyCache,
        metrics: ReconcilerMetrics,
        applied: Callable[[Applied], None],
        delegations: Delegations,
        names: Lookups[NameFacts],
        updates: Updates,
    ) -> None:
        self._policy = policy
        self._store = store
        self._desired = desired
        self._ask_for = ask_for
        self._user_keys = user_keys
        self._metrics = metrics
        self._applied = applied
        self._delegations = delegations
        self._names = names
        self._updates = updates
        self._updated: list[Field] = []
        """Fields that had records by DNS updates when redis was looked at."""
        self._data_set = DataSet(store, policy.node_id)
        self._incremental: Incremental | None = None
        self._problems: frozenset[str] = frozenset()
        self._held = ""
        self._allowed: frozenset[str] = frozenset()
        """Removals that an operator allowed, until a pass has carried out all of them."""
        self._count_anew = False
        """What an operator allowed is no loss: until that is noted, the samples of before do not count."""
        self._recorded = 0
        self._released: frozenset[str] = frozenset()
        self._released_reservations: dict[Gwid, str] = {}
        self._ended: set[str] = set()
        """Reservations that an operator ended, until it is known that they are gone."""
        self._corrected: tuple[guard.CountSample, ...] | None = None
        """The samples without them, until that is written: they are no loss."""

    def reachable_at(self, address: str) -> None:
        """Take an address that leads here as the explorer sees it; what is no globally reachable one is ignored."""
        if denied_reason(address, (), ()) is None:
            public = self._policy.public_addresses | literals([address])
            self._policy = replace(self._policy, public_addresses=public)
            self._incremental = None

    async def preview(self, *, allow_removals: bool = False) -> Plan:
        """The plan of the next pass. allow_removals: as if an operator had allowed them. Errors: ``StoreError``."""
        most = guard.most(await self._store.samples(), machine.now())
        return (await self._preview(most, allow_removals=allow_removals, thorough=True, single=True)).plan

    async def _preview(self, most: int, *, allow_removals: bool, single: bool, thorough: bool = False) -> Planned:
        """single: whether no pass follows soon, which would know what is only being looked up now."""
        consent = await self._store.consent()
        actual, records = await self._look(thorough=thorough or allow_removals or bool(consent))
        users = self._user_keys.known
        made = self._plan(actual, records, users, most)
        # Without a complete listing the explorer may be away, and this pass must not wait for it.
        if made.plan.unknown_users and self._desired.complete:
            users = await self._user_keys.ask(made.plan.unknown_users)
            made = self._plan(actual, records, users, most)
        if single and (made.plan.unknown_delegations or made.plan.unknown_names) and self._desired.complete:
            await self._delegations.look_up(made.plan.unknown_delegations)
            await self._names.look_up(made.plan.unknown_names)
            made = self._plan(actual, records, users, most)
        if held := made.plan.needs_consent():
            # A pass that ended early leaves some of them.
            allowed = allow_removals or held <= self._allowed
            if allowed or consent == made.plan.held_digest:
                made = self._plan(actual, records, users, most, made.plan.held_digest)
            if made.plan.consented:
                self._allowed = held
        return made

    async def run(self, lease: Lease, *, allow_removals: bool = False, keep_steps: bool = True) -> Pass:
        """A full pass. What was applied stays when it ends early. Errors: ``StoreError``, ``LeaseError``.

        keep_steps: whether the caller needs them. If not, and if nearly nothing is recorded yet, they are carried
        out as they are decided.
        """
        started = time.monotonic()
        self._incremental = None
        await lease.hold()
        rows = lease.rows  # what was sent under a lease that was lost since is refused
        await self._data_set.begin(rows)
        samples = () if self._count_anew else await self._store.samples()
        most = guard.most(samples, machine.now())
        first = None if keep_steps else await self._converge(rows, most)
        if first is not None and not (first.plan.unknown_users and self._desired.complete):
            done = first
        else:
            made = await self._preview(most, allow_removals=allow_removals, single=keep_steps)
            await self._note(samples)
            done = await self._carry_out(made.plan.steps, lambda: made, rows)
            if self._allowed and not made.plan.held_digest and not done.failed:
                self._allowed, self._count_anew = frozenset(), True
                self._recorded = len(made.plan.left.recorded.keys() - made.plan.left.waiting)
                await self._note(())
        left = done.plan.left
        if ended := self._ended - left.recorded.keys():
            self._corrected = guard.without(await self._store.samples(), len(ended))
            self._ended.clear()
        if self._corrected is not None:
            await self._store.write_samples(self._corrected)
            self._corrected = None
        self._report(done.plan)
        if self._desired.complete:
            self._delegations.ask(done.plan.unknown_delegations)
            self._names.ask(done.plan.unknown_names)
            self._names.ask(done.plan.due_names)
        if self._released and not done.failed:
            await self._store.take_released(self._released)
        # What is not recorded any more was ended by a pass that could not note it.
        waiting = left.undecided & (left.recorded.keys() | left.damaged.keys())
        if over := self._released_reservations.keys() - done.failed - waiting:
            await self._store.take_released_reservations(over)
        whole = not done.failed and is_whole(self._desired, done.plan.left)
        await self._updates.restore(self._updated, None, whole=whole)
        if not done.failed:
            self._incremental = done.incremental
        if whole:
            await self._data_set.complete(rows)
        self._metrics.pass_seconds.set(time.monotonic() - started)
        return done

    async def run_incremental(self, lease: Lease) -> Pass | None:
        """Plan for what the explorer changed since the last pass, on top of what that one left, without reading redis.

        Each transaction still finds out whether redis holds what it was planned from. None: this takes ``run``.
        Errors: ``StoreError``.
        """
        incremental, self._incremental = self._incremental, None
        fresh = self._desired.take_fresh() if incremental is not None else None
        made = incremental.plan(fresh, machine.now()) if incremental is not None and fresh is not None else None
        if made is None or not await self._data_set.unchanged():
            return None
        done = await self._carry_out(made.steps, lambda: Planned(made, incremental), lease.rows)
        domains = {step.domain for step in made.steps if step.domain}
        if domains and self._updates.concern(domains):
            whole = not done.failed and is_whole(self._desired, made.left)
            await self._updates.restore((), domains, whole=whole)
        if done.failed:
            return None
        self._incremental = incremental
        return done

    async def write(self, transactions: Sequence[Transaction], lease: Lease) -> list[str]:
        """Apply transactions beside a pass, see ``Store.apply``. Errors: ``StoreError``."""
        failures = await self._store.apply(transactions, lease.rows)
        self._data_set.wrote(failures.count(""))
        return failures

    async def _look(self, *, thorough: bool = False) -> tuple[Actual, Records]:
        """Read redis, and what the explorer says about all recorded reservations.

        thorough: ask it for all that it did not list, however many that are: an operator's consent is to all of them.
        """
        self._released = await self._store.released()
        self._released_reservations = await self._store.released_reservations()
        actual, records = await look(self._store, self._desired)
        records = migrated(records, self._desired)
        self._recorded = served(records, actual)
        self._updated = self._updates.fields(actual)
        names = [*records.names(), *records.damaged]
        left = len(names) + 1
        while (unlisted := self._desired.unlisted(names)) and len(unlisted) < left:
            left = len(unlisted)
            await self._ask_for(unlisted)
            if not thorough:
                break
        self._desired.take_fresh()
        return actual, records

    async def _note(self, samples: tuple[guard.CountSample, ...]) -> None:
        """Note the number of recorded reservations, if that is due."""
        noted = guard.noted(samples, machine.now(), self._recorded)
        if noted != samples:
            await self._store.write_samples(noted)
            self._count_anew = False

    async def _converge(self, lease: Sequence[Row], most: int) -> Pass | None:
        """Make a full pass as a stream; None: a whole plan is needed first (``Stream.fits``, orphans)."""
        if not Stream.fits(self._policy, max(most, await self._store.recorded())):
            return None
        actual, records = await self._look()
        if orphans(records, self._desired):
            return None
        stream = Stream(self._desired, records, actual, self._policy_now(), machine.now(), self._user_keys.known)
        del actual
        return await self._carry_out(stream.steps(), stream.outcome, lease)

    async def _carry_out(self, steps: Iterable[Step], outcome: Callable[[], Planned], lease: Sequence[Row]) -> Pass:
        """Apply all steps. outcome: called when all are through. Errors: ``StoreError``."""
        remaining = iter(steps)
        applied = Applied()
        try:
            while some := tuple(islice(remaining, _AT_ONCE)):
                await self._apply(some, lease, applied)
        finally:
            self._applied(applied)
        made = outcome()
        return Pass(made.plan, frozenset(applied.failed), made.incremental)

    async def _apply(self, some: Sequence[Step], lease: Sequence[Row], applied: Applied) -> None:
        """Apply transactions and count what became of them. Errors: ``StoreError``."""
        applied.unconfirmed += len(some)
        self._ended.update(step.id for step in some if step.action is Action.RELEASE and step.id)
        failures = await self._store.apply([step.transaction for step in some], lease)
        applied.unconfirmed -= len(some)
        self._data_set.wrote(failures.count(""))
        for step, failure in zip(some, failures, strict=True):
            if failure:
                # The next pass reads redis and decides again.
                applied.failed.add(step.id)
                self._ended.discard(step.id)
                self._metrics.steps_failed.labels(step.action).inc()
                _log.warning("step not done", step=step_line(step), reason=failure)
                continue
            applied.done[step.action] += 1
            self._metrics.done(step.action)
            _log.info(
                str(step.action),
                id=step.id,
                type=step.type,
                domain=step.domain,
                user=step.user,
                message=step.message,
            )

    def _plan(self, actual: Actual, records: Records, users: UserKeys, most: int, consent: str = "") -> Planned:
        # A big plan makes millions of objects that all live as long as it: garbage collection would double its time.
        gc.disable()
        try:
            policy, now = self._policy_now(), machine.now()
            return plan_all(self._desired, records, actual, policy, now, users, consent=consent, most=most)
        finally:
            gc.enable()

    def _policy_now(self) -> Policy:
        """The policy with the current addresses of this host, releases by an operator and delegations by DNS."""
        released = self._policy.released | self._released
        ended = {**self._policy.released_reservations, **self._released_reservations}
        with contextlib.suppress(OSError):  # those that were read last go on
            self._policy = replace(self._policy, own_addresses=own_addresses(self._policy.public_addresses))
        return replace(
            self._policy,
            released=released,
            released_reservations=ended,
            delegated=self._delegations.known(),
            name_facts=self._names.known(),
        )

    def _report(self, made: Plan) -> None:
        """Log problems when they begin, not again with every pass; set the metrics."""
        problems = frozenset(made.problems)
        for text in sorted(problems - self._problems):
            _log.warning("problem", reason=text)
        reason = held_reason(made.held)
        if reason and reason != self._held:
            _log.error("removals held back", reason=reason)
        self._problems = problems
        self._held = reason
        self._metrics.problems.set(len(problems))
        self._metrics.held.set(bool(reason))
