"""``plan()``: the steps that lead from what is to what should be. Pure; ``apply`` carries them out one by one.

A step is one reservation and one transaction: its rows, its record and what is told to the explorer belong together
(P-25). Removals come first, then everything by ascending id (P-8). A plan that is applied leaves an empty plan.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from tfgateway.errors import LayoutError
from tfgateway.explorer.models import (
    WORKLOAD_TYPES,
    DomainDelegate,
    NextAction,
    Result,
    ResultState,
    Undecodable,
    Workload,
)
from tfgateway.instant import Instant
from tfgateway.layout.keys import MANAGED_DOMAINS, OUTBOX, PEERS, QUARANTINE, RESERVATIONS, WAITING
from tfgateway.layout.reservations import ZERO_TIME, Recorded, RecordedResult, encode_reservation, rfc3339
from tfgateway.reconciler import answers, orphans
from tfgateway.reconciler.board import Board, NotNow, ParentMissing, Policy, Refusal, UserKeys
from tfgateway.reconciler.desired import WANTED, Desired, Wanted
from tfgateway.reconciler.primitives import PRIMITIVES, result_data, subdomain
from tfgateway.reconciler.primitives.domain_delegate import claim, give_up
from tfgateway.reconciler.records import Records, another
from tfgateway.reconciler.records import orphans as orphans_of
from tfgateway.reconciler.reservation import Reservation, of_record, of_workload, order, same_content
from tfgateway.reconciler.rows import Actual, Rows, Seal, Transaction
from tfgateway.reconciler.strangers import strangers
from tfgateway.telemetry.text import printable

_UNKNOWN = "the explorer does not know it any more"
_GONE = frozenset({NextAction.DELETE, NextAction.DELETED})
_BOOKS = frozenset({OUTBOX, QUARANTINE, RESERVATIONS, WAITING})
"""Keys whose rows nobody is served from."""


class Action(StrEnum):
    """What a step does."""

    CLAIM = "claim"
    """A managed domain becomes, or stays, the gateway's."""
    RELEASE = "release"
    """A domain that is not managed any more becomes nobody's (P-19), or a reservation ends: an operator said so."""
    REMOVE = "remove"
    """A reservation ends; the explorer is told, unless it does not know it."""
    DEPLOY = "deploy"
    """A new reservation, one whose record was lost, or one whose parent zone is there again."""
    WAIT = "wait"
    """A reservation begins to wait for its parent zone."""
    REFUSE = "refuse"
    """An error result, then the deletion is reported: the explorer keeps the message."""
    REPAIR = "repair"
    """Rows or record of a deployed reservation differ from what they should be."""
    REPORT = "report"
    """The explorer does not have our answer."""
    SWEEP = "sweep"
    """A claim to a name, or a wait, that nothing stands behind any more (P-12)."""
    CLEAN = "clean"
    """Something that is served, but that nobody reserved (P-5), where the settings allow to remove it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction, and why."""

    action: Action
    transaction: Transaction
    id: str = ""
    """gwid; empty for what concerns no reservation."""
    type: str = ""
    domain: str = ""
    user: str = ""
    message: str = ""

    def __str__(self) -> str:
        what = " ".join(part for part in (self.id, self.type, printable(self.domain)) if part)
        who = f" of user {self.user}" if self.user else ""
        why = f": {printable(self.message)}" if self.message else ""
        return f"{self.action:<7} {what}{who}{why}"

    def as_data(self) -> dict[str, Any]:
        """Plain values; rows by name only, since values may hold secrets."""
        rows = [f"{printable(row.key)} {printable(row.field or '')}".rstrip() for row in self.transaction.writes]
        return {
            "action": str(self.action),
            "id": self.id,
            "type": self.type,
            "domain": self.domain,
            "user": self.user,
            "message": self.message,
            "rows": rows,
        }


