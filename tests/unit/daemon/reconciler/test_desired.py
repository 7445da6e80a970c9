"""Desired state: pages, queue, listings; records."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tfgateway.explorer.models import NextAction, Result, ResultState, Subdomain, Undecodable
from tfgateway.reconciler.desired import Desired
from tfgateway.reconciler.records import read_records
from tfgateway.reconciler.reservation import Reservation, order, same_content


def item(number: int, action: NextAction = NextAction.DEPLOY, **members: Any) -> Subdomain:
    return Subdomain(id=number, workload_id=1, node_id="G", next_action=action, domain="www.gw1.example", **members)


def test_order_is_by_number() -> None:
    assert sorted(["10-1", "9-2", "9-10", "x", "9-1"], key=order) == ["x", "9-1", "9-2", "9-10", "10-1"]


def test_what_is_for_another_node_is_not_taken_in() -> None:
    desired = Desired("G")
    assert not desired.merge(msgspec.structs.replace(item(1), node_id="H"))
    assert desired.items() == []


def test_a_workload_never_goes_back() -> None:
    desired = Desired("G")
    desired.merge(item(1, NextAction.DELETE))
    desired.merge(item(1, NextAction.CREATE))
    wanted = desired.get("1-1")
    assert wanted is not None
    assert wanted.next_action == NextAction.DELETE
    desired.finish("1-1")
    desired.merge(item(1, NextAction.DELETE))
    assert desired.get("1-1").next_action == NextAction.DELETED  # type: ignore[union-attr]


def test_a_listing_that_begins_later_overrules_an_acknowledged_deletion() -> None:
    """The explorer was restored from a backup, and wants it again."""
    desired = Desired("G")
    desired.merge(item(1))
    desired.finish("1-1")
    desired.begin_listing()
    desired.merge(item(1))
    desired.end_listing()
    assert desired.get("1-1").next_action == NextAction.DEPLOY  # type: ignore[union-attr]


def test_an_item_that_cannot_be_decoded_does_not_hide_what_is_known() -> None:
    desired = Desired("G")
    desired.merge(item(1))
    desired.merge(Undecodable(id=1, gwid="1-1", type=7, reason="truncated"))
    assert isinstance(desired.get("1-1").workload, Subdomain)  # type: ignore[union-attr]


def test_absence_means_something_after_a_complete_listing_only() -> None:
    desired = Desired("G")
    desired.begin_listing()
    desired.merge(item(2))
    assert desired.unlisted(["1-1", "2-1", "10-1"]) == []
    desired.end_listing()
    assert desired.complete
    assert desired.unlisted(["10-1", "2-1", "1-1"]) == ["1-1", "10-1"]
    desired.unknown.add("1-1")
    assert desired.unlisted(["10-1", "2-1", "1-1"]) == ["10-1"]
    desired.begin_listing()
    assert desired.get("2-1") is not None, "known until the new listing says otherwise"
    desired.end_listing()
    assert desired.unlisted(["10-1", "2-1", "1-1"]) == ["1-1", "2-1", "10-1"]


def test_an_acknowledged_result_is_the_explorers() -> None:
    desired = Desired("G")
    desired.merge(item(1))
    assert desired.get("1-1").result is None  # type: ignore[union-attr]
    desired.acknowledge("1-1", Result(state=ResultState.OK, signature="ab"))
    desired.acknowledge("2-1", Result())
    assert desired.get("1-1").result.signature == "ab"  # type: ignore[union-attr]
    desired.merge(item(1, result=Result(workload_id="1-1", epoch=1, state=ResultState.OK, signature="cd")))
    assert desired.get("1-1").result.signature == "cd"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"domain": "A.b"}, {"domain": "a.b"}, True),
        ({"domain": "a.b", "destination": ["2001:db8:0::5"]}, {"domain": "a.b", "destination": ["2001:db8::5"]}, True),
        ({"domain": "a.b", "destination": ["203.0.113.5"]}, {"domain": "a.b", "destination": []}, False),
        ({"domain": "a.b", "destination": [None]}, {"domain": "a.b", "destination": []}, False),
        ({"domain": 5}, {"domain": ""}, True),
        ({"domain": "a.b", "port": 1}, {"domain": "a.b", "port": 2}, False),
    ],
)
def test_same_content_whatever_the_spelling(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    assert same_content(Reservation("1-1", "7", "t", one), Reservation("1-1", "7", "t", other)) is same


def test_p17_records_are_read_one_by_one() -> None:
    records = read_records(
        [
            ("1-1", b'"1.0.0"{"id":"1-1","type":"proxy"}\n'),
            ("2-1", b"garbage"),
            ("3-1", b'{"id":"3-1","type":"subdomain"}'),
            ("4-1", b'"1.0.0"{"id":"5-1"}'),
            ("6-1", b'"2.0.0"{"id":"6-1"}'),
        ]
    )
    assert list(records.entries) == ["1-1", "3-1"]
    assert list(records.damaged) == ["2-1", "4-1", "6-1"]
