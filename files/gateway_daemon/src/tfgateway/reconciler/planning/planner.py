"""From what is wanted, recorded and in redis to a plan: full, streamed or incremental. Pure.

Removals come first, then everything by ascending id (P-8). A plan that is applied leaves an empty plan. A full plan
looks at everything; an incremental one only at reservations that have changed, on top of a full plan as applied.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from tfgateway.explorer.models import DomainDelegate, NextAction
from tfgateway.ids import Gwid
from tfgateway.instant import Instant
from tfgateway.reconciler.planning.claims import Policy, UserKeys
from tfgateway.reconciler.planning.decisions import Decisions
from tfgateway.reconciler.planning.inputs.desired import WANTED, Desired, Wanted
from tfgateway.reconciler.planning.inputs.records import Records
from tfgateway.reconciler.planning.inputs.records import orphans as orphans_of
from tfgateway.reconciler.planning.inputs.reservation import of_workload, order
from tfgateway.reconciler.planning.inputs.rows import Actual
from tfgateway.reconciler.planning.model import Action, HeldRemovals, Plan, Step, digest
from tfgateway.reconciler.planning.primitives import subdomain
from tfgateway.reconciler.planning.removals import allowed, removals, served
from tfgateway.reconciler.planning.unowned import orphans
from tfgateway.reconciler.planning.unowned.rows import unowned_rows
from tfgateway.redis_schema.keys import MANAGED_DOMAINS, PEERS
from tfgateway.telemetry.text import printable

_GONE = frozenset({NextAction.DELETE, NextAction.DELETED})


@dataclass(frozen=True, slots=True)
class Planned:
    """A full plan, and the incremental planner for what comes after it."""

    plan: Plan
    incremental: Incremental | None = None
    """None: the next plan has to be a full one."""


def plan_all(
    desired: Desired,
    records: Records,
    actual: Actual,
    policy: Policy,
    now: Instant,
    users: UserKeys = MappingProxyType({}),
    *,
    consent: str = "",
    most: int = 0,
) -> Planned:
    """Compare and decide. now: for the times in records and results. users: keys known so far.

    most: the highest number of recorded reservations of the last hour (``guard``); missing ones count as removed.

    The removals of a plan are held back (``Plan.held``) when they are more than the policy allows; the plan is made
    again without removals; what would be refused then is left undecided, because it may be refused only for the sake of
    what was kept. For the same reason nothing is refused that would not be refused without the orphans. consent: the
    ``held_digest`` of removals and orphans that an operator allowed.
    """

    def decided(*, may_remove: bool = True, end_orphans: bool = False, spared: Collection[str] = ()) -> Planned:
        planner = _FullPlanner(desired, records, actual, policy, now, users)
        steps = tuple(planner.steps(may_remove=may_remove, end_orphans=end_orphans, spared=spared))
        return Planned(planner.outcome(steps), planner.incremental(most))

    made = decided()
    removed = removals(made.plan, records)
    ended: tuple[Step, ...] = ()
    whole = made
    if orphans_of(records, desired):
        whole = decided(end_orphans=True)
        names = {step.name for step in removed}
        ended = tuple(step for step in removals(whole.plan, records) if step.name not in names)
        if spared := _refused(made.plan) - _refused(whole.plan):
            made = decided(spared=spared)
            removed = removals(made.plan, records)
    may_be, gone = allowed(policy, most, served(records, actual))
    held_back = removed if gone + len(removed) > may_be else ()
    if consent and consent == digest((*held_back, *ended)):
        return Planned(replace(whole.plan, consented=True))
    held = None
    if held_back:
        held = HeldRemovals(held_back, len(records), gone, may_be)
        made = decided(may_remove=False)
    return Planned(replace(made.plan, held=held, orphans=ended), made.incremental)


class Stream:
    """A full plan whose steps are carried out while the next ones are decided, and not kept.

    Only where so little is recorded that no removal has to be held back: usually when everything is new, and the plan
    would be bigger than all that it leads to.
    """

    def __init__(
        self, desired: Desired, records: Records, actual: Actual, policy: Policy, now: Instant, users: UserKeys
    ) -> None:
        """See ``plan_all``."""
        # How many rows are unowned is known only at the end: they wait for a whole plan.
        self._planner = _FullPlanner(desired, records, actual, replace(policy, repair_orphans=False), now, users)

    @staticmethod
    def fits(policy: Policy, most: int) -> bool:
        """Whether a plan can be a stream when so many reservations are recorded, or were of late."""
        return most <= allowed(policy, most, most)[0]

    def steps(self) -> Iterator[Step]:
        """All steps, each decided on demand."""
        return self._planner.steps()

    def outcome(self) -> Planned:
        """The plan without its steps, once they are through."""
        return Planned(self._planner.outcome(()), self._planner.incremental(0))


class Incremental:
    """Plans for changes on top of a full plan that was applied."""

    def __init__(self, decisions: Decisions, desired: Desired, most: int, *, may_remove: bool) -> None:
        """most: as for ``plan_all``; may_remove: whether the full plan held nothing back."""
        self._decisions = decisions
        self._desired = desired
        self._most = most
        self._may_remove = may_remove
        decisions.may_displace = False  # how much is removed is weighed by a full plan

    def plan(self, identifiers: Collection[Gwid], now: Instant) -> Plan | None:
        """Plan for reservations (by gwid) that have changed.

        None: everything has to be looked at, and this is not to be asked again.
        """
        decisions = self._decisions
        decisions.begin(now)
        wanted = [(name, item) for name in sorted(identifiers, key=order) if (item := self._desired.get(name))]
        if not self._desired.complete or len(wanted) != len(identifiers) or self._needs_full_plan(wanted):
            return None
        steps: list[Step] = []
        refused: set[Gwid] = set()
        for name, item in wanted:
            if item.next_action in _GONE:
                steps += decisions.isolated(name, partial(decisions.remove, name, item))
        for name, item in wanted:
            if item.next_action in WANTED:
                steps += decisions.isolated(name, partial(decisions.admit, name, item, refused))
        if refused or decisions.problems:
            return None
        return Plan(tuple(steps), left=decisions.left())

    def _needs_full_plan(self, wanted: list[tuple[Gwid, Wanted]]) -> bool:
        accepted, waiting = self._decisions.accepted, self._decisions.waiting
        if any(name in accepted for name, item in wanted if item.next_action not in _GONE):
            return True
        if any(name in waiting or self._has_children(name, item) for name, item in wanted):
            return True
        gone = sum(name in accepted for name, item in wanted if item.next_action in _GONE)
        recorded = len(accepted) - sum(name in accepted for name in waiting)
        may_be, before = allowed(self._decisions.claims.policy, self._most, recorded)
        return bool(gone) and (not self._may_remove or before + gone > may_be)

    def _has_children(self, identifier: Gwid, wanted: Wanted) -> bool:
        """Whether other reservations are in, or wait for, the zone of this one."""
        reservation = self._decisions.accepted.get(identifier)
        if reservation is None and isinstance(wanted.workload, DomainDelegate):
            reservation = of_workload(wanted.workload)
        if reservation is None or reservation.type != "domain_delegate":
            return False
        zone, names = reservation.domain, self._decisions.claims.names
        waiting = (one.domain for one in self._decisions.waiting.values())
        return (
            zone in names
            or bool(names.below(zone))
            or any(name == zone or name.endswith(f".{zone}") for name in waiting)
        )


class _FullPlanner:
    """Takes all decisions in their order."""

    def __init__(
        self, desired: Desired, records: Records, actual: Actual, policy: Policy, now: Instant, users: UserKeys
    ) -> None:
        self._desired = desired
        self._records = records
        self._policy = policy
        self._decisions = Decisions(desired, records, actual, policy, now, users)
        self._may_remove = True

    def steps(
        self, *, may_remove: bool = True, end_orphans: bool = False, spared: Collection[str] = ()
    ) -> Iterator[Step]:
        """All steps. end_orphans: whether orphans end; spared: reservations that are not to be refused."""
        decisions, policy = self._decisions, self._policy
        # Before a complete listing, the parent of a reservation may just not have been shown yet.
        may_refuse = may_remove and self._desired.complete
        self._may_remove, decisions.spared = may_remove, spared
        decisions.may_displace = may_refuse
        wanted = self._desired.items()
        for domain in sorted(policy.released.difference(policy.managed_domains)):
            yield from decisions.isolated(domain, partial(decisions.give_up, domain))
        for domain in policy.managed_domains:
            yield from decisions.isolated(domain, partial(decisions.claim, domain))
        for identifier, reason in policy.released_reservations.items():
            yield from decisions.isolated(identifier, partial(decisions.release, identifier, reason))
        for identifier in decisions.orphans:
            if end_orphans and identifier in decisions.accepted:
                yield from decisions.isolated(identifier, partial(decisions.end_orphan, identifier))
        for identifier, item in wanted:
            if may_remove and item.next_action in _GONE:
                yield from decisions.isolated(identifier, partial(decisions.remove, identifier, item))
        yield from self._admit_all([item for item in wanted if item[1].next_action in WANTED], may_refuse=may_refuse)
        for identifier in sorted(decisions.accepted, key=order):
            yield from decisions.isolated(identifier, partial(decisions.repair, identifier, may_refuse=may_refuse))
        if may_remove and self._desired.complete and not self._records.damaged:
            yield from self._sweep()

    def outcome(self, steps: tuple[Step, ...]) -> Plan:
        """The plan, once everything is decided."""
        decisions = self._decisions
        decisions.problems += unowned_rows(decisions.claims, self._desired, self._records)
        return Plan(
            steps,
            tuple(decisions.problems),
            left=decisions.left(),
            unknown_users=tuple(sorted(decisions.claims.unknown_users)),
            unknown_delegations=tuple(sorted(decisions.claims.unknown_delegations)),
            unknown_names=tuple(sorted(decisions.claims.unknown_names)),
            due_names=tuple(sorted(decisions.claims.due_names)),
        )

    def incremental(self, most: int) -> Incremental:
        """The planner for changes after this plan."""
        return Incremental(self._decisions, self._desired, most, may_remove=self._may_remove)

    def _admit_all(self, wanted: list[tuple[Gwid, Wanted]], *, may_refuse: bool) -> Iterator[Step]:
        """Admit by ascending id; refused ones are tried once more after all others (P-14).

        Without that, a redis that lost everything would cost the subdomains of a zone that was given up and taken
        again, since they are older than it.
        """
        decisions = self._decisions
        refused: set[Gwid] = set()
        for identifier, item in wanted:
            if identifier not in decisions.accepted:
                yield from decisions.isolated(identifier, partial(decisions.admit, identifier, item, refused))
        for identifier, item in wanted:
            if identifier in refused:
                last = None if may_refuse else set[Gwid]()
                yield from decisions.isolated(identifier, partial(decisions.admit, identifier, item, last))

    def _sweep(self) -> Iterator[Step]:
        """Remove claims without reservation that serve nothing (P-12), and peers of users that are gone.

        Where the settings say so, P-5: all that is served without one.
        """
        decisions, claims = self._decisions, self._decisions.claims
        wanted = {
            getattr(item.workload, "domain", "").lower()
            for _, item in self._desired.items()
            if item.next_action in WANTED
        }
        for name, owner in list(claims.rows.fields(MANAGED_DOMAINS)):
            claimed = name.lower() in wanted or claims.holders("name", name.lower())
            if not claimed and not subdomain.has_addresses(claims, name):
                claims.rows.put(MANAGED_DOMAINS, name, None)
                claims.reindex("name", name.lower())
                decisions.close(Action.SWEEP, domain=name, user=printable(owner))
            claims.rows.undo()
        for tid, _ in list(claims.rows.fields(PEERS)):
            if not claims.holders("peer", tid):
                claims.rows.put(PEERS, tid, None)
                decisions.close(Action.SWEEP, user=printable(tid))
        for identifier in claims.waiting.names():
            if identifier not in decisions.accepted and identifier not in decisions.waiting:
                claims.waiting.forget(identifier)
                decisions.close(Action.SWEEP, identifier)
        for identifier in claims.proofs.names():
            if identifier not in decisions.accepted:
                claims.proofs.forget(identifier)
                decisions.close(Action.SWEEP, identifier)
        if claims.policy.repair_orphans:
            for orphan in orphans.remove(claims, wanted):
                decisions.close(Action.CLEAN, domain=orphan.domain, user=printable(orphan.user), message=orphan.what)
        yield from decisions.taken()


def _refused(made: Plan) -> set[Gwid]:
    return {step.id for step in made.steps if step.action is Action.REFUSE}
