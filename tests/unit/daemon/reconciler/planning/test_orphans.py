"""What stands behind no reservation, where the settings allow to remove it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tfgateway.explorer.models import NextAction
from tfgateway.reconciler.planning import render
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.model import Action
from tfgateway.reconciler.planning.planner import Stream
from tfgateway.redis_schema.keys import QUARANTINE
from tfgateway.redis_schema.records import owner_record
from tfgateway.redis_schema.services import Service, encode_service


@pytest.fixture(name="cleaner")
def cleaner_fixture(make_node: Callable[..., Any]) -> Any:
    """A gateway that repairs orphans, with one reservation of each kind that has rows."""
    node = make_node("gw1.example", repair_orphans=True)
    node.delegate(1, "alice.example")
    node.subdomain(2, "www.alice.example", "203.0.113.5")
    node.subdomain(3, "www.gw1.example", "203.0.113.6")
    node.proxy(4, "web.alice.example")
    node.settle()
    node.acknowledge()
    return node


def leave(node: Any, zone: str, user: str = "9") -> None:
    """The zone as a removal by the old gateway leaves it."""
    node.put(f"{zone}.", "__owner__", owner_record(node.node_id, user).decode())
    node.put(f"{zone}.", "www", '{"a":[{"ip":"203.0.113.9","ttl":3600}]}')


def cleaned(node: Any) -> dict[str, str]:
    return {step.domain: step.user for step in node.settle().steps if step.action is Action.CLEAN}


def test_p5_a_zone_that_a_removal_left_behind_is_removed(cleaner: Any) -> None:
    before = cleaner.rows()
    leave(cleaner, "gone.example")
    assert cleaned(cleaner) == {"gone.example": "9"}
    assert cleaner.rows() == before


def test_p5_a_zone_whose_user_has_no_reservation_is_removed_with_its_owner(cleaner: Any) -> None:
    before = cleaner.rows()
    leave(cleaner, "left.example")
    cleaner.put("zone", "left.example", '{"Owner":"9"}')
    cleaner.put("zone", "bare.example", '{"Owner":"8"}')
    assert cleaned(cleaner) == {"left.example": "9", "bare.example": "8"}
    assert cleaner.rows() == before


def test_p12_a_claim_and_its_addresses_are_removed_and_other_records_stay(cleaner: Any) -> None:
    cleaner.put("managed_domains", "old.gw1.example", "9")
    cleaner.put("gw1.example.", "old", '{"a":[{"ip":"203.0.113.9","ttl":3600}],"mx":[{"host":"m.example."}]}')
    assert cleaned(cleaner) == {"old.gw1.example": "9"}
    assert cleaner.get("managed_domains", "old.gw1.example") is None
    assert json.loads(cleaner.get("gw1.example.", "old")) == {"mx": [{"host": "m.example."}]}


def test_p5_proxy_entries_without_reservation_are_removed_unreadable_ones_are_kept_aside(cleaner: Any) -> None:
    before = cleaner.rows()
    entry = encode_service("left.example", Service(addr="203.0.113.1", httpport=80, user="9")).decode()
    cleaner.put("/tcprouter/service/left.example", None, entry)
    cleaner.put("/tcprouter/service/bad.example", None, "garbage")
    assert cleaned(cleaner) == {"left.example": "9", "bad.example": ""}
    aside = cleaner.hashes.pop(QUARANTINE)
    assert aside == {"/tcprouter/service/bad.example": b"garbage"}
    assert cleaner.rows() == before


def test_r4_a_field_that_cannot_be_read_is_mended_and_kept_aside(cleaner: Any) -> None:
    damaged = '{"a":[{"ip":"203.0.113.9","ttl":3600}],"aaaa":[{"ip":"<nil>","ttl":3600}]}'
    cleaner.put("gw1.example.", "odd", damaged)
    cleaner.put("gw1.example.", "junk", "no json")
    assert set(cleaned(cleaner)) == {"odd.gw1.example", "junk.gw1.example"}
    assert json.loads(cleaner.get("gw1.example.", "odd")) == {"a": [{"ip": "203.0.113.9", "ttl": 3600}]}
    assert cleaner.get("gw1.example.", "junk") is None
    assert set(cleaner.hashes[QUARANTINE].values()) == {damaged.encode(), b"no json"}


def test_p5_what_operators_made_stays(cleaner: Any) -> None:
    cleaner.put("hand.example.", "www", "damaged")
    cleaner.put(
        "/tcprouter/service/hand.example", None, encode_service("hand.example", Service(addr="1.2.3.4")).decode()
    )
    foreign = owner_record("of-another-gateway", "9").decode()
    cleaner.put("foreign.example.", "__owner__", foreign)
    before = cleaner.rows()
    assert cleaned(cleaner) == {}
    assert cleaner.rows() == before


def test_p5_what_a_waiting_reservation_may_stand_on_stays(cleaner: Any) -> None:
    entry = encode_service("t.alice.example", Service(clientsecret="7:x", user="7")).decode()
    cleaner.put("/tcprouter/service/t.alice.example", None, entry)
    cleaner.reverse_proxy(9, "t.alice.example", "ab" * 48)  # the user's key is not known yet
    assert cleaned(cleaner) == {}
    assert cleaner.text("/tcprouter/service/t.alice.example") == entry


@pytest.mark.parametrize("reason", ["off", "not listed", "damaged record"])
def test_p5_orphans_are_left_alone(make_node: Callable[..., Any], reason: str) -> None:
    node = make_node("gw1.example", repair_orphans=reason != "off")
    if reason == "not listed":
        node.desired = Desired(node.node_id)
    if reason == "damaged record":
        node.put("tfgateway_reservations", "7-1", "who knows what it was")
    leave(node, "gone.example")
    assert cleaned(node) == {}
    assert node.get("gone.example.", "www") is not None


def test_p5_many_orphans_at_once_wait_for_an_operator(cleaner: Any) -> None:
    for number in range(11):
        leave(cleaner, f"gone{number}.example")
    made = cleaner.settle()
    assert "0 of 4 reservations and 11 orphans would be removed" in render.held_reason(made.held)
    assert cleaner.get("gone3.example.", "www") is not None
    for step in cleaner.plan(made.held_digest).steps:
        assert cleaner.apply(step.transaction)
    assert cleaner.get("gone3.example.", "www") is None
    leave(cleaner, "another.example")
    assert not cleaner.settle().held


def test_p5_a_zone_that_is_given_up_in_the_same_pass_is_no_orphan(cleaner: Any) -> None:
    alice = cleaner.delegate(5, "new.example")
    cleaner.settle()
    cleaner.delete(alice, NextAction.DELETE)
    made = cleaner.settle()
    assert [step.action for step in made.steps] == [Action.REMOVE]


def test_a_stream_leaves_orphans_to_a_whole_plan(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", repair_orphans=True)
    for number in range(1, 30):
        node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5")
    leave(node, "gone.example")
    assert Stream.fits(node.policy, 0)
    steps = node.stream()
    assert [str(step.action) for step in steps] == ["claim"] + 29 * ["deploy"]
    assert cleaned(node) == {"gone.example": "9"}
