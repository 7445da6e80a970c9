"""When a pass counts as a full one."""

from __future__ import annotations

import pytest
from tfgateway.explorer.models import NextAction, Result, ResultState, Subdomain
from tfgateway.reconciler.dataset import is_whole
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.reservation import Reservation
from tfgateway.reconciler.planning.model import Left

GRANTED = Result(state=ResultState.OK, workload_id="1-1")


def desired(
    result: Result | None = GRANTED, action: NextAction = NextAction.DEPLOY, *, complete: bool = True
) -> Desired:
    """An explorer that knows one reservation, 1-1."""
    found = Desired("G")
    found.begin_listing()
    members = {} if result is None else {"result": result}
    found.merge(Subdomain(id=1, workload_id=1, node_id="G", next_action=action, domain="www.gw1.example", **members))
    if complete:
        found.end_listing()
    return found


RECORDED = Left(recorded={"1-1": Reservation("1-1", "1", "subdomain", {"domain": "www.gw1.example"})})
NOTHING = Left()


def test_a_granted_reservation_is_recorded_or_the_pass_is_not_full() -> None:
    assert is_whole(desired(), RECORDED)
    assert not is_whole(desired(), NOTHING)


@pytest.mark.parametrize("left", [Left(waiting=frozenset({"1-1"})), Left(damaged={"1-1": "no JSON"})])
def test_what_waits_for_its_parent_or_cannot_be_read_keeps_no_pass_from_being_full(left: Left) -> None:
    assert is_whole(desired(), left)


@pytest.mark.parametrize(
    ("result", "action"),
    [
        (None, NextAction.DEPLOY),
        (Result(state=ResultState.ERROR, workload_id="1-1"), NextAction.DEPLOY),
        (GRANTED, NextAction.DELETE),
        (GRANTED, NextAction.DELETED),
    ],
)
def test_what_was_not_granted_or_is_to_go_is_not_missed(result: Result | None, action: NextAction) -> None:
    assert is_whole(desired(result, action), NOTHING)


def test_without_a_complete_listing_no_pass_is_full() -> None:
    assert not is_whole(desired(complete=False), RECORDED)
