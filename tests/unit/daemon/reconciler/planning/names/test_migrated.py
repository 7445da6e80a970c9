"""Reservations that the explorer lists under a new id, with the old one as reference (P-24)."""

from __future__ import annotations

from typing import Any

import pytest
from tfgateway.explorer.models import NextAction, ResultState, Subdomain, gwid
from tfgateway.reconciler.planning import results
from tfgateway.redis_schema.keys import OUTBOX, RESERVATIONS
from tfgateway.redis_schema.reservations import decode_reservation


@pytest.fixture
def old(node: Any) -> Any:
    """Deployed under its old id, which the explorer then does not list any more."""
    workload = node.subdomain(5, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.acknowledge()
    node.relist()
    return workload


def told(node: Any, kind: str) -> set[str]:
    return {name.partition(":")[2] for name in node.hashes.get(OUTBOX, {}) if name.startswith(kind)}


def test_p24_a_migrated_one_keeps_its_record_and_is_told_under_both_ids(node: Any, old: Any) -> None:
    before = node.rows()
    node.subdomain(900, "www.gw1.example", "203.0.113.5", reference=gwid(old))
    made = node.settle()
    assert made.summary() == {"report": 1}
    assert node.rows() == before
    assert told(node, "result:") == {"5-1", "900-1"}
    found = [results.decode_result(name, node.get(OUTBOX, f"result:{name}")) for name in ("5-1", "900-1")]
    assert len({(result.state, result.signature) for result in found}) == 1
    assert [result.workload_id for result in found] == ["5-1", "900-1"]
    node.acknowledge()
    node.settle()
    assert not node.hashes.get(OUTBOX)


def test_p24_it_ends_under_both_ids(node: Any, old: Any) -> None:
    node.subdomain(900, "www.gw1.example", "203.0.113.5", reference=gwid(old), next_action=NextAction.DELETE)
    assert node.settle().summary() == {"remove": 1}
    assert told(node, "deleted:") == {"5-1", "900-1"}
    assert not node.hashes.get(RESERVATIONS)
    assert node.get("gw1.example.", "www") is None


@pytest.mark.parametrize("members", [{"tid": 8}, {"domain": "other.gw1.example"}, {"ips": ("203.0.113.6",)}])
def test_p24_nobody_takes_over_what_is_somebody_elses(node: Any, old: Any, members: dict[str, Any]) -> None:
    wanted = {"domain": "www.gw1.example", "ips": ("203.0.113.5",), "tid": 7} | members
    domain, ips = wanted.pop("domain"), wanted.pop("ips")
    node.subdomain(900, domain, *ips, reference=gwid(old), next_action=NextAction.DELETE, **wanted)
    node.settle()
    assert node.recorded(old)
    assert node.get("gw1.example.", "www") is not None
    assert told(node, "deleted:") == {"900-1"}


def test_p24_a_reference_to_what_is_listed_itself_is_none(node: Any) -> None:
    first = node.subdomain(5, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.acknowledge()
    node.subdomain(900, "www.gw1.example", "203.0.113.5", reference=gwid(first), next_action=NextAction.DELETE)
    node.settle()
    assert node.recorded(first)
    assert node.get("gw1.example.", "www") is not None


def test_p24_one_whose_record_was_lost_is_recorded_under_its_own_id(node: Any) -> None:
    new = node.subdomain(900, "www.gw1.example", "203.0.113.5", reference="5-1")
    node.settle()
    assert node.answer(new) == (ResultState.OK, "")
    assert decode_reservation(node.get(RESERVATIONS, "900-1")).reference == "5-1"


def test_p21_no_reservation_ever_expires(node: Any) -> None:
    """Durations are infinite, so nobody looks for what is over: an old epoch means nothing."""
    workload = node.subdomain(1, "www.gw1.example", "203.0.113.5", epoch=1)
    assert isinstance(workload, Subdomain)
    node.settle()
    node.now += 10**9 * 86400 * 365 * 200
    assert node.settle().steps == ()
    assert node.recorded(workload)
