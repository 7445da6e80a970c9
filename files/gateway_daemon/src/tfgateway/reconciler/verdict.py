"""A verdict for each reservation, from the explorer, the record, redis and the planes (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tfgateway.explorer.models import NextAction, ResultState
from tfgateway.reconciler.planning.claims import Claims, NotNow, ReservationRefused
from tfgateway.reconciler.planning.inputs.desired import WANTED, Desired, Wanted
from tfgateway.reconciler.planning.inputs.reservation import Reservation, order
from tfgateway.reconciler.planning.model import Left
from tfgateway.reconciler.planning.primitives import PRIMITIVES, subdomain
from tfgateway.reconciler.planning.proofs import ProofStatus
from tfgateway.reconciler.planning.results import OutboxEntry
from tfgateway.redis_schema.tunnels import Connected


class Verdict(StrEnum):
    """The state of a reservation, in one word for an operator."""

    IN_SYNC = "in_sync"
    """As the explorer wants it, and the explorer knows."""
    PENDING = "pending"
    """The explorer wants something that the reconciler has not done yet."""
    MISSING = "missing"
    """Deployed, but not in redis any more, or not answered for."""
    DRIFTED = "drifted"
    """Deployed, but redis holds something else."""
    ORPHANED = "orphaned"
    """Here, although the explorer does not want or know it."""
    FAILED = "failed"
    """Refused, or it cannot be served; the message says why."""
    UNREPORTED = "unreported"
    """Done, but the explorer has not acknowledged the answer."""
    TARGET_DOWN = "target_down"
    """In sync; but the server that its user named does not answer."""


_DONE = frozenset({Verdict.IN_SYNC, Verdict.TARGET_DOWN})
"""The gateway has done its part."""


class ProbeResult(StrEnum):
    """The outcome of probing a reservation as a visitor would."""

    RIGHT = "right"
    WRONG = "wrong"
    """Something else than it should be, or nothing, although the plane runs."""
    NO_PLANE = "no plane"
    """The plane that serves it does not run."""
    NO_TARGET = "no target"
    """The plane runs, and its user's server cannot be reached by the plane nor without it."""
    NO_CLIENT = "no client"
    """The plane runs, and no tunnel client of its user is connected."""


class RowState(StrEnum):
    """The state of a reservation's rows in redis."""

    OK = "ok"
    MISSING = "missing"
    DRIFTED = "drifted"
    GROUNDLESS = "groundless"
    """There is no zone that could hold it."""
    WAITING = "waiting"
    """The same, and it waits for that zone."""
    UNKNOWN = "unknown"
    """Redis cannot be asked."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All known facts of one reservation."""

    explorer_asked: bool
    """The explorer answered, so that ``wanted`` None means that it does not list the reservation."""
    wanted: Wanted | None
    recorded: bool
    rows: RowState
    answer: ProbeResult | None
    """None: there is nothing to probe, or nothing to probe it with."""
    waiting: OutboxEntry | None = None
    damaged: str = ""
    """Why the record cannot be read; empty: it can, or there is none."""
    ground: str = ""
    """Why no zone can hold it, or what it waits for; empty: one can."""
    client: Connected | None = None
    """The tunnel client that is connected."""
    proof: ProofStatus | None = None
    """What DNS proves for it; None: it needs no proof."""

    @property
    def served(self) -> bool | None:
        """Whether a visitor is served; None: not probed."""
        return None if self.answer is None else self.answer is ProbeResult.RIGHT


