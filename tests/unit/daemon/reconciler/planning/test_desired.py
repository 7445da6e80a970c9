"""Desired state: pages, queue, listings; records."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tfgateway.explorer.models import NextAction, Result, ResultState, Subdomain, Undecodable
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.reservation import Reservation, order, same_content

from tests.unit.daemon.reconciler.conftest import read_records


def item(number: int, action: NextAction = NextAction.DEPLOY, **members: Any) -> Subdomain:
    return Subdomain(id=number, workload_id=1, node_id="G", next_action=action, domain="www.gw1.example", **members)


def test_order_is_by_number() -> None:
    assert sorted(["10-1", "9-2", "9-10", "x", "9-1"], key=order) == ["x", "9-1", "9-2", "9-10", "10-1"]


def test_what_is_for_another_node_is_not_taken_in() -> None:
    desired = Desired("G")
    assert not desired.merge(msgspec.structs.replace(item(1), node_id="H"))
    assert desired.items() == []


def action(desired: Desired, identifier: str = "1-1") -> int | None:
    wanted = desired.get(identifier)
    return None if wanted is None else wanted.next_action


def listed(desired: Desired, *items: Any) -> None:
    desired.begin_listing()
    for one in items:
        desired.merge(one)
    desired.end_listing()


def test_a_workload_never_goes_back_within_a_generation() -> None:
    desired = Desired("G")
    listed(desired, item(1, NextAction.DELETE))
    desired.merge(item(1, NextAction.CREATE))
    assert action(desired) == NextAction.DELETE
    desired.finish("1-1")
    desired.merge(item(1, NextAction.DELETE))
    assert action(desired) == NextAction.DELETED
    desired.answer("1-1", item(1), desired.generation)
    assert action(desired) == NextAction.DELETED


@pytest.mark.parametrize("known", [NextAction.DELETE, NextAction.DELETED, NextAction.INVALID])
def test_a_complete_listing_replaces_what_was_known(known: NextAction) -> None:
    """The explorer was restored from a backup, or a poll said what is not so."""
    desired = Desired("G")
    listed(desired, item(1), item(2))
    desired.merge(item(1, known))
    desired.begin_listing()
    desired.merge(item(1))
    assert action(desired) == known, "until the last page has come"
    desired.end_listing()
    assert action(desired) == NextAction.DEPLOY
    assert desired.get("2-1") is None
    assert desired.take_fresh() is None, "anything may have changed"


def test_the_result_of_a_listing_counts_too() -> None:
    desired = Desired("G")
    listed(desired, item(1))
    desired.acknowledge("1-1", Result(state=ResultState.OK, signature="ab"))
    listed(desired, item(1))
    assert desired.get("1-1").result is None  # type: ignore[union-attr]


def test_what_the_explorer_acknowledged_while_a_listing_came_in_is_newer_than_its_pages() -> None:
    desired = Desired("G")
    listed(desired, item(1), item(2, NextAction.DELETE))
    desired.begin_listing()
    desired.merge(item(1))
    desired.acknowledge("1-1", Result(state=ResultState.OK, signature="ab"))
    desired.finish("2-1")
    desired.merge(item(2, NextAction.DELETE))
    desired.end_listing()
    assert desired.get("1-1").result.signature == "ab"  # type: ignore[union-attr]
    assert action(desired, "2-1") == NextAction.DELETED
    listed(desired, item(1), item(2, NextAction.DELETE))
    assert desired.get("1-1").result is None  # type: ignore[union-attr]
    assert action(desired, "2-1") == NextAction.DELETE, "the next listing says it anew"


def test_within_a_listing_a_copy_from_the_queue_undoes_no_page() -> None:
    desired = Desired("G")
    listed(desired, item(1, NextAction.DELETE), item(1, NextAction.CREATE))
    assert action(desired) == NextAction.DELETE


def test_a_listing_that_is_begun_again_counts_for_nothing() -> None:
    for complete in (False, True):
        desired = Desired("G")
        if complete:
            listed(desired)
        desired.begin_listing()
        desired.merge(item(1, NextAction.DELETE))
        listed(desired, item(1))
        assert action(desired) == NextAction.DEPLOY


def test_an_answer_to_a_question_of_an_earlier_generation_is_too_late() -> None:
    desired = Desired("G")
    listed(desired)
    asked = desired.generation
    listed(desired, item(1))
    desired.answer("1-1", item(1, NextAction.DELETED), asked)
    assert action(desired) == NextAction.DEPLOY
    desired.answer("2-1", None, asked)
    assert desired.unknown == set()
    desired.answer("2-1", None, desired.generation)
    assert desired.unknown == {"2-1"}


def test_an_id_that_is_given_out_after_it_was_asked_for_is_known() -> None:
    desired = Desired("G")
    listed(desired)
    desired.answer("1-1", None, desired.generation)
    desired.merge(item(1))
    assert desired.unknown == set()


def test_two_generations_that_say_the_same_are_the_same_objects() -> None:
    desired = Desired("G")
    listed(desired, item(1, description="long"))
    before = desired.get("1-1")
    listed(desired, item(1, description="long"))
    assert desired.get("1-1") is before


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
    desired.answer("1-1", None, desired.generation)
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