@dataclass(frozen=True, slots=True)
class Left:
    """What is recorded once a plan is applied."""

    recorded: Mapping[str, Reservation] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)
    """Records that cannot be read, and why."""
    undecided: frozenset[str] = frozenset()
    """Reservations that wait for something else to be put right."""
    waiting: frozenset[str] = frozenset()
    """Reservations, recorded or not, that wait for their parent zone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, and what can not be done."""

    steps: tuple[Step, ...] = ()
    problems: tuple[str, ...] = ()
    """One line each, for the operator; nothing in a plan depends on them."""
    held: str = ""
    """Why removals were left out of the plan; empty: they were not."""
    held_steps: tuple[Step, ...] = ()
    """The removals that were left out."""
    orphans: tuple[Step, ...] = ()
    """How reservations would end that the explorer does not know any more, with what ends when they do: never without
    an operator's consent."""
    consented: bool = False
    """Whether it has removals that an operator allowed."""

    @property
    def held_digest(self) -> str:
        """What an operator consents to who allows exactly ``held_steps`` and ``orphans``; empty: there are none."""
        return _digest((*self.held_steps, *self.orphans))

    more: Callable[[Collection[str], Instant], Plan | None] | None = field(default=None, repr=False, compare=False)
    """Plans for reservations (by gwid, at a time as for ``plan``) of which there are news, on top of this plan as
    applied. It answers None, and is not to be asked again, when everything has to be looked at."""
    left: Left = field(default_factory=lambda: Left(), repr=False, compare=False)
    """What there is once the plan is applied."""
    unknown_users: tuple[str, ...] = ()
    """Tids of users whose public key would have been needed; what waits for it is a problem."""

    def summary(self) -> dict[str, int]:
        """Number of steps by action."""
        return dict(Counter(str(step.action) for step in self.steps))

    def as_text(self) -> str:
        """For people; the last line is the sum."""
        lines = [str(step) for step in self.steps]
        lines += [f"problem {text}" for text in self.problems]
        lines += [f"held    {self.held}"] if self.held else []
        lines += [f"held    {step}" for step in self.held_steps]
        lines += [f"orphan  {step}" for step in self.orphans]
        total = ", ".join(f"{count} {action}" for action, count in self.summary().items())
        return "\n".join([*lines, f"{len(self.steps)} steps{': ' + total if total else ''}"])

    def as_markdown(self) -> str:
        """For a ticket or a chat: one table, then what is wrong."""
        lines = ["| action | reservation | type | domain | user | why |", "|---|---|---|---|---|---|"]
        for mark, steps in (("", self.steps), ("held: ", self.held_steps), ("orphan: ", self.orphans)):
            for step in steps:
                cells = (mark + step.action, step.id, step.type, step.domain, step.user, step.message)
                lines.append(f"| {' | '.join(map(_cell, cells))} |")
        notes = [f"**Held back:** {_cell(self.held)}"] if self.held else []
        notes += [f"**Problem:** {_cell(text)}" for text in self.problems]
        total = ", ".join(f"{count} {action}" for action, count in self.summary().items())
        notes.append(f"{len(self.steps)} steps{': ' + total if total else ''}")
        return "\n".join([*lines, "", *(f"- {note}" for note in notes)])

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "steps": [step.as_data() for step in self.steps],
            "summary": self.summary(),
            "problems": list(self.problems),
            "held": self.held,
            "held_steps": [step.as_data() for step in self.held_steps],
            "orphans": [step.as_data() for step in self.orphans],
        }


_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#|!~&]")


