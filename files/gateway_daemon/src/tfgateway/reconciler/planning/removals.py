"""Which steps of a plan end what is served, and how many of them need no operator's consent (pure)."""

from __future__ import annotations

from tfgateway.reconciler.planning.claims import Policy
from tfgateway.reconciler.planning.inputs.records import Records
from tfgateway.reconciler.planning.inputs.rows import Actual
from tfgateway.reconciler.planning.model import Action, Plan, Step
from tfgateway.redis_schema.keys import OUTBOX, PROOFS, QUARANTINE, RESERVATIONS, WAITING

_UNSERVED = frozenset({OUTBOX, PROOFS, QUARANTINE, RESERVATIONS, WAITING})
"""Keys whose rows serve nothing."""


def removals(made: Plan, records: Records) -> tuple[Step, ...]:
    """The steps of a plan that end what is served."""
    return tuple(step for step in made.steps if _removes(step, records))


def allowed(policy: Policy, most: int, recorded: int) -> tuple[int, int]:
    """How many of the recent reservations may be removed, and how many are gone already.

    most: how many reservations were recorded within the last hour (``guard``); recorded: how many are now.
    """
    most = max(most, recorded)
    return max(policy.max_removal_count, int(policy.max_removal_share * most)), most - recorded


def served(records: Records, actual: Actual) -> int:
    """The number of recorded reservations that do not wait for their parent zone."""
    return len(records) - sum(identifier in records for identifier in actual.hashes.get(WAITING, ()))


def _removes(step: Step, records: Records) -> bool:
    """Whether a step ends something that is served; what waits was served before."""
    if step.action is Action.WAIT:
        return step.id in records
    if step.action is Action.REFUSE and any(row.key == WAITING for row in step.transaction.writes):
        return False
    if step.action not in (Action.REMOVE, Action.REFUSE):
        return step.action is Action.CLEAN
    recorded = step.id in records
    return any(row.key not in _UNSERVED or (recorded and row.key == RESERVATIONS) for row in step.transaction.writes)
