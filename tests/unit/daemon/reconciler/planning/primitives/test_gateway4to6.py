"""gateway4to6 through plan and apply."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tfgateway.explorer.models import ResultState, Workload
from tfgateway.explorer.signing import result_message, sign_result, verify_hex
from tfgateway.fourtosix.pool import AddressPool
from tfgateway.reconciler.planning.claims import Claims, FourToSix
from tfgateway.reconciler.planning.decisions import accept_all
from tfgateway.reconciler.planning.inputs.rows import Rows
from tfgateway.reconciler.planning.model import Action
from tfgateway.reconciler.verdict import RowState, row_state
from tfgateway.redis_schema.keys import PEERS, RESERVATIONS
from tfgateway.redis_schema.reservations import Recorded, RecordedResult, decode_reservation, encode_reservation

from tests.unit.daemon.reconciler.conftest import read_records

OK = (ResultState.OK, "")
A, B, C = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))


@pytest.fixture(scope="module")
def known(vectors: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = vectors("identity")["fourtosix"]
    return found


@pytest.fixture
def node(make_node: Callable[..., Any], known: dict[str, Any]) -> Any:
    """The gateway of the vectors."""
    return make_node("gw1.example", fourtosix=FourToSix(AddressPool(bytes(range(32))), known["endpoint"]))


def peers(node: Any) -> dict[str, str]:
    return {tid: key.decode() for tid, key in node.hashes.get(PEERS, {}).items()}


def recorded(node: Any, number: int, key: str, tid: int = 7, data_json: bytes = b"null") -> None:
    """As an old gateway left it."""
    identifier = f"{number}-1"
    signature = sign_result(ResultState.OK, "", data_json, node.identity)
    result = RecordedResult("gateway4to6", identifier, "2021-01-18T20:00:05Z", 1, "", data_json, signature)
    record = Recorded(
        identifier, node.node_id, str(tid), "gateway4to6", {"public_key": key}, "2021-01-18T20:00:03Z", result=result
    )
    node.hashes.setdefault(RESERVATIONS, {})[identifier] = encode_reservation(record)


def message(node: Any, workload: Workload) -> str:
    text = node.refusal(workload)
    result = node.result(workload)
    verify_hex(node.identity.public_key, result_message(result.state, text, result.data_json), result.signature)
    assert bytes(result.data_json) == b"null"
    assert not node.recorded(workload)
    assert node.deleted(workload)
    prefix = "cannot add 4to6 peer: "
    assert text.startswith(prefix)
    return str(text.removeprefix(prefix))


def test_vector_11_the_result_tells_the_user_what_to_configure(node: Any, known: dict[str, Any]) -> None:
    workload = node.peer(5, known["user_public_key"])
    node.settle()
    assert node.answer(workload) == OK
    result = node.result(workload)
    assert bytes(result.data_json).decode() == known["data_json"]
    assert result.signature == known["signature"]
    assert peers(node) == {"7": known["user_public_key"]}


def test_the_record_is_what_an_old_gateway_reads(node: Any, known: dict[str, Any]) -> None:
    node.peer(5, known["user_public_key"])
    node.settle()
    record = decode_reservation(node.get(RESERVATIONS, "5-1"))
    assert (record.type, record.data) == ("gateway4to6", {"public_key": known["user_public_key"]})
    assert record.result is not None
    assert record.result.data_json.decode() == known["data_json"]
    assert record.result.signature == known["signature"]


def test_removal_takes_the_peer_away(node: Any) -> None:
    workload = node.peer(5, A)
    node.settle()
    node.delete(workload)
    node.settle()
    assert peers(node) == {}
    assert not node.recorded(workload)
    assert node.deleted(workload)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "public_key is not a WireGuard key: it has 0 bytes, not 32"),
        ("not base64", "public_key is not a WireGuard key: it is not base64"),
        (base64.b64encode(bytes(31)).decode(), "public_key is not a WireGuard key: it has 31 bytes, not 32"),
        ("j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=", "the key is the gateway's own"),
    ],
)
def test_what_is_no_key_of_a_user_is_refused_with_the_reason(node: Any, key: str, why: str) -> None:
    workload = node.peer(5, key)
    node.settle()
    assert message(node, workload) == why
    assert peers(node) == {}


def test_p18_a_key_of_another_user_is_refused(node: Any) -> None:
    node.peer(5, A)
    node.settle()
    thief = node.peer(6, A, tid=8)
    node.settle()
    assert message(node, thief) == "unauthorized error: the key is another user's"
    assert peers(node) == {"7": A}
    # Neither does its deletion take the peer away.
    node.delete(thief)
    node.settle()
    assert peers(node) == {"7": A}


def test_p18_another_text_of_the_same_key_is_the_same_key(node: Any) -> None:
    node.peer(5, A)
    node.settle()
    same = A[:-2] + chr(ord(A[-2]) + 1) + "="
    assert base64.b64decode(same) == base64.b64decode(A)
    thief = node.peer(6, same, tid=8)
    node.settle()
    assert message(node, thief) == "unauthorized error: the key is another user's"


def test_p18_a_second_key_of_a_user_is_refused(node: Any) -> None:
    first = node.peer(5, A)
    node.settle()
    second = node.peer(6, B)
    node.settle()
    assert message(node, second) == "user 7 has another key already, by reservation 5-1"
    assert peers(node) == {"7": A}
    node.acknowledge()
    node.delete(first)
    third = node.peer(7, B)
    node.settle()
    assert node.answer(third) == OK
    assert peers(node) == {"7": B}


def test_p18_of_two_at_once_the_older_gets_the_key(node: Any) -> None:
    later = node.peer(6, A, tid=8)
    earlier = node.peer(5, A)
    node.settle()
    assert node.answer(earlier) == OK
    assert node.answer(later)[0] == ResultState.ERROR
    assert peers(node) == {"7": A}


def test_the_same_key_may_be_reserved_again_and_stays_until_the_last(node: Any) -> None:
    first, second = node.peer(5, A), node.peer(6, A)
    node.settle()
    assert (node.answer(first), node.answer(second)) == (OK, OK)
    node.delete(first)
    made = node.settle()
    # Not even for a moment.
    assert not any(row.key == PEERS for step in made.steps for row in step.transaction.writes)
    assert peers(node) == {"7": A}
    node.delete(second)
    node.settle()
    assert peers(node) == {}


def test_where_4to6_is_switched_off_it_is_refused(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example")
    workload = node.peer(5, A)
    node.settle()
    assert node.answer(workload) == (
        ResultState.ERROR,
        "type of reservation not supported: gateway4to6: this gateway gives no IPv6",
    )


def test_switched_off_for_a_while_it_costs_nobody_a_reservation(node: Any) -> None:
    workload = node.peer(5, A)
    node.settle()
    node.acknowledge()
    before = node.rows()
    policy = node.policy
    node.policy = replace(policy, fourtosix=None)
    made = node.settle()
    assert made.problems == ("5-1 waits: 4to6 is switched off: fourtosix.endpoint is empty",)
    assert node.rows() == before
    node.policy = policy
    assert node.settle().problems == ()
    assert node.answer(workload) is None


def test_switched_off_a_reservation_can_be_removed(node: Any) -> None:
    workload = node.peer(5, A)
    node.settle()
    node.policy = replace(node.policy, fourtosix=None)
    node.delete(workload)
    node.settle()
    assert peers(node) == {}
    assert not node.recorded(workload)


def test_another_endpoint_is_told_to_users_who_have_the_former(node: Any, known: dict[str, Any]) -> None:
    workload = node.peer(5, A)
    node.settle()
    node.acknowledge()
    node.policy = replace(node.policy, fourtosix=FourToSix(AddressPool(bytes(range(32))), "[2001:db8::1]:3443"))
    node.settle()
    assert node.answer(workload) == OK
    told = json.loads(bytes(node.result(workload).data_json))
    assert told["peers"][0]["endpoint"] == "[2001:db8::1]:3443"
    node.acknowledge()
    assert node.plan().steps == ()


def test_drift_is_repaired(node: Any) -> None:
    node.peer(5, A)
    node.settle()
    for foreign in (B, "garbage"):
        node.put(PEERS, "7", foreign)
        node.settle()
        assert peers(node) == {"7": A}
    del node.hashes[PEERS]
    node.settle()
    assert peers(node) == {"7": A}


class TestLeftByAnOldGateway:
    def test_it_is_adopted_and_its_result_stays(self, node: Any, known: dict[str, Any]) -> None:
        recorded(node, 5, known["user_public_key"], data_json=known["data_json"].encode())
        before = node.hashes[RESERVATIONS]["5-1"]
        workload = node.peer(5, known["user_public_key"])
        node.settle()
        assert peers(node) == {"7": known["user_public_key"]}
        assert node.hashes[RESERVATIONS]["5-1"] == before
        assert node.result(workload).signature == known["signature"]

    def test_its_purge_of_the_record_is_put_right(self, node: Any) -> None:
        workload = node.peer(5, A)
        node.settle()
        del node.hashes[RESERVATIONS]
        node.settle()
        assert node.recorded(workload)
        assert peers(node) == {"7": A}

    def test_a_peer_whose_reservation_ended_under_it_is_swept(self, node: Any) -> None:
        node.peer(5, A)
        node.settle()
        del node.hashes[RESERVATIONS]
        node.relist()
        made = node.settle()
        assert [step.action for step in made.steps] == [Action.SWEEP]
        assert peers(node) == {}

    def test_before_a_complete_listing_nothing_is_swept(self, node: Any) -> None:
        node.settle()
        node.put(PEERS, "7", A)
        node.desired = type(node.desired)(node.node_id)
        node.settle()
        assert peers(node) == {"7": A}

    def test_p18_a_key_of_two_users_stays_with_the_first(self, node: Any) -> None:
        recorded(node, 5, A)
        recorded(node, 6, A, tid=8)
        node.peer(5, A)
        thief = node.peer(6, A, tid=8)
        node.settle()
        assert peers(node) == {"7": A}
        assert message(node, thief) == "unauthorized error: the key is another user's"

    def test_p18_of_two_keys_of_a_user_the_newest_has_his_address(self, node: Any) -> None:
        recorded(node, 5, A)
        recorded(node, 6, B)
        old = node.peer(5, A)
        node.peer(6, B)
        node.settle()
        assert peers(node) == {"7": B}
        assert message(node, old) == "user 7 has another key by now, by reservation 6-1"


def test_the_state_tells_what_redis_holds(node: Any) -> None:
    workload = node.peer(5, A)
    node.settle()

    def state(**changes: Any) -> tuple[RowState, str]:
        actual = node.actual
        claims = Claims(replace(node.policy, **changes), Rows(actual))
        reservations = accept_all(claims, node.desired, read_records(actual.hashes[RESERVATIONS].items()))
        return row_state(claims, reservations[f"{workload.id}-1"])

    assert state() == (RowState.OK, "")
    assert state(fourtosix=None) == (RowState.GROUNDLESS, "4to6 is switched off: fourtosix.endpoint is empty")
    node.put(PEERS, "7", B)
    assert state()[0] is RowState.DRIFTED
    del node.hashes[PEERS]
    assert state()[0] is RowState.MISSING