def _cell(text: str) -> str:
    """A stranger's text that stays in its cell and is no markup."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def plan(
    desired: Desired,
    records: Records,
    actual: Actual,
    policy: Policy,
    now: Instant,
    users: UserKeys = MappingProxyType({}),
    *,
    consent: str = "",
    most: int = 0,
) -> Plan:
    """Compare and decide. now: for the times in records and results. users: keys known so far.

    most: how many reservations were recorded of late (``guard``); those that are missing since count as removed.

    When more would be removed than the policy allows, the plan is made as if nothing was to be removed; what would be
    refused then is left undecided, because it may be refused only for the sake of what was kept. For the same reason
    nothing is refused that would not be refused without the orphans. consent: the ``held_digest`` of removals and
    orphans that an operator allowed.
    """

    def decided(*, ended: bool = False, spared: Collection[str] = ()) -> Plan:
        planner = _Planner(desired, records, actual, policy, now, users, most)
        return planner.outcome(tuple(planner.decide(ended=ended, spared=spared)))

    made = decided()
    removals = _removals(made, records)
    ended: tuple[Step, ...] = ()
    whole = made
    if orphans_of(records, desired):
        whole = decided(ended=True)
        names = {_name(step) for step in removals}
        ended = tuple(step for step in _removals(whole, records) if _name(step) not in names)
        spared = _refused(made) - _refused(whole)
        if spared:
            made = decided(spared=spared)
            removals = _removals(made, records)
    allowed, gone = _removals_allowed(policy, most, served(records, actual))
    too_many = bool(removals) and gone + len(removals) > allowed
    if consent and consent == _digest((*removals, *ended) if too_many else ended):
        return replace(whole, more=None, consented=True)
    if not too_many:
        return replace(made, orphans=ended)
    others = sum(1 for step in removals if step.action is Action.CLEAN)
    what = f"{len(removals) - others} of {len(records)} reservations" + (f" and {others} orphans" if others else "")
    before = f" after {gone} within the hour" if gone else ""
    held = (
        f"{what} would be removed{before} and at most {allowed} may be: "
        "`tfgateway reconcile --allow-removals` if this is meant"
    )
    planner = _Planner(desired, records, actual, policy, now, users, most)
    kept = planner.outcome(tuple(planner.decide(removals=False)))
    return replace(kept, held=held, held_steps=removals, orphans=ended)


class Stream:
    """A plan whose steps are carried out while the next ones are decided, and not kept.

    Only where so little is recorded that no removal has to be held back: usually when everything is new, and the plan
    would be bigger than all that it leads to.
    """

    def __init__(
        self, desired: Desired, records: Records, actual: Actual, policy: Policy, now: Instant, users: UserKeys
    ) -> None:
        """See ``plan``."""
        # How many orphans there are is known only at the end: they wait for a whole plan.
        self._planner = _Planner(desired, records, actual, replace(policy, repair_orphans=False), now, users, 0)

    @staticmethod
    def fits(policy: Policy, most: int) -> bool:
        """Whether a plan can be a stream when so many reservations are recorded, or were of late."""
        return most <= _removals_allowed(policy, most, most)[0]

    def steps(self) -> Iterator[Step]:
        """All steps, each decided when it is asked for."""
        return self._planner.decide()

    def outcome(self) -> Plan:
        """All but the steps, once they are through."""
        return self._planner.outcome(())


def served(records: Records, actual: Actual) -> int:
    """How many reservations are recorded and do not wait for their parent zone."""
    return len(records) - sum(identifier in records for identifier in actual.hashes.get(WAITING, ()))


def _name(step: Step) -> str:
    return step.id or printable(step.domain)


def needs_consent(made: Plan) -> frozenset[str]:
    """Names of what a plan does not remove without an operator's consent."""
    return frozenset(map(_name, (*made.held_steps, *made.orphans)))


def _digest(steps: Iterable[Step]) -> str:
    names = sorted(map(_name, steps))
    return hashlib.sha256("\n".join(names).encode()).hexdigest() if names else ""


def _refused(made: Plan) -> set[str]:
    return {step.id for step in made.steps if step.action is Action.REFUSE}


def _removals(made: Plan, records: Records) -> tuple[Step, ...]:
    return tuple(step for step in made.steps if _removes(step, records))


def _removes(step: Step, records: Records) -> bool:
    """Whether it ends what was served. What waits was, until it began to wait."""
    if step.action is Action.WAIT:
        return step.id in records
    if step.action is Action.REFUSE and any(row.key == WAITING for row in step.transaction.writes):
        return False
    if step.action not in (Action.REMOVE, Action.REFUSE):
        return step.action is Action.CLEAN
    recorded = step.id in records
    return any(row.key not in _BOOKS or (recorded and row.key == RESERVATIONS) for row in step.transaction.writes)