@dataclass(frozen=True, slots=True)
class Judged:
    """A reservation and its verdict."""

    reservation: Reservation
    facts: Facts
    verdict: Verdict
    message: str

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do for the gateway or an operator."""
        return self.verdict in _DONE or self.facts.rows is RowState.WAITING

    def as_data(self) -> dict[str, Any]:
        """Plain values, as ``tfgateway state --json`` shows them."""
        wanted = self.facts.wanted
        seen = None
        if wanted is not None:
            result_state = None if wanted.result is None else int(wanted.result.state)
            seen = {"next_action": int(wanted.next_action), "result_state": result_state}
        return {
            "id": self.reservation.id,
            "type": self.reservation.type,
            "domain": self.reservation.domain,
            "user": self.reservation.user,
            "verdict": str(self.verdict),
            "message": self.message,
            "explorer": seen,
            "recorded": self.facts.recorded,
            "redis": self.facts.rows is RowState.OK,
            "served": self.facts.served,
            "tunnel": None if self.facts.client is None else self.facts.client._asdict(),
            "proof": None if self.facts.proof is None else self.facts.proof.as_data(),
        }


def judge(facts: Facts) -> tuple[Verdict, str]:
    """The verdict, and an explanation where one is needed."""
    wanted = facts.wanted
    if wanted is None:
        if facts.explorer_asked:
            return Verdict.ORPHANED, facts.damaged or "the explorer does not list it"
        return _deployed(facts)
    answer = (facts.waiting.result if facts.waiting is not None else None) or wanted.result
    if answer is not None and answer.state == ResultState.ERROR:
        return Verdict.FAILED, answer.message
    if wanted.next_action == NextAction.DELETED:
        return Verdict.ORPHANED, "the explorer says that it is deleted"
    if wanted.next_action == NextAction.DELETE:
        if facts.recorded or facts.damaged:
            return Verdict.PENDING, "it is to be removed"
        return Verdict.UNREPORTED, "it is removed, and the explorer has not acknowledged it"
    if wanted.next_action not in WANTED:
        return Verdict.PENDING, "the explorer does not want it deployed yet"
    if facts.damaged:
        return Verdict.DRIFTED, facts.damaged
    if not facts.recorded:
        return Verdict.PENDING, facts.ground or "it is to be deployed"
    verdict, message = _deployed(facts)
    if verdict in _DONE and not _acknowledged(facts):
        return Verdict.UNREPORTED, "the explorer has not acknowledged the answer"
    if not message and facts.proof is not None and not facts.proof.proved:
        message = facts.proof.words
    return verdict, message


def _deployed(facts: Facts) -> tuple[Verdict, str]:
    if facts.damaged:
        return Verdict.DRIFTED, facts.damaged
    if facts.rows is RowState.GROUNDLESS:
        return Verdict.FAILED, facts.ground
    if facts.rows is RowState.WAITING:
        return Verdict.PENDING, facts.ground
    if facts.rows is RowState.MISSING:
        return Verdict.MISSING, "redis lacks rows of it"
    if facts.rows is RowState.DRIFTED:
        return Verdict.DRIFTED, "redis holds other rows than it should"
    return _SERVED[facts.answer]


_SERVED: Mapping[ProbeResult | None, tuple[Verdict, str]] = {
    None: (Verdict.IN_SYNC, ""),
    ProbeResult.RIGHT: (Verdict.IN_SYNC, ""),
    ProbeResult.WRONG: (Verdict.MISSING, "the gateway does not answer for it"),
    ProbeResult.NO_PLANE: (Verdict.MISSING, "the plane that serves it does not run"),
    ProbeResult.NO_TARGET: (Verdict.TARGET_DOWN, "its target does not answer"),
    ProbeResult.NO_CLIENT: (Verdict.IN_SYNC, "no client connected"),
}


def _acknowledged(facts: Facts) -> bool:
    if facts.waiting is not None or facts.wanted is None or facts.wanted.result is None:
        return False
    return facts.wanted.result.state == ResultState.OK


def row_state(claims: Claims, reservation: Reservation, *, recorded: bool = True) -> tuple[RowState, str]:
    """What redis holds for a reservation, and why there is no ground for it if there is none.

    recorded: whether redis has a record of it, so that its claims count.
    """
    parent = subdomain.parent_missing(claims, reservation)
    if parent and claims.waiting.allowed:
        return RowState.WAITING, claims.waiting.in_words(reservation.id, parent)
    if not recorded:
        return RowState.MISSING, ""
    primitive = PRIMITIVES.get(reservation.type)
    if primitive is None:
        return RowState.OK, ""
    try:
        primitive.ensure(claims, reservation)
        writes = claims.rows.peek().writes
    except (ReservationRefused, NotNow) as reason:
        return RowState.GROUNDLESS, str(reason)
    finally:
        claims.rows.undo()
    if not writes:
        return RowState.OK, ""
    lacking = any(claims.rows.get(row.key, row.field) is None for row in writes)
    claims.rows.undo()
    return (RowState.MISSING if lacking else RowState.DRIFTED), ""


def tally(desired: Desired, left: Left, problems: Mapping[str, RowState]) -> dict[str, int]:
    """The number of reservations of each verdict after a pass, without asking redis or the planes again.

    left: what the pass left behind. problems: what redis holds of those that it could not put right; the others are as
    planned.
    """
    counts: Counter[str] = Counter()
    shown = {name for name, wanted in desired.items() if wanted.next_action != NextAction.DELETED}
    for identifier in shown.union(left.recorded, left.damaged):
        facts = Facts(
            explorer_asked=desired.complete,
            wanted=desired.get(identifier),
            recorded=identifier in left.recorded,
            rows=problems.get(identifier, RowState.WAITING if identifier in left.waiting else RowState.OK),
            answer=None,
            damaged=left.damaged.get(identifier, ""),
        )
        counts[judge(facts)[0]] += 1
    return {str(verdict): counts[verdict] for verdict in Verdict}


def summary(judged: Sequence[Judged]) -> dict[str, int]:
    """Reservations by verdict, all verdicts present."""
    counts = Counter(one.verdict for one in judged)
    return {str(verdict): counts[verdict] for verdict in Verdict}


def by_id(judged: Sequence[Judged]) -> list[Judged]:
    """In the order in which the explorer gave out the ids."""
    return sorted(judged, key=lambda one: order(one.reservation.id))
