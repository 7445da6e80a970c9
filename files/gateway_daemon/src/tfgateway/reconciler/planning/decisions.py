"""Decisions about single reservations and domains, as the steps of a plan (pure). ``planner`` has their order."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from tfgateway.errors import SchemaError
from tfgateway.explorer.models import WORKLOAD_TYPES, NextAction, ResultState, Undecodable, Workload
from tfgateway.ids import NO_GWID, NO_TID, Gwid, NodeId
from tfgateway.instant import Instant
from tfgateway.reconciler.planning import results
from tfgateway.reconciler.planning.claims import (
    Claims,
    NotNow,
    ParentMissing,
    Policy,
    ProxiesBelow,
    ReservationRefused,
    TakenByOthers,
    UserKeys,
)
from tfgateway.reconciler.planning.displacement import how_to_prove, why_displaced
from tfgateway.reconciler.planning.inputs.desired import WANTED, Desired, Wanted
from tfgateway.reconciler.planning.inputs.records import Records, another, orphans
from tfgateway.reconciler.planning.inputs.reservation import Reservation, of_record, of_workload, same_content
from tfgateway.reconciler.planning.inputs.rows import Actual, Rows
from tfgateway.reconciler.planning.model import Action, Left, Step
from tfgateway.reconciler.planning.primitives import PRIMITIVES, domain_delegate, result_data
from tfgateway.reconciler.planning.result_writer import ResultWriter
from tfgateway.redis_schema.keys import QUARANTINE, RESERVATIONS
from tfgateway.redis_schema.reservations import ZERO_TIME, Recorded, RecordedResult, encode_reservation, rfc3339
from tfgateway.telemetry.text import printable

_UNKNOWN = "the explorer does not know it any more"


def accept_all(claims: Claims, desired: Desired, records: Records) -> dict[Gwid, Reservation]:
    """Claim what all recorded reservations hold, as the explorer describes them where it does."""
    accepted: dict[Gwid, Reservation] = dict(records.unchanged)
    for reservation in accepted.values():
        claims.accept(reservation)
    for identifier, record in records.entries.items():
        wanted = desired.get(identifier)
        workload = wanted.workload if wanted is not None else None
        reservation = of_record(record)
        if isinstance(workload, Workload) and workload.type_name in PRIMITIVES and not another(record, workload):
            reservation = of_workload(workload)
        accepted[identifier] = reservation
        claims.accept(reservation)
    return accepted


class Decisions:
    """The state while a plan is made: what is accepted, which rows change, and the steps so far.

    Each method decides about one item, and writes one step or none. It is called through ``isolated``.
    """

    def __init__(
        self, desired: Desired, records: Records, actual: Actual, policy: Policy, now: Instant, users: UserKeys
    ) -> None:
        """See ``planner.plan_all``."""
        self._desired = desired
        self._records = records
        self._rows = Rows(actual)
        self._results = ResultWriter(self._rows, records, policy.identity, now)
        self._steps: list[Step] = []
        self._undecided: set[str] = set()
        self.claims = Claims(policy, self._rows, users)
        self.accepted = accept_all(self.claims, desired, records)
        self.orphans = dict.fromkeys(orphans(records, desired))
        """Recorded reservations that the explorer does not know any more."""
        self.waiting: dict[Gwid, Reservation] = {}
        """Those that wait for their parent zone."""
        self.spared: Collection[str] = ()
        """Reservations that are not to be refused."""
        self.may_displace = False
        """Whether proxies may end for the sake of a delegation."""
        self.problems = list(actual.problems)

    def begin(self, now: Instant) -> None:
        """Begin another plan on top of the last one."""
        self._results.now = now
        self.problems = []

    def left(self) -> Left:
        """What is recorded once all steps are applied."""
        damaged = {name: why for name, why in self._records.damaged.items() if name not in self.accepted}
        return Left(
            self.accepted, damaged, frozenset(self._undecided), frozenset(self.waiting), self.claims.proofs.known
        )

    def taken(self) -> list[Step]:
        """The steps since the last call."""
        steps, self._steps = self._steps, []
        return steps

    def isolated(self, what: str, decide: Callable[[], None]) -> list[Step]:
        """The steps for one item; an unexpected error about it must not stop the others (P-1, P-2)."""
        try:
            decide()
        except NotNow as reason:
            self._undecided.add(what)
            self.problems.append(f"{printable(what)} waits: {printable(reason)}")
        except Exception as error:
            self._undecided.add(what)
            self.problems.append(f"{printable(what)} not decided: {type(error).__name__}: {printable(error)}")
        finally:
            self._rows.undo()
        return self.taken()

    def claim(self, domain: str) -> None:
        """Claim a managed domain (P-17). Errors: ``NotNow``, somebody else has it."""
        owner, own = self.claims.zones.get(domain), self.claims.policy.node_id
        is_gateways = self.claims.is_gateways(domain)
        if owner != own and not (is_gateways and domain in self.claims.policy.released):
            # P-17, P-19: never taken by force, and no reason not to serve everything else.
            hint = f": `tfgateway reconcile --release-domain {domain}` takes it over" if is_gateways else ""
            raise NotNow(f"it is managed here by configuration, but redis says that it belongs to {owner}{hint}")
        self.claims.zones.set(domain, own)
        domain_delegate.claim(self.claims, domain, own)
        self.close(Action.CLAIM, domain=domain, message="" if owner == own else f"taken over from {owner}")

    def give_up(self, domain: str) -> None:
        """Give up a domain that is not managed any more (P-19)."""
        domain_delegate.give_up(self.claims, domain)
        self.close(Action.RELEASE, domain=domain)

    def release(self, identifier: Gwid, reason: str) -> None:
        """End a reservation for an operator: its user gets an error with the reason. Errors: ``NotNow``."""
        if identifier not in self._records and identifier not in self._records.damaged:
            raise NotNow("it is not released: nothing is recorded for it")
        if identifier in self.orphans or identifier in self._desired.unknown:
            self.end_orphan(identifier, Action.RELEASE, reason)
            return
        wanted = self._desired.get(identifier)
        if wanted is None:
            raise NotNow("it is not released: the explorer has not said whether it knows it")
        reservation = self.accepted.get(identifier)
        if reservation is not None:
            self._withdraw(identifier, reservation)
        self._refuse(identifier, wanted.workload, reason, Action.RELEASE)

    def end_orphan(self, identifier: Gwid, action: Action = Action.REMOVE, message: str = _UNKNOWN) -> None:
        """End a reservation that the explorer does not know, or has another one for; nothing is reported."""
        reservation = self.accepted.get(identifier)
        if reservation is not None:
            self._withdraw(identifier, reservation)
        self._drop_record(identifier)
        self.close(action, identifier, reservation, message=message)

    def remove(self, identifier: Gwid, wanted: Wanted) -> None:
        """Remove what was recorded or left in redis, whether or not the explorer ever saw our answer (P-7)."""
        reported = wanted.next_action == NextAction.DELETED or self._results.has_deletion(identifier)
        if reported and identifier not in self.accepted and identifier not in self._records.damaged:
            return
        reservation = self.accepted.get(identifier)
        if reservation is None and isinstance(wanted.workload, Workload):
            reservation = of_workload(wanted.workload)
        if identifier not in self.orphans or identifier not in self.accepted:  # else it is another one's record
            if reservation is not None:
                self._withdraw(identifier, reservation)
            self._drop_record(identifier)
        if not reported:
            self._results.write_deletion(identifier)
        self.close(Action.REMOVE, identifier, reservation)

    def admit(self, identifier: Gwid, wanted: Wanted, refused: set[Gwid] | None) -> None:
        """Deploy a reservation, or add it to ``refused``; without that, answer with the refusal."""
        if self._results.has_deletion(identifier):
            return
        workload = wanted.workload
        try:
            if isinstance(workload, Undecodable):
                raise ReservationRefused(f"reservation cannot be read: {workload.reason}")
            reservation = of_workload(workload)
            primitive = PRIMITIVES.get(reservation.type)
            if primitive is None:
                raise ReservationRefused(f"type of reservation not supported: {reservation.type}")
            granted = wanted.result is not None and wanted.result.state == ResultState.OK
            if not granted:
                # A reservation that was granted before and lost here is within the quotas.
                self.claims.check_quotas(reservation)
            try:
                primitive.admit(self.claims, reservation)
            except ReservationRefused as refusal:
                # P-14: only its record was lost. The explorer's result alone is not enough: it may be forged (E-1).
                if not granted or not primitive.holds(self.claims, reservation):
                    if not isinstance(refusal, ProxiesBelow | TakenByOthers):
                        raise
                    self._displace(refusal, why_displaced(self.claims, reservation, refusal))
                    primitive.admit(self.claims, reservation)  # applied only where they are gone
        except ReservationRefused as refusal:
            if refused is not None:
                refused.add(identifier)
            elif isinstance(refusal, ParentMissing) and self._wait(identifier, reservation, refusal, counts=True):
                self.claims.reserve_place(reservation)
            elif identifier in self.spared:
                raise NotNow(f"{refusal}, unless what the explorer does not know any more ends") from refusal
            else:
                if isinstance(workload, Workload):
                    self._withdraw(identifier, of_workload(workload))
                self._refuse(identifier, workload, str(refusal))
            return
        self.claims.accept(reservation)
        try:
            primitive.ensure(self.claims, reservation)
            data = result_data(self.claims, reservation)
            result = self._results.ok(identifier, wanted, workload.workload_type, data)
            self._drop_record(identifier)
            record = _record(
                reservation, workload, results.recorded_result(result, reservation.type, self._results.now.unix_ns)
            )
            self._rows.put(RESERVATIONS, self._field(identifier), encode_reservation(record))
            self._note_proof(reservation)
        except BaseException:
            self.claims.withdraw(reservation)
            raise
        self.accepted[identifier] = reservation
        self.close(Action.DEPLOY, identifier, reservation)

    def _displace(self, refusal: ProxiesBelow | TakenByOthers, message: str) -> None:
        """End the proxies in the way of a reservation (P-4), a step each.

        Errors: ``ReservationRefused``, ``NotNow``.
        """
        wanted = {proxy.id: self._desired.get(proxy.id) for proxy in refusal.proxies if proxy.id not in self.orphans}
        known = {name: item.workload for name, item in wanted.items() if item is not None}
        if len(known) != len(refusal.proxies):  # the others end by an operator's consent only
            raise refusal
        if not self.may_displace:
            raise NotNow(f"{refusal}, and nothing may be removed now")
        if answered := [proxy.id for proxy in refusal.proxies if self._results.has_result(proxy.id)]:
            raise NotNow(f"the explorer has not taken the answer for {answered[0]} yet, which gives way to it")
        self._rows.undo()
        for proxy in refusal.proxies:
            self._end(proxy.id, proxy, known[proxy.id], message)

    def _note_proof(self, reservation: Reservation) -> bool:
        """Note what DNS proves for a proxy outside all zones; whether it has been without proof for too long."""
        proofs, identifier = self.claims.proofs, reservation.id
        if not self.claims.needs_proof(reservation):
            proofs.forget(identifier)
            return False
        proof, complete = self.claims.proof_of(reservation)
        proofs.record(identifier, proof, self._results.now, complete=complete)
        return proofs.is_expired(identifier, self._results.now, complete=complete)

    def _wait(self, identifier: Gwid, reservation: Reservation, missing: ParentMissing, *, counts: bool) -> bool:
        """Whether a reservation waits for its parent zone, still or from now on. counts: whether the time does."""
        waiting = self.claims.waiting
        if not waiting.allowed or (counts and waiting.is_expired(identifier, self._results.now)):
            return False
        self.waiting[identifier] = reservation
        if counts:
            waiting.start(identifier, self._results.now)
            message = waiting.in_words(identifier, missing.parent)
            self.close(Action.WAIT, identifier, reservation, message=message)
        return True

    def repair(self, identifier: Gwid, *, may_refuse: bool) -> None:
        """Correct rows of a deployed reservation that differ from what they should be. Errors: ``NotNow``."""
        reservation = self.accepted[identifier]
        primitive = PRIMITIVES.get(reservation.type)
        wanted = self._desired.get(identifier)
        workload = wanted.workload if wanted is not None and wanted.next_action in WANTED else None
        if identifier in self.orphans:
            workload = None
        may_end = may_refuse and identifier not in self.spared
        # What is on its way to the explorer arrives first.
        if self._note_proof(reservation) and may_end and workload and not self._results.has_result(identifier):
            message = f"not proved in time: {how_to_prove(self.claims, reservation)}"
            self._end(identifier, reservation, workload, message)
            return
        self.close(Action.PROOF, identifier, reservation, message=self.claims.proofs.status(identifier).words)
        try:
            if primitive is not None:
                primitive.ensure(self.claims, reservation)
        except ReservationRefused as refusal:
            self._rows.undo()
            if isinstance(refusal, ParentMissing) and self._wait(identifier, reservation, refusal, counts=may_refuse):
                return
            if workload is None or not may_refuse or identifier in self.spared:
                raise NotNow(str(refusal)) from refusal
            self._end(identifier, reservation, workload, str(refusal))
            return
        self.claims.waiting.forget(identifier)
        action = Action.DEPLOY if identifier in self.claims.waiting else Action.REPAIR
        record = self._records.entries.get(identifier)
        if record is not None and isinstance(workload, Workload):
            if not same_content(of_record(record), reservation):
                record = _record(reservation, workload, record.result)
                self._rows.put(RESERVATIONS, self._field(identifier), encode_reservation(record))
            self.close(action, identifier, reservation)
            if wanted is not None and primitive is not None:
                self._report(identifier, record, wanted, workload, result_data(self.claims, reservation))
        self.close(action, identifier, reservation)

    def _report(self, identifier: Gwid, record: Recorded, wanted: Wanted, workload: Workload, data: bytes) -> None:
        """Send a result when the explorer has none of ours, or another one (P-16). data: of the current answer."""
        if self._results.has_result(identifier):
            return
        given = record.result
        if given is not None and (given.state, given.data_json) == (ResultState.OK, data) and given.signature:
            if results.same_answer(wanted.result, given):
                return
            result = results.from_record(identifier, workload.workload_type, given, self._results.now.unix_ns)
        else:
            result = self._results.make(identifier, workload.workload_type, ResultState.OK, "", data)
            answered = replace(record, result=results.recorded_result(result, record.type, self._results.now.unix_ns))
            self._rows.put(RESERVATIONS, self._field(identifier), encode_reservation(answered))
        self._results.write(identifier, result)
        self.close(Action.REPORT, identifier, of_record(record))

    def _end(self, identifier: Gwid, reservation: Reservation, workload: Workload | Undecodable, message: str) -> None:
        """End a deployed reservation that cannot be served any more, and report that to its user."""
        self._withdraw(identifier, reservation)
        self._drop_record(identifier)
        self._refuse(identifier, workload, message)

    def _withdraw(self, identifier: Gwid, reservation: Reservation) -> None:
        primitive = PRIMITIVES.get(reservation.type)
        if primitive is None:
            if identifier in self.accepted:
                raise NotNow(f"it can not be removed: type of reservation not supported: {reservation.type}")
            return
        if self.accepted.pop(identifier, None) is not None:
            self.claims.withdraw(reservation)
        primitive.release(self.claims, reservation)

    def _refuse(
        self, identifier: Gwid, workload: Workload | Undecodable, message: str, action: Action = Action.REFUSE
    ) -> None:
        category = workload.type if isinstance(workload, Undecodable) else workload.workload_type
        if not self._results.has_result(identifier):
            self._results.write(identifier, self._results.make(identifier, category, ResultState.ERROR, message))
        self._results.write_deletion(identifier)
        self._drop_record(identifier)
        reservation = (
            Reservation(identifier, NO_TID, WORKLOAD_TYPES.get(category, str(category)), {})
            if isinstance(workload, Undecodable)
            else of_workload(workload)
        )
        self.close(action, identifier, reservation, message=message)

    def _drop_record(self, identifier: Gwid) -> None:
        damaged = self._rows.get(RESERVATIONS, identifier) if identifier in self._records.damaged else None
        if damaged is not None:
            self._rows.put(QUARANTINE, identifier, damaged)
        self._rows.put(RESERVATIONS, self._field(identifier), None)
        self.claims.waiting.forget(identifier)
        self.claims.proofs.forget(identifier)

    def close(
        self,
        action: Action,
        identifier: Gwid = NO_GWID,
        reservation: Reservation | None = None,
        *,
        domain: str = "",
        user: str = "",
        message: str = "",
    ) -> None:
        """Close the step, unless it writes nothing."""
        transaction = self._rows.take()
        if not transaction.writes:
            return
        if reservation is not None:
            domain, user = reservation.domain, reservation.user
        type_name = reservation.type if reservation is not None else ""
        self._steps.append(Step(action, transaction, identifier, type_name, domain, user, message))

    def _field(self, identifier: Gwid) -> str:
        """The row that a reservation is recorded in."""
        return self._records.references.get(identifier, identifier)


def _record(reservation: Reservation, workload: Workload, result: RecordedResult | None) -> Recorded:
    try:
        created = rfc3339(int(workload.epoch))
    except SchemaError:
        created = ZERO_TIME
    return Recorded(
        id=reservation.id,
        node_id=NodeId(workload.node_id),
        user_id=reservation.user,
        type=reservation.type,
        data=dict(reservation.data),
        created=created,
        signature=workload.customer_signature.encode(),
        reference=workload.reference,
        result=result,
        version=workload.version,
    )