def _removals_allowed(policy: Policy, most: int, recorded: int) -> tuple[int, int]:
    """How many may be removed of what there was of late, and how many are gone already."""
    most = max(most, recorded)
    return max(policy.max_removal_count, int(policy.max_removal_share * most)), most - recorded


def accept_all(board: Board, desired: Desired, records: Records) -> dict[str, Reservation]:
    """Put everything that was recorded on the board; where the explorer describes it, its word counts."""
    accepted: dict[str, Reservation] = dict(records.settled)
    for reservation in accepted.values():
        board.accept(reservation)
    for identifier, record in records.entries.items():
        wanted = desired.get(identifier)
        workload = wanted.workload if wanted is not None else None
        reservation = of_record(record)
        if isinstance(workload, Workload) and workload.type_name in PRIMITIVES and not another(record, workload):
            reservation = of_workload(workload)
        accepted[identifier] = reservation
        board.accept(reservation)
    return accepted


class _Planner:
    """State while one plan is made."""

    def __init__(
        self,
        desired: Desired,
        records: Records,
        actual: Actual,
        policy: Policy,
        now: Instant,
        users: UserKeys,
        most: int,
    ) -> None:
        self._desired = desired
        self._most = most
        self._records = records
        self._now = now
        self._rows = Rows(actual)
        self._board = Board(policy, self._rows, users)
        self._identity = policy.identity
        self._managed = policy.managed_domains
        self._accepted = accept_all(self._board, desired, records)
        self._orphans = dict.fromkeys(orphans_of(records, desired))
        self._removals = True
        self._spared: Collection[str] = ()
        self._steps: list[Step] = []
        self._undecided: set[str] = set()
        self._waiting: dict[str, Reservation] = {}
        self._problems = list(actual.problems)

    def decide(self, *, removals: bool = True, ended: bool = False, spared: Collection[str] = ()) -> Iterator[Step]:
        """Step by step. removals: may anything be removed? ended: do orphans end? spared: who is not to be refused."""
        # Before everything was listed, what a reservation stands on may only not have been shown yet.
        may_refuse = removals and self._desired.complete
        self._removals, self._spared = removals, spared
        wanted = self._desired.items()
        for domain in sorted(self._board.policy.released.difference(self._managed)):
            yield from self._isolated(domain, partial(self._give_up, domain))
        for domain in self._managed:
            yield from self._isolated(domain, partial(self._claim, domain))
        for identifier, reason in self._board.policy.released_reservations.items():
            yield from self._isolated(identifier, partial(self._let_go, identifier, reason))
        for identifier in self._orphans:
            if ended and identifier in self._accepted:
                yield from self._isolated(identifier, partial(self._end_orphan, identifier))
        for identifier, item in wanted:
            if removals and item.next_action in _GONE:
                yield from self._isolated(identifier, partial(self._remove, identifier, item))
        yield from self._admit_all([item for item in wanted if item[1].next_action in WANTED], may_refuse=may_refuse)
        for identifier in sorted(self._accepted, key=order):
            yield from self._isolated(identifier, partial(self._repair, identifier, may_refuse=may_refuse))
        if removals and self._desired.complete and not self._records.damaged:
            self._sweep()
            yield from self._taken()

    def outcome(self, steps: tuple[Step, ...]) -> Plan:
        """Once everything is decided."""
        self._problems += strangers(self._board, self._desired, self._records)
        return Plan(
            steps,
            tuple(self._problems),
            more=self.more,
            left=self._left(),
            unknown_users=tuple(sorted(self._board.unknown_users)),
        )

    def _left(self) -> Left:
        damaged = {name: why for name, why in self._records.damaged.items() if name not in self._accepted}
        return Left(self._accepted, damaged, frozenset(self._undecided), frozenset(self._waiting))

    def _taken(self) -> list[Step]:
        """The steps since the last call."""
        steps, self._steps = self._steps, []
        return steps

    def more(self, identifiers: Collection[str], now: Instant) -> Plan | None:
        """``Plan.more``."""
        self._now, self._problems = now, []
        steps: list[Step] = []
        wanted = [(name, item) for name in sorted(identifiers, key=order) if (item := self._desired.get(name))]
        gone = [name for name, item in wanted if item.next_action in _GONE and name in self._accepted]
        known = any(name in self._accepted for name, item in wanted if item.next_action not in _GONE)
        dark = sum(name in self._accepted for name in self._waiting)
        allowed, before = _removals_allowed(self._board.policy, self._most, len(self._accepted) - dark)
        if not self._desired.complete or known or len(wanted) != len(identifiers):
            return None
        if any(name in self._waiting or self._has_children(name, item) for name, item in wanted):
            return None
        if gone and (not self._removals or before + len(gone) > allowed):
            return None
        refused: set[str] = set()
        for name, item in wanted:
            if item.next_action in _GONE:
                steps += self._isolated(name, partial(self._remove, name, item))
        for name, item in wanted:
            if item.next_action in WANTED:
                steps += self._isolated(name, partial(self._admit, name, item, refused))
        if refused or self._problems:
            return None
        return Plan(tuple(steps), left=self._left())

    def _has_children(self, identifier: str, wanted: Wanted) -> bool:
        """Whether others stand in, or wait for, the zone that this is about."""
        reservation = self._accepted.get(identifier)
        if reservation is None and isinstance(wanted.workload, DomainDelegate):
            reservation = of_workload(wanted.workload)
        if reservation is None or reservation.type != "domain_delegate":
            return False
        zone = reservation.domain
        waiting = (one.domain for one in self._waiting.values())
        return (
            zone in self._board.names
            or bool(self._board.names.below(zone))
            or any(name == zone or name.endswith(f".{zone}") for name in waiting)
        )

    def _isolated(self, what: str, decide: Callable[[], None]) -> list[Step]:
        """The steps for one item; one that breaks a rule nobody thought of must not stop the others (P-1, P-2)."""
        try:
            decide()
        except NotNow as reason:
            self._undecided.add(what)
            self._problems.append(f"{printable(what)} waits: {printable(reason)}")
        except Exception as error:
            self._undecided.add(what)
            self._problems.append(f"{printable(what)} not decided: {type(error).__name__}: {printable(error)}")
        finally:
            self._rows.undo()
        return self._taken()

    def _claim(self, domain: str) -> None:
        owner, own = self._board.zones.get(domain), self._identity.node_id
        former = self._board.is_gateways(domain)
        if owner != own and not (former and domain in self._board.policy.released):
            # P-17, P-19: never taken by force, and no reason not to serve everything else.
            hint = f": `tfgateway reconcile --release-domain {domain}` takes it over" if former else ""
            raise NotNow(f"it is managed here by configuration, but redis says that it belongs to {owner}{hint}")
        self._board.zones.set(domain, own)
        claim(self._board, domain, own)
        self._close(Action.CLAIM, domain=domain, message="" if owner == own else f"taken over from {owner}")

    def _give_up(self, domain: str) -> None:
        give_up(self._board, domain)
        self._close(Action.RELEASE, domain=domain)

    def _let_go(self, identifier: str, reason: str) -> None:
        """What an operator ends is an error to the user: the explorer keeps the reason."""
        if identifier not in self._records and identifier not in self._records.damaged:
            raise NotNow("it is not released: nothing is recorded for it")
        if identifier in self._orphans or identifier in self._desired.unknown:
            self._end_orphan(identifier, Action.RELEASE, reason)
            return
        wanted = self._desired.get(identifier)
        if wanted is None:
            raise NotNow("it is not released: the explorer has not said whether it knows it")
        reservation = self._accepted.get(identifier)
        if reservation is not None:
            self._release(identifier, reservation)
        self._refuse(identifier, wanted.workload, reason, Action.RELEASE)

    def _end_orphan(self, identifier: str, action: Action = Action.REMOVE, message: str = _UNKNOWN) -> None:
        """Nothing is reported: the explorer does not know it, or knows another reservation under its id."""
        reservation = self._accepted.get(identifier)
        if reservation is not None:
            self._release(identifier, reservation)
        self._drop_record(identifier)
        self._close(action, identifier, reservation, message=message)

    def _remove(self, identifier: str, wanted: Wanted) -> None:
        """P-7: what was recorded or left in redis decides, not whether the explorer ever saw our answer."""
        told = wanted.next_action == NextAction.DELETED or self._waits(answers.deleted_field(identifier))
        if told and identifier not in self._accepted and identifier not in self._records.damaged:
            return
        reservation = self._accepted.get(identifier)
        if reservation is None and isinstance(wanted.workload, Workload):
            reservation = of_workload(wanted.workload)
        if identifier not in self._orphans or identifier not in self._accepted:  # else it is another one's record
            if reservation is not None:
                self._release(identifier, reservation)
            self._drop_record(identifier)
        if not told:
            self._tell_deleted(identifier)
        self._close(Action.REMOVE, identifier, reservation)

    def _admit_all(self, wanted: list[tuple[str, Wanted]], *, may_refuse: bool) -> Iterator[Step]:
        """By ascending id; who would be refused is looked at once more after all others (P-14).

        Without that, a redis that lost everything would cost the subdomains of a zone that was given up and taken
        again, since they are older than it.
        """
        refused: set[str] = set()
        for identifier, item in wanted:
            if identifier not in self._accepted:
                yield from self._isolated(identifier, partial(self._admit, identifier, item, refused))
        for identifier, item in wanted:
            if identifier in refused:
                last = None if may_refuse else set[str]()
                yield from self._isolated(identifier, partial(self._admit, identifier, item, last))

    def _admit(self, identifier: str, wanted: Wanted, refused: set[str] | None) -> None:
        """Deploy it, or add it to ``refused``; without that, answer with the refusal."""
        if self._waits(answers.deleted_field(identifier)):
            return
        workload = wanted.workload
        try:
            if isinstance(workload, Undecodable):
                raise Refusal(f"reservation cannot be read: {workload.reason}")
            reservation = of_workload(workload)
            primitive = PRIMITIVES.get(reservation.type)
            if primitive is None:
                raise Refusal(f"type of reservation not supported: {reservation.type}")
            granted = wanted.result is not None and wanted.result.state == ResultState.OK
            if not granted:
                # What was granted once and got lost here is no more than the user had.
                self._board.check_quotas(reservation)
            try:
                primitive.admit(self._board, reservation)
            except Refusal:
                # P-14: only its record was lost. The explorer's word alone is not enough: anybody may give it (E-1).
                if not granted or not primitive.holds(self._board, reservation):
                    raise
        except Refusal as refusal:
            if refused is not None:
                refused.add(identifier)
            elif isinstance(refusal, ParentMissing) and self._wait(identifier, reservation, refusal, counts=True):
                self._board.reserve_place(reservation)
            elif identifier in self._spared:
                raise NotNow(f"{refusal}, unless what the explorer does not know any more ends") from refusal
            else:
                if isinstance(workload, Workload):
                    self._release(identifier, of_workload(workload))
                self._refuse(identifier, workload, str(refusal))
            return
        self._board.accept(reservation)
        try:
            primitive.ensure(self._board, reservation)
            data = result_data(self._board, reservation)
            result = self._answer_ok(identifier, wanted, workload.workload_type, data)
            self._drop_record(identifier)
            record = _record(
                reservation, workload, answers.recorded_result(result, reservation.type, self._now.unix_ns)
            )
            self._rows.put(RESERVATIONS, self._field(identifier), encode_reservation(record))
        except BaseException:
            self._board.withdraw(reservation)
            raise
        self._accepted[identifier] = reservation
        self._close(Action.DEPLOY, identifier, reservation)

    def _wait(self, identifier: str, reservation: Reservation, missing: ParentMissing, *, counts: bool) -> bool:
        """Whether it waits for its parent zone, still or from now on. counts: whether the time does."""
        waiting = self._board.waiting
        if not waiting.allowed or (counts and waiting.over(identifier, self._now)):
            return False
        self._waiting[identifier] = reservation
        if counts:
            waiting.start(identifier, self._now)
            message = waiting.in_words(identifier, missing.parent)
            self._close(Action.WAIT, identifier, reservation, message=message)
        return True

    def _repair(self, identifier: str, *, may_refuse: bool) -> None:
        reservation = self._accepted[identifier]
        primitive = PRIMITIVES.get(reservation.type)
        wanted = self._desired.get(identifier)
        workload = wanted.workload if wanted is not None and wanted.next_action in WANTED else None
        if identifier in self._orphans:
            workload = None
        try:
            if primitive is not None:
                primitive.ensure(self._board, reservation)
        except Refusal as refusal:
            self._rows.undo()
            if isinstance(refusal, ParentMissing) and self._wait(identifier, reservation, refusal, counts=may_refuse):
                return
            if workload is None or not may_refuse or identifier in self._spared:
                raise NotNow(str(refusal)) from refusal
            self._end(identifier, reservation, workload, str(refusal))
            return
        self._board.waiting.stop(identifier)
        action = Action.DEPLOY if identifier in self._board.waiting else Action.REPAIR
        record = self._records.entries.get(identifier)
        if record is not None and isinstance(workload, Workload):
            if not same_content(of_record(record), reservation):
                record = _record(reservation, workload, record.result)
                self._rows.put(RESERVATIONS, self._field(identifier), encode_reservation(record))
            self._close(action, identifier, reservation)
            if wanted is not None and primitive is not None:
                self._report(identifier, record, wanted, workload, result_data(self._board, reservation))
        self._close(action, identifier, reservation)

    def _report(self, identifier: str, record: Recorded, wanted: Wanted, workload: Workload, data: bytes) -> None:
        """P-16: the explorer has no answer of ours, or another one. data: of the answer as it would be given now."""
        place = answers.result_field(identifier)
        if self._waits(place):
            return
        given = record.result
        if given is not None and (given.state, given.data_json) == (ResultState.OK, data) and given.signature:
            if answers.same_answer(wanted.result, given):
                return
            result = answers.from_record(identifier, workload.workload_type, given, self._now.unix_ns)
        else:
            result = answers.make_result(
                identifier, workload.workload_type, ResultState.OK, "", self._identity, self._now.unix_ns, data
            )
            answered = replace(record, result=answers.recorded_result(result, record.type, self._now.unix_ns))
            self._rows.put(RESERVATIONS, self._field(identifier), encode_reservation(answered))
        self._tell(identifier, result)
        self._close(Action.REPORT, identifier, of_record(record))

    def _end(self, identifier: str, reservation: Reservation, workload: Workload | Undecodable, message: str) -> None:
        """A deployed reservation that lost its ground: nothing can serve it any more, and its user should know."""
        self._release(identifier, reservation)
        self._drop_record(identifier)
        self._refuse(identifier, workload, message)

    def _release(self, identifier: str, reservation: Reservation) -> None:
        primitive = PRIMITIVES.get(reservation.type)
        if primitive is None:
            if identifier in self._accepted:
                raise NotNow(f"it can not be removed: type of reservation not supported: {reservation.type}")
            return
        if self._accepted.pop(identifier, None) is not None:
            self._board.withdraw(reservation)
        primitive.release(self._board, reservation)

    def _refuse(
        self, identifier: str, workload: Workload | Undecodable, message: str, action: Action = Action.REFUSE
    ) -> None:
        category = workload.type if isinstance(workload, Undecodable) else workload.workload_type
        place = answers.result_field(identifier)
        if not self._waits(place):
            result = answers.make_result(
                identifier, category, ResultState.ERROR, message, self._identity, self._now.unix_ns
            )
            self._tell(identifier, result)
        self._tell_deleted(identifier)
        self._drop_record(identifier)
        reservation = (
            Reservation(identifier, "", WORKLOAD_TYPES.get(category, str(category)), {})
            if isinstance(workload, Undecodable)
            else of_workload(workload)
        )
        self._close(action, identifier, reservation, message=message)

    def _answer_ok(self, identifier: str, wanted: Wanted, category: int, data: bytes) -> Result:
        """The answer that was given already, or a new one on its way into the outbox."""
        place = answers.result_field(identifier)
        waiting = self._rows.get(OUTBOX, place)
        if isinstance(waiting, Seal):
            raise NotNow("an answer for it is still on its way")
        if waiting is not None:
            result = answers.decode_result(identifier, waiting)
            if result.state != ResultState.OK:
                raise NotNow("an error result for it is still on its way")
            return result
        result = answers.make_result(identifier, category, ResultState.OK, "", self._identity, self._now.unix_ns, data)
        if not answers.same_answer(wanted.result, result):
            self._tell(identifier, result)
        return result

    def _field(self, identifier: str) -> str:
        """Where a reservation is recorded."""
        return self._records.references.get(identifier, identifier)

    def _tell(self, identifier: str, result: Result) -> None:
        """To the explorer, under both ids of a migrated reservation (P-24)."""
        for name in dict.fromkeys((identifier, self._field(identifier))):
            own = msgspec.structs.replace(result, workload_id=name)
            self._rows.put(OUTBOX, answers.result_field(name), answers.encode_result(own))

    def _tell_deleted(self, identifier: str) -> None:
        for name in dict.fromkeys((identifier, self._field(identifier))):
            self._rows.put(OUTBOX, answers.deleted_field(name), answers.encode_deleted(self._now.unix_ns))

    def _drop_record(self, identifier: str) -> None:
        damaged = self._rows.get(RESERVATIONS, identifier) if identifier in self._records.damaged else None
        if damaged is not None:
            self._rows.put(QUARANTINE, identifier, damaged)
        self._rows.put(RESERVATIONS, self._field(identifier), None)
        self._board.waiting.stop(identifier)

    def _sweep(self) -> None:
        """P-12: claims to names that stand behind no reservation and serve nothing, and peers of former users.

        Where the settings say so, P-5: all that is served without one.
        """
        wanted = {
            getattr(item.workload, "domain", "").lower()
            for _, item in self._desired.items()
            if item.next_action in WANTED
        }
        for name, owner in list(self._rows.fields(MANAGED_DOMAINS)):
            held = name.lower() in wanted or self._board.holders("name", name.lower())
            if not held and not subdomain.has_addresses(self._board, name):
                self._rows.put(MANAGED_DOMAINS, name, None)
                self._board.settle("name", name.lower())
                self._close(Action.SWEEP, domain=name, user=printable(owner))
            self._rows.undo()
        for tid, _ in list(self._rows.fields(PEERS)):
            if not self._board.holders("peer", tid):
                self._rows.put(PEERS, tid, None)
                self._close(Action.SWEEP, user=printable(tid))
        for identifier in self._board.waiting.names():
            if identifier not in self._accepted and identifier not in self._waiting:
                self._board.waiting.stop(identifier)
                self._close(Action.SWEEP, identifier)
        if self._board.policy.repair_orphans:
            for orphan in orphans.remove(self._board, wanted):
                self._close(Action.CLEAN, domain=orphan.domain, user=printable(orphan.user), message=orphan.what)

    def _waits(self, place: str) -> bool:
        return self._rows.get(OUTBOX, place) is not None

    def _close(
        self,
        action: Action,
        identifier: str = "",
        reservation: Reservation | None = None,
        *,
        domain: str = "",
        user: str = "",
        message: str = "",
    ) -> None:
        """End the step; one that writes nothing is none."""
        transaction = self._rows.take()
        if not transaction.writes:
            return
        if reservation is not None:
            domain, user = reservation.domain, reservation.user
        type_name = reservation.type if reservation is not None else ""
        self._steps.append(Step(action, transaction, identifier, type_name, domain, user, message))


def _record(reservation: Reservation, workload: Workload, result: RecordedResult | None) -> Recorded:
    try:
        created = rfc3339(int(workload.epoch))
    except LayoutError:
        created = ZERO_TIME
    return Recorded(
        id=reservation.id,
        node_id=workload.node_id,
        user_id=reservation.user,
        type=reservation.type,
        data=dict(reservation.data),
        created=created,
        signature=workload.customer_signature.encode(),
        reference=workload.reference,
        result=result,
        version=workload.version,
    )
