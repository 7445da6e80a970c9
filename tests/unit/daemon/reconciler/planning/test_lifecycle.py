"""What happens around the primitives: results, deletions, loss, drift, adoption, the removal guard."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tfgateway.explorer.models import NextAction, Result, ResultState, Undecodable, gwid
from tfgateway.explorer.signing import result_message
from tfgateway.identity.keys import Identity, verify
from tfgateway.identity.sealing import encrypt_ecdh
from tfgateway.reconciler.planning import render, results
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.primitives import subdomain
from tfgateway.redis_schema.keys import OUTBOX, QUARANTINE, RESERVATIONS, service_key
from tfgateway.redis_schema.reservations import Recorded, RecordedResult, decode_reservation, encode_reservation
from tfgateway.redis_schema.services import Service, encode_service

OK = (ResultState.OK, "")
USER = Identity.from_seed(bytes([7]) * 32)


def population(node: Any) -> list[Any]:
    return [
        node.delegate(1, "alice.example"),
        node.subdomain(2, "www.alice.example", "203.0.113.5", "2001:db8::5"),
        node.subdomain(3, "alice.example", "203.0.113.5"),
        node.subdomain(4, "www.gw1.example", "203.0.113.6"),
        node.proxy(5, "www.gw1.example"),
        node.proxy(6, "www.alice.example"),
    ]


# Results


def test_the_record_is_what_the_old_daemon_writes(node: Any) -> None:
    # as an original gateway has written it
    signature = (
        "21532bfb3b61cae3c8f3500a8ae4ca0bb2c855128a6a71dcf980fbbcdf8c77fed9e2a97c3fa8982ad06423c43b94c9fcce44f6153bb94029"
        "9b32a4b71a11c100"
    )
    node.now = 1_611_000_005_123_456_789
    node.subdomain(311, "www.gw1.example", "203.0.113.5", "2001:db8::5", customer_signature=signature)
    node.settle()
    assert node.text(RESERVATIONS, "311-1") == (
        '"1.0.0"{"id":"311-1","node_id":"FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF","user_id":"7","type":"subdomain",'
        '"data":{"domain":"www.gw1.example","destination":["203.0.113.5","2001:db8::5"]},"created":"2021-01-18T20:00:03Z",'
        '"duration":9223372036854775807,"signature":"MjE1MzJiZmIzYjYxY2FlM2M4ZjM1MDBhOGFlNGNhMGJiMmM4NTUxMjhhNmE3MWRjZjk4'
        "MGZiYmNkZjhjNzdmZWQ5ZTJhOTdjM2ZhODk4MmFkMDY0MjNjNDNiOTRjOWZjY2U0NGY2MTUzYmI5NDAyOTliMzJhNGI3MWExMWMxMDA="
        '","to_delete":false,"reference":"","result":{"type":"subdomain","id":"311-1","created":'
        '"2021-01-18T20:00:05.123456789Z","state":1,"message":"","data_json":null,"signature":'
        '"dddab7b0efa75819e0da5135940d3818864e3549f7dbcfae6748c183d6a0d8d22d30201e96717105f1cdb5f6c738a75691d71cc0952e08'
        'f9dc35a5053ad27b0a"},"version":2}\n'
    )


def test_a_refusal_is_signed_and_then_reported_as_deleted(node: Any) -> None:
    workload = node.unknown(9, 12)
    node.settle()
    result = node.result(workload)
    message = "type of reservation not supported: virtual_machine"
    assert (result.state, result.message, result.category) == (ResultState.ERROR, message, 12)
    signed = result_message(ResultState.ERROR, message, b"null")
    assert verify(node.identity.public_key, signed, bytes.fromhex(result.signature))
    assert node.deleted(workload)
    node.acknowledge()
    assert node.plan().steps == ()


@pytest.mark.parametrize(("number", "name"), [(0, "zdb"), (11, "public_ip"), (12, "virtual_machine"), (99, "99")])
def test_p2_unknown_types_are_answered_and_stop_nothing(node: Any, number: int, name: str) -> None:
    other = node.unknown(8, number)
    good = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    assert node.answer(other) == (ResultState.ERROR, f"type of reservation not supported: {name}")
    assert node.answer(good) == OK


def test_p2_an_item_that_cannot_be_decoded_is_answered_and_stops_nothing(node: Any) -> None:
    assert node.desired.merge(Undecodable(id=8, gwid="8-1", type=7, reason="ips: not a list"))
    assert not node.desired.merge(Undecodable(id=0, gwid=None, type=0, reason="not an object"))
    good = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    raw = node.get(OUTBOX, "result:8-1")
    result = results.decode_result("8-1", raw)
    assert (result.state, result.message) == (ResultState.ERROR, "reservation cannot be read: ips: not a list")
    assert node.answer(good) == OK


def test_p1_an_item_that_breaks_the_code_stops_nothing(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = node.subdomain(8, "broken.gw1.example", "203.0.113.5")
    good = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    admit = subdomain.admit

    def breaks(claims: Any, reservation: Any) -> None:
        if reservation.id == "8-1":
            raise ZeroDivisionError("out of range")
        admit(claims, reservation)

    monkeypatch.setattr(subdomain, "admit", breaks)
    made = node.settle()
    assert node.answer(good) == OK
    assert node.answer(broken) is None
    assert any("8-1 not decided: ZeroDivisionError" in text for text in made.problems)


def test_p16_an_answer_waits_unchanged_until_it_is_acknowledged(node: Any) -> None:
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    before = node.get(OUTBOX, "result:9-1")
    node.now += 60 * 10**9
    node.want(workload)
    node.settle()
    assert node.get(OUTBOX, "result:9-1") == before
    node.acknowledge()
    assert node.plan().steps == ()


def test_p16_a_lost_answer_is_sent_again_with_the_same_content(node: Any) -> None:
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    sent = node.result(workload)
    node.acknowledge()
    # Redelivered without a result: the explorer lost it (restored from a backup, or never stored it).
    node.now += 60 * 10**9
    node.want(workload)
    made = node.settle()
    assert made.summary() == {"report": 1}
    again = node.result(workload)
    assert (again.state, again.message, again.signature) == (sent.state, sent.message, sent.signature)


def test_p16_an_answer_that_the_explorer_has_is_not_sent_again_after_a_restart(node: Any) -> None:
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    result = node.result(workload)
    node.acknowledge()
    node.desired = Desired(node.node_id)
    node.relist(msgspec.structs.replace(workload, result=result))
    assert node.settle().steps == ()
    node.relist(msgspec.structs.replace(workload, result=msgspec.structs.replace(result, signature="00" * 64)))
    assert node.settle().summary() == {"report": 1}


def test_a_record_without_a_result_gets_one(node: Any) -> None:
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    record = decode_reservation(node.get(RESERVATIONS, "9-1"))
    node.hashes[RESERVATIONS]["9-1"] = encode_reservation(
        Recorded(record.id, record.node_id, record.user_id, record.type, record.data, record.created)
    )
    del node.hashes[OUTBOX]
    node.settle()
    assert node.answer(workload) == OK
    assert decode_reservation(node.get(RESERVATIONS, "9-1")).result is not None


# Deletions


def test_everything_is_removed_without_a_trace(node: Any) -> None:
    node.settle()
    before = node.rows()
    workloads = population(node)
    node.settle()
    node.acknowledge()
    for workload in workloads:
        node.delete(workload)
    made = node.settle()
    assert made.summary() == {"remove": 6}
    assert all(node.deleted(workload) for workload in workloads)
    assert node.rows() == before


def test_p7_a_deletion_is_obeyed_though_the_result_never_arrived(node: Any) -> None:
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.delete(workload)
    node.settle()
    assert node.get("gw1.example.", "www") is None
    assert node.answer(workload) == OK, "the result still goes out, before the deletion"
    assert node.deleted(workload)


def test_p7_a_deletion_of_what_is_not_recorded_is_reported_and_its_rows_go(node: Any) -> None:
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    del node.hashes[RESERVATIONS]
    del node.hashes[OUTBOX]
    node.delete(workload)
    node.settle()
    assert node.deleted(workload)
    assert node.get("gw1.example.", "www") is None
    assert node.get("managed_domains", "www.gw1.example") is None


def test_what_the_explorer_calls_deleted_goes_without_a_report(node: Any) -> None:
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.acknowledge()
    node.delete(workload, NextAction.DELETED)
    assert node.settle().summary() == {"remove": 1}
    assert not node.deleted(workload)
    assert node.get("gw1.example.", "www") is None


@pytest.mark.parametrize("action", [NextAction.SIGN, NextAction.PAY, NextAction.INVALID, NextAction.MIGRATED])
def test_what_is_not_to_be_deployed_is_neither_deployed_nor_removed(node: Any, action: NextAction) -> None:
    waiting = node.subdomain(8, "other.gw1.example", "203.0.113.5", next_action=action)
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.acknowledge()
    node.want(msgspec.structs.replace(workload, next_action=action))
    assert node.settle().steps == ()
    assert node.answer(waiting) is None


def test_an_empty_listing_removes_nothing(node: Any) -> None:
    workloads = population(node)
    node.settle()
    node.acknowledge()
    before = node.rows()
    node.relist()
    assert node.plan().steps == ()
    node.desired.unknown.update(gwid(workload) for workload in workloads)
    made = node.settle()
    assert node.rows() == before
    assert any("the explorer does not know it" in text for text in made.problems)


def test_p14_a_flushed_redis_keeps_a_subdomain_that_is_older_than_its_zone(node: Any) -> None:
    zone = node.delegate(3, "alice.example")
    old = node.subdomain(4, "www.alice.example", "203.0.113.5")
    node.settle()
    node.acknowledge()
    node.delete(zone)
    node.delegate(5, "alice.example")
    node.settle()
    node.acknowledge()
    before = node.rows()
    node.hashes.clear()
    node.settle()
    assert node.rows() == before
    assert node.recorded(old)


def test_nothing_is_refused_before_everything_is_listed(node: Any) -> None:
    node.desired = Desired(node.node_id)
    node.desired.begin_listing()
    early = node.subdomain(4, "www.alice.example", "203.0.113.5")
    bad = node.unknown(5, 12)
    node.settle()
    assert node.answer(early) is node.answer(bad) is None
    node.delegate(6, "alice.example")
    node.desired.end_listing()
    node.settle()
    assert node.answer(early) == OK
    assert node.answer(bad)[0] == ResultState.ERROR


def test_a_partial_listing_removes_nothing(node: Any) -> None:
    workloads = population(node)
    node.settle()
    node.acknowledge()
    before = node.rows()
    node.desired.begin_listing()
    node.want(workloads[0])
    assert node.desired.unlisted(["2-1"]) == []
    node.settle()
    assert node.rows() == before


def test_the_guard_keeps_removals_back_and_goes_on_with_the_rest(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", max_removal_count=2, max_removal_share=0.5)
    workloads = [node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5") for number in range(1, 6)]
    node.settle()
    node.acknowledge()
    for workload in workloads[:4]:
        node.delete(workload)
    node.put("gw1.example.", "n5", None)
    new = node.subdomain(9, "n9.gw1.example", "203.0.113.5")
    # Refused only because n1 is kept: it is not answered at all.
    heir = node.subdomain(10, "n1.gw1.example", "203.0.113.5", tid=8)
    made = node.settle()
    assert "4 of 5 reservations" in render.held_reason(made.held)
    assert made.summary() == {"deploy": 1, "repair": 1}
    assert all(node.recorded(workload) for workload in workloads)
    assert node.answer(new) == OK
    assert node.answer(heir) is None


@pytest.mark.parametrize(("count", "share"), [(3, 0.0), (0, 0.6), (0, 1.0)])
def test_the_guard_allows_a_count_or_a_share(make_node: Callable[..., Any], count: int, share: float) -> None:
    node = make_node("gw1.example", max_removal_count=count, max_removal_share=share)
    workloads = [node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5") for number in range(1, 6)]
    node.settle()
    for workload in workloads[:3]:
        node.delete(workload)
    made = node.settle()
    assert made.held is None
    assert not any(node.recorded(workload) for workload in workloads[:3])


def test_consent_is_to_exactly_the_removals_that_were_held_back(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", max_removal_count=1, max_removal_share=0)
    workloads = [node.subdomain(number, f"n{number}.gw1.example", "203.0.113.5") for number in range(1, 6)]
    node.settle()
    assert node.plan().held_digest == ""
    for workload in workloads[:2]:
        node.delete(workload)
    held = node.plan()
    assert [step.id for step in held.held_steps] == ["1-1", "2-1"]
    allowed = node.plan(consent=held.held_digest)
    assert allowed.held is None
    assert allowed.summary() == {"remove": 2}
    node.delete(workloads[2])
    later = node.plan(consent=held.held_digest)
    assert later.held
    assert later.steps == ()
    assert later.held_digest != held.held_digest


# Loss and drift


def test_p14_a_flushed_redis_is_filled_again_in_one_pass_without_a_word(node: Any) -> None:
    workloads = population(node)
    node.settle()
    given = {gwid(workload): node.result(workload) for workload in workloads}
    node.acknowledge()
    before = node.rows()
    node.hashes.clear()
    node.strings.clear()
    node.settle()
    assert node.rows() == before
    assert OUTBOX not in node.hashes, "the explorer knows all of it already"
    # The same after a restart that finds redis empty.
    node.hashes.clear()
    node.strings.clear()
    node.desired = Desired(node.node_id)
    node.relist(*(msgspec.structs.replace(w, result=given[gwid(w)]) for w in workloads))
    node.settle()
    assert node.rows() == before
    assert OUTBOX not in node.hashes


def refusable(node: Any) -> list[Any]:
    """What the old gateway let happen: all of it served, and nothing that would be admitted today."""
    secret = encrypt_ecdh(b"7:x", USER.seed, node.identity.public_key).hex()
    node.users["7"] = USER.public_key
    workloads = [
        node.proxy(1, "shop.example"),
        node.reverse_proxy(2, "tunnel.shop.example", secret),
        node.delegate(3, "org.uk"),
        node.subdomain(4, "www.gw1.example", "203.0.113.5"),
    ]
    node.settle()
    node.acknowledge()
    others = [
        Recorded("91-1", node.node_id, "9", "domain_delegate", {"domain": "shop.example"}, "2021-01-18T20:00:03Z"),
        Recorded("92-1", node.node_id, "9", "domain_delegate", {"domain": "deep.org.uk"}, "2021-01-18T20:00:03Z"),
        Recorded("93-1", node.node_id, "9", "proxy", {"domain": "x.www.gw1.example"}, "2021-01-18T20:00:03Z"),
        Recorded("94-1", node.node_id, "9", "subdomain", {"domain": "a.www.gw1.example"}, "2021-01-18T20:00:03Z"),
    ]
    node.hashes[RESERVATIONS].update({record.id: encode_reservation(record) for record in others})
    node.settle()
    return workloads


def test_p14_a_lost_record_is_adopted_when_its_rows_are_there_and_the_explorer_says_ok(node: Any) -> None:
    workloads = refusable(node)
    before = node.rows()
    for workload in workloads:
        node.put(RESERVATIONS, gwid(workload), None)
    assert node.settle().summary() == {"deploy": 4}
    assert OUTBOX not in node.hashes, "the explorer knows all of it already"
    for identifier, record in before[RESERVATIONS].items():
        assert replace(decode_reservation(record), result=None) == replace(
            decode_reservation(node.get(RESERVATIONS, identifier)), result=None
        )
    assert {**node.rows(), RESERVATIONS: None} == {**before, RESERVATIONS: None}


@pytest.mark.parametrize("lacking", ["row", "result", "content"])
def test_p14_neither_a_row_nor_the_word_of_the_explorer_alone_is_adopted(node: Any, lacking: str) -> None:
    """And what is refused leaves nothing behind: no row that was its own is served on."""
    proxy, tunnel, zone, name = refusable(node)
    for workload in (proxy, tunnel, zone, name):
        node.put(RESERVATIONS, gwid(workload), None)
    if lacking == "row":
        for key in [*node.strings]:
            del node.strings[key]
        del node.hashes["zone"]["org.uk"], node.hashes["managed_domains"]["www.gw1.example"]
    if lacking == "result":
        node.relist(proxy, tunnel, zone, name)
    if lacking == "content":
        # Changed by hand at the same time: nobody can tell whose it is.
        other = Service(addr="203.0.113.99", httpport=80, user="7", clientsecret="7:y")
        for domain in ("shop.example", "tunnel.shop.example"):
            node.put(service_key(domain), None, encode_service(domain, other).decode())
        node.put("org.uk.", "__owner__", None)
        node.put("gw1.example.", "www", '{"a":[{"ip":"203.0.113.77","ttl":1}]}')
    node.settle()
    for workload in (proxy, tunnel, zone, name):
        assert node.answer(workload)[0] == ResultState.ERROR, workload
        assert node.deleted(workload)
        assert not node.recorded(workload)
    assert service_key("shop.example") not in node.strings
    assert service_key("tunnel.shop.example") not in node.strings
    assert node.get("zone", "org.uk") is node.get("managed_domains", "www.gw1.example") is None


def test_p13_a_second_reservation_with_the_same_content_is_not_adopted(node: Any) -> None:
    first = node.proxy(1, "shop.example")
    node.settle()
    result = node.result(first)
    node.acknowledge()
    second = node.proxy(2, "shop.example")
    node.want(msgspec.structs.replace(second, result=msgspec.structs.replace(result, workload_id="2-1")))
    node.settle()
    assert node.answer(second)[0] == ResultState.ERROR
    assert service_key("shop.example") in node.strings
    assert node.recorded(first)


def test_the_guard_counts_refusals_that_end_what_is_served_though_its_record_was_lost(
    make_node: Callable[..., Any],
) -> None:
    node = make_node("gw1.example", max_removal_count=3, max_removal_share=0)
    workloads = refusable(node)
    for workload in workloads:
        node.put(RESERVATIONS, gwid(workload), None)
    node.relist(*workloads)  # without the answers that the explorer had
    before = node.rows()
    made = node.settle()
    assert "4 of 4 reservations would be removed" in render.held_reason(made.held)
    assert node.rows() == before


@pytest.mark.parametrize("lost", ["zone", "managed_domains", "alice.example.", "gw1.example.", RESERVATIONS])
def test_each_lost_key_comes_back(node: Any, lost: str) -> None:
    population(node)
    node.settle()
    node.acknowledge()
    before = node.rows()
    del node.hashes[lost]
    node.settle()
    assert node.rows() == before


def test_every_single_lost_or_changed_row_comes_back(node: Any) -> None:
    population(node)
    node.settle()
    node.acknowledge()
    before = node.rows()
    for key, fields in list(before.items()):
        if key == RESERVATIONS or isinstance(fields, bytes):
            continue
        for field in list(fields):
            for value in (None, "garbage", '{"a":[{"ip":"198.51.100.66","ttl":1}]}', "8"):
                node.hashes = {name: dict(rows) for name, rows in before.items() if not isinstance(rows, bytes)}
                node.put(key, field, value)
                node.settle()
                assert node.rows() == before, (key, field, value)


def test_a_changed_record_is_corrected_from_what_the_explorer_says(node: Any) -> None:
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.acknowledge()
    before = node.get(RESERVATIONS, "9-1")
    node.hashes[RESERVATIONS]["9-1"] = before.replace(b"203.0.113.5", b"198.51.100.66")
    node.settle()
    assert node.get(RESERVATIONS, "9-1") == before
    assert node.recorded(workload)


@pytest.mark.parametrize("raw", ["garbage", '"9.9.9"{}', '"1.0.0"{"id":"8-1"}', ""])
def test_p17_a_damaged_record_is_set_aside_and_rebuilt(node: Any, raw: str) -> None:
    population(node)
    node.settle()
    node.acknowledge()
    before = node.rows()
    node.put(RESERVATIONS, "4-1", raw)
    made = node.settle()
    assert any("record 4-1 cannot be read" in text for text in made.problems)
    assert node.text(QUARANTINE, "4-1") == raw
    del node.hashes[QUARANTINE]
    assert node.rows() == before


def test_p17_a_damaged_record_that_nobody_describes_is_left_alone(node: Any) -> None:
    node.put(RESERVATIONS, "4-1", "garbage")
    node.relist()
    assert node.desired.unlisted(["4-1"]) == ["4-1"]
    made = node.settle()
    assert node.text(RESERVATIONS, "4-1") == "garbage"
    assert any("record 4-1 cannot be read" in text for text in made.problems)


def test_p17_a_damaged_record_of_a_deleted_reservation_goes_with_its_rows(node: Any) -> None:
    workload = node.subdomain(4, "www.gw1.example", "203.0.113.6")
    node.settle()
    node.acknowledge()
    node.put(RESERVATIONS, "4-1", "garbage")
    node.delete(workload)
    node.settle()
    assert node.get("gw1.example.", "www") is None
    assert node.deleted(workload)
    assert not node.recorded(workload)
    assert node.text(QUARANTINE, "4-1") == "garbage"


# Order, adoption, blindness


def test_p8_new_ones_are_taken_by_ascending_id_whatever_the_order_of_arrival(node: Any) -> None:
    late = node.subdomain(10, "www.gw1.example", "203.0.113.6", tid=8)
    early = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    made = node.settle()
    assert [step.id for step in made.steps if step.id] == ["9-1", "10-1"]
    assert node.answer(early) == OK
    assert node.answer(late)[0] == ResultState.ERROR


def test_what_the_old_daemon_left_is_adopted_as_it_is(node: Any) -> None:
    """Forms that we would refuse today are served on until they are removed."""
    node.settle()
    record = Recorded(
        id="9-1",
        node_id=node.node_id,
        user_id="7",
        type="proxy",
        data={"domain": "internal.example", "addr": "127.0.0.1", "port": 80, "port_tls": 0},
        created="2021-01-18T20:00:03Z",
        result=RecordedResult("proxy", "9-1", "2021-01-18T20:00:05Z", 1, signature="ab" * 64),
    )
    node.hashes[RESERVATIONS] = {"9-1": encode_reservation(record)}
    node.settle()
    before = node.rows()
    workload = node.proxy(9, "internal.example", "127.0.0.1", port=80, tls=0)
    node.settle()
    assert node.rows() == before
    node.delete(workload)
    node.settle()
    assert not node.strings


def test_types_that_are_not_served_but_recorded_are_left_alone(node: Any) -> None:
    node.settle()
    record = Recorded("9-1", node.node_id, "7", "virtual_machine", {}, "2021-01-18T20:00:03Z")
    node.hashes[RESERVATIONS] = {"9-1": encode_reservation(record)}
    before = node.rows()
    workload = node.unknown(9, 12)
    node.settle()
    assert node.rows() == before
    node.delete(workload)
    made = node.settle()
    assert node.rows() == before
    assert any("9-1 waits" in text for text in made.problems)


def test_without_an_explorer_what_is_recorded_is_repaired(node: Any) -> None:
    population(node)
    node.settle()
    node.acknowledge()
    before = node.rows()
    node.desired = Desired(node.node_id)
    del node.hashes["zone"], node.hashes["alice.example."]
    node.strings.clear()
    node.settle()
    assert node.rows() == before


def test_p5_orphans_are_reported_and_not_touched(node: Any) -> None:
    node.settle()
    node.put("gone.example.", "__owner__", '{"txt":[{"text":"{}","ttl":600}]}')
    node.put("zone", "left.example", '{"Owner":"9"}')
    node.put("/tcprouter/service/left.example", None, "garbage")
    node.put("/tcprouter/service/web.left.example", None, node.text("x") or '{"Value":"eyJ1c2VyIjoiOSJ9"}')
    before = node.rows()
    node.relist()
    made = node.settle()
    assert node.rows() == before
    told = "\n".join(made.problems)
    assert "zone gone.example has records but no owner" in told
    assert "zone left.example of user 9 stands behind no reservation" in told
    assert "proxy entry left.example cannot be read" in told
    assert "proxy entry web.left.example of user 9 stands behind no reservation" in told


def test_a_bounded_number_of_problems_is_told(node: Any) -> None:
    for number in range(100):
        node.put("zone", f"z{number}.example", '{"Owner":"9"}')
    node.relist()
    problems = [text for text in node.settle().problems if "example" in text or "more" in text]
    assert len(problems) < 30
    assert any("and 80 more" in text for text in problems)


# Shown


def test_a_plan_renders_as_text_and_as_json(node: Any) -> None:
    node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.unknown(10, 12)
    made = node.plan()
    assert render.as_text(made).splitlines() == [
        "claim   gw1.example",
        "deploy  9-1 subdomain www.gw1.example of user 7",
        "refuse  10-1 virtual_machine of user 7: type of reservation not supported: virtual_machine",
        "3 steps: 1 claim, 1 deploy, 1 refuse",
    ]
    data = json.loads(json.dumps(render.as_data(made)))
    assert data["summary"] == {"claim": 1, "deploy": 1, "refuse": 1}
    assert data["steps"][1]["rows"] == [
        "managed_domains www.gw1.example",
        "gw1.example. www",
        "tfgateway:outbox result:9-1",
        "tfgateway_reservations 9-1",
    ]
    node.settle()
    assert render.as_text(node.plan()) == "0 steps"


def test_a_plan_renders_as_markdown(make_node: Callable[..., Any]) -> None:
    node = make_node("gw1.example", max_removal_count=0, max_removal_share=0)
    www = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.delegate(10, "`|*\x1b")
    assert render.as_markdown(node.plan()).splitlines() == [
        "| action | reservation | type | domain | user | why |",
        "|---|---|---|---|---|---|",
        r"| refuse | 10-1 | domain\_delegate | \`\|\*\\x1b | 7 | domain '\`\|\*\\x1b' name is invalid |",
        "",
        "- 1 steps: 1 refuse",
    ]
    node.delete(www)
    assert render.as_markdown(node.plan()).splitlines()[2:] == [
        "| held: remove | 9-1 | subdomain | www.gw1.example | 7 |  |",
        "",
        "- **Held back:** 1 of 1 reservations would be removed and at most 0 may be: "
        r"\`tfgateway reconcile --allow-removals\` if this is meant",
        "- 0 steps",
    ]


def test_control_characters_of_strangers_do_not_reach_a_terminal(node: Any) -> None:
    node.subdomain(9, "\x1b[31mwww.gw1.example", "203.0.113.5")
    text = render.as_text(node.plan())
    assert "\x1b" not in text
    assert "\\x1b[31mwww.gw1.example" in text


def test_a_result_in_another_state_is_never_overwritten(node: Any) -> None:
    workload = node.subdomain(9, "www.gw1.example", "203.0.113.5")
    result = results.make_result("9-1", 7, ResultState.ERROR, "no", node.identity, node.now)
    node.hashes[OUTBOX] = {"result:9-1": results.encode_result(result)}
    node.settle()
    assert isinstance(node.result(workload), Result)
    assert node.answer(workload) == (ResultState.ERROR, "no")
    assert not node.recorded(workload)
