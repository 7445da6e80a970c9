"""Each verdict, from facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tfgateway.explorer.models import NextAction, Result, ResultState, Subdomain
from tfgateway.reconciler.planning.claims import Claims
from tfgateway.reconciler.planning.decisions import accept_all
from tfgateway.reconciler.planning.inputs.desired import Wanted
from tfgateway.reconciler.planning.inputs.reservation import Reservation
from tfgateway.reconciler.planning.inputs.rows import Rows
from tfgateway.reconciler.planning.results import OutboxEntry
from tfgateway.reconciler.verdict import (
    Facts,
    Judged,
    ProbeResult,
    RowState,
    Verdict,
    by_id,
    judge,
    row_state,
    summary,
    tally,
)
from tfgateway.redis_schema.tunnels import Connected

from tests.unit.daemon.reconciler.conftest import read_records

OK = Result(state=ResultState.OK)
ERROR = Result(state=ResultState.ERROR, message="no")


def facts(action: NextAction | None = NextAction.DEPLOY, result: Result | None = OK, **members: Any) -> Facts:
    wanted = None if action is None else Wanted(Subdomain(), action, result)
    given: dict[str, Any] = {"explorer_asked": True, "recorded": True, "rows": RowState.OK, "answer": ProbeResult.RIGHT}
    return Facts(wanted=wanted, **(given | members))


@pytest.mark.parametrize(
    ("known", "verdict", "word"),
    [
        (facts(), Verdict.IN_SYNC, ""),
        (facts(answer=None), Verdict.IN_SYNC, ""),
        (facts(action=None, explorer_asked=False), Verdict.IN_SYNC, ""),
        (facts(recorded=False, rows=RowState.MISSING, answer=None, result=None), Verdict.PENDING, "to be deployed"),
        (facts(NextAction.CREATE, None, recorded=False), Verdict.PENDING, "to be deployed"),
        (facts(NextAction.DELETE), Verdict.PENDING, "to be removed"),
        (facts(NextAction.SIGN, None, recorded=False), Verdict.PENDING, "does not want it"),
        (facts(rows=RowState.MISSING), Verdict.MISSING, "lacks rows"),
        (facts(recorded=False, rows=RowState.WAITING, ground="waits for x"), Verdict.PENDING, "waits for x"),
        (facts(rows=RowState.WAITING, ground="waits for x"), Verdict.PENDING, "waits for x"),
        (facts(answer=ProbeResult.WRONG), Verdict.MISSING, "the gateway does not answer"),
        (facts(answer=ProbeResult.NO_PLANE), Verdict.MISSING, "the plane that serves it does not run"),
        (facts(answer=ProbeResult.NO_TARGET), Verdict.TARGET_DOWN, "its target does not answer"),
        (facts(answer=ProbeResult.NO_TARGET, result=None), Verdict.UNREPORTED, "has not acknowledged"),
        (facts(answer=ProbeResult.NO_TARGET, rows=RowState.DRIFTED), Verdict.DRIFTED, "other rows"),
        (facts(rows=RowState.DRIFTED), Verdict.DRIFTED, "other rows"),
        (facts(damaged="cannot be read"), Verdict.DRIFTED, "cannot be read"),
        (facts(action=None), Verdict.ORPHANED, "does not list it"),
        (facts(NextAction.DELETED), Verdict.ORPHANED, "deleted"),
        (facts(NextAction.DELETE, ERROR, recorded=False), Verdict.FAILED, "no"),
        (facts(result=None, recorded=False, waiting=OutboxEntry("1-1", ERROR, True)), Verdict.FAILED, "no"),
        (facts(rows=RowState.GROUNDLESS, ground="no zone"), Verdict.FAILED, "no zone"),
        (facts(result=None), Verdict.UNREPORTED, "has not acknowledged"),
        (facts(waiting=OutboxEntry("1-1", OK)), Verdict.UNREPORTED, "has not acknowledged"),
        (facts(NextAction.DELETE, recorded=False), Verdict.UNREPORTED, "removed"),
        (facts(action=None, explorer_asked=False, rows=RowState.DRIFTED), Verdict.DRIFTED, "other rows"),
        (facts(rows=RowState.UNKNOWN), Verdict.IN_SYNC, ""),
    ],
)
def test_verdicts(known: Facts, verdict: Verdict, word: str) -> None:
    found, message = judge(known)
    assert found is verdict
    assert word in message
    assert bool(message) is (verdict is not Verdict.IN_SYNC)


def test_a_tunnel_without_a_client_is_no_drift() -> None:
    assert judge(facts(answer=ProbeResult.NO_CLIENT)) == (Verdict.IN_SYNC, "no client connected")
    assert judge(facts(answer=ProbeResult.NO_CLIENT, result=None))[0] is Verdict.UNREPORTED


@pytest.mark.parametrize(
    ("known", "done"),
    [
        (facts(), True),
        (facts(answer=ProbeResult.NO_TARGET), True),
        (facts(rows=RowState.WAITING, ground="waits"), True),
        (facts(recorded=False, rows=RowState.MISSING), False),
        (facts(answer=ProbeResult.NO_PLANE), False),
        (facts(answer=ProbeResult.WRONG), False),
    ],
)
def test_what_is_its_users_business_needs_no_look(known: Facts, done: bool) -> None:
    assert Judged(Reservation("1-1", "7", "proxy", {}), known, *judge(known)).is_done is done


def test_a_judged_reservation_has_the_members_of_the_contract() -> None:
    judged = Judged(Reservation("1-1", "7", "subdomain", {"domain": "A.b"}), facts(), Verdict.IN_SYNC, "")
    assert judged.as_data() == {
        "id": "1-1",
        "type": "subdomain",
        "domain": "a.b",
        "user": "7",
        "verdict": "in_sync",
        "message": "",
        "explorer": {"next_action": 3, "result_state": 1},
        "recorded": True,
        "redis": True,
        "served": True,
        "tunnel": None,
        "proof": None,
    }
    visited = Judged(judged.reservation, facts(client=Connected(1767225600, "2001:db8::1")), Verdict.IN_SYNC, "")
    assert visited.as_data()["tunnel"] == {"since": 1767225600, "source": "2001:db8::1"}
    assert Judged(judged.reservation, facts(action=None), Verdict.ORPHANED, "x").as_data()["explorer"] is None
    assert summary([judged, judged]) == {str(verdict): 0 for verdict in Verdict} | {"in_sync": 2}
    later = Judged(Reservation("10-1", "7", "t", {}), facts(), Verdict.IN_SYNC, "")
    assert by_id([later, judged]) == [judged, later]


def test_rows_are_judged_one_reservation_at_a_time(node: Any) -> None:
    node.delegate(1, "alice.example")
    node.subdomain(2, "www.alice.example", "203.0.113.5")
    node.subdomain(3, "www.alice.example", "203.0.113.6")
    node.proxy(4, "www.alice.example")
    node.settle()

    def states() -> list[RowState]:
        records = read_records(node.hashes["tfgateway_reservations"].items())
        claims = Claims(node.policy, Rows(node.actual))
        accepted = accept_all(claims, node.desired, records)
        return [row_state(claims, accepted[identifier])[0] for identifier in ("1-1", "2-1", "3-1", "4-1")]

    assert states() == [RowState.OK] * 4
    node.put("alice.example.", "www", '{"a":[{"ip":"203.0.113.5","ttl":3600}]}')
    assert states() == [RowState.OK, RowState.DRIFTED, RowState.DRIFTED, RowState.OK]
    node.put("alice.example.", "www", None)
    node.strings.clear()
    assert states() == [RowState.OK, RowState.MISSING, RowState.MISSING, RowState.MISSING]
    node.put("alice.example.", "__owner__", "{}")
    assert states()[0] is RowState.DRIFTED


def test_the_reconcilers_own_tally_has_every_verdict(node: Any) -> None:
    for number in range(1, 5):
        node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5")
    made = node.settle()
    node.acknowledge()
    assert tally(node.desired, made.left, {})["in_sync"] == 4
    node.subdomain(5, "unreported.gw1.example", "203.0.113.5")
    node.unknown(6, 12)
    made = node.settle()
    node.put("tfgateway_reservations", "7-1", "damaged")
    node.subdomain(8, "pending.gw1.example", "203.0.113.5")
    node.delete(node.desired.get("4-1").workload)
    left = node.plan().left
    left = replace(left, recorded={name: one for name, one in made.left.recorded.items() if name != "8-1"})
    state = {"1-1": RowState.MISSING, "2-1": RowState.DRIFTED}
    waiting = Result(state=ResultState.ERROR, workload_id="6-1", message="no")
    node.desired.acknowledge("6-1", waiting)
    assert tally(node.desired, left, state) == {
        "in_sync": 1,
        "pending": 2,
        "missing": 1,
        "drifted": 1,
        "orphaned": 1,
        "failed": 1,
        "unreported": 1,
        "target_down": 0,
    }
