"""subdomain through plan and apply."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tfgateway.explorer.models import NextAction, ResultState
from tfgateway.reconciler.planning.inputs.desired import Desired

OK = (ResultState.OK, "")
FIVE = '{"a":[{"ip":"203.0.113.5","ttl":3600}]}'


def test_a_name_in_a_managed_domain(node: Any) -> None:
    workload = node.subdomain(311, "www.gw1.example", "203.0.113.5", "2001:db8:0::5")
    node.settle()
    assert node.text("managed_domains", "www.gw1.example") == "7"
    assert node.text("gw1.example.", "www") == (
        '{"a":[{"ip":"203.0.113.5","ttl":3600}],"aaaa":[{"ip":"2001:db8::5","ttl":3600}]}'
    )
    assert node.answer(workload) == OK


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ("nodots", "domain 'nodots' name is invalid"),
        ("*.gw1.example", "domain '*.gw1.example' name is invalid"),
        ("www.bob.example", "cannot add subdomain www to zone bob.example: unauthorized error"),
        ("taken.gw1.example", "cannot add subdomain taken to zone gw1.example: subdomain already reserved"),
        ("gw1.example", "cannot add subdomain @ to zone gw1.example: unauthorized error"),
        (
            "x.taken.gw1.example",
            "cannot add subdomain x.taken to zone gw1.example: unauthorized error: "
            "taken.gw1.example belongs to another user",
        ),
        (
            "held.gw1.example",
            "cannot add subdomain held to zone gw1.example: unauthorized error: "
            "deep.held.gw1.example belongs to another user",
        ),
        ("__owner__.alice.example", "cannot add subdomain __owner__ to zone alice.example: unauthorized error"),
        ("byhand.gw1.example", "cannot add subdomain byhand to zone gw1.example: subdomain already reserved"),
        ("mail.gw1.example", "cannot add subdomain mail to zone gw1.example: subdomain already reserved"),
        ("proxied.gw1.example", "cannot add subdomain proxied to zone gw1.example: subdomain already reserved"),
        ("www.hand.example", "hand.example is not managed by the gateway. delegate the domain first"),
    ],
)
def test_p4_names_of_somebody_else_are_refused(node: Any, domain: str, message: str) -> None:
    node.delegate(1, "bob.example", tid=8)
    node.delegate(2, "alice.example")
    node.subdomain(3, "taken.gw1.example", "203.0.113.8", tid=8)
    node.subdomain(4, "deep.held.gw1.example", "203.0.113.8", tid=8)
    node.proxy(5, "proxied.gw1.example", tid=8)
    node.put("gw1.example.", "byhand", '{"a":[{"ip":"203.0.113.9","ttl":60}]}')
    node.put("gw1.example.", "mail", '{"mx":[{"host":"mx.example.","preference":5,"ttl":60}]}')
    node.put("hand.example.", "@", FIVE)
    node.settle()
    before = node.rows()
    workload = node.subdomain(311, domain, "203.0.113.5")
    node.settle()
    assert node.answer(workload) == (ResultState.ERROR, message)
    assert node.deleted(workload)
    assert node.rows() == before


@pytest.mark.parametrize("address", ["", "host.example", "203.0.113", "fe80::1%eth0", "0203.0.113.5", "<nil>"])
def test_p22_unparsable_address_is_refused(node: Any, address: str) -> None:
    workload = node.subdomain(311, "www.gw1.example", "203.0.113.5", address)
    node.settle()
    message = node.refusal(workload)
    assert f"'{address}' is not an IP address" in message
    assert node.get("gw1.example.", "www") is None


def test_r4_nil_of_the_old_gateway_is_cleaned_away(node: Any) -> None:
    workload = node.subdomain(311, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.put("gw1.example.", "www", '{"aaaa":[{"ip":"<nil>","ttl":3600}]}')
    node.settle()
    assert node.text("gw1.example.", "www") == FIVE
    assert node.recorded(workload)


def test_r3_foreign_types_in_a_name_survive(node: Any) -> None:
    node.delegate(1, "alice.example")
    node.settle()
    node.put("alice.example.", "www", '{"mx":[{"host":"mx.example.","preference":5,"ttl":60}],"soa":{"ns":"x."}}')
    workload = node.subdomain(2, "www.alice.example", "203.0.113.5")
    node.settle()
    stored = node.text("alice.example.", "www")
    assert '"mx":[{"host":"mx.example.","preference":5,"ttl":60}]' in stored
    assert '"soa":{"ns":"x."}' in stored
    assert '"a":[{"ip":"203.0.113.5","ttl":3600}]' in stored
    node.delete(workload)
    node.settle()
    assert node.text("alice.example.", "www") == (
        '{"mx":[{"host":"mx.example.","preference":5,"ttl":60}],"soa":{"ns":"x."}}'
    )


def test_p9_the_apex_of_an_own_zone_is_the_field_at(node: Any) -> None:
    node.delegate(1, "alice.example")
    workload = node.subdomain(2, "alice.example", "203.0.113.5")
    node.settle()
    assert node.text("alice.example.", "@") == FIVE
    assert node.get("alice.example.", "") is None
    node.delete(workload)
    node.settle()
    assert node.get("alice.example.", "@") is None
    assert node.get("alice.example.", "__owner__") is not None


def test_p9_the_empty_field_of_the_old_gateway_is_read_for_removal(node: Any) -> None:
    node.delegate(1, "alice.example")
    workload = node.subdomain(2, "alice.example", "203.0.113.5")
    node.settle()
    node.put("alice.example.", "@", None)
    node.put("alice.example.", "", FIVE)
    node.delete(workload)
    node.settle()
    assert node.get("alice.example.", "") is None
    assert node.get("alice.example.", "@") is None


def test_p10_deeper_names_go_into_the_longest_zone(node: Any) -> None:
    node.delegate(1, "alice.example")
    deep = node.subdomain(2, "a.b.alice.example", "203.0.113.5")
    managed = node.subdomain(3, "a.b.gw1.example", "203.0.113.5")
    node.settle()
    assert node.answer(deep) == node.answer(managed) == OK
    assert node.text("alice.example.", "a.b") == FIVE
    assert node.text("gw1.example.", "a.b") == FIVE


def test_p10_a_name_moves_when_a_zone_appears_or_disappears_above_it(node: Any) -> None:
    node.delegate(1, "alice.example")
    node.subdomain(2, "a.b.alice.example", "203.0.113.5")
    node.settle()
    closer = node.delegate(3, "b.alice.example")
    node.settle()
    assert node.text("b.alice.example.", "a") == FIVE
    assert node.get("alice.example.", "a.b") is None
    node.delete(closer)
    node.settle()
    assert node.text("alice.example.", "a.b") == FIVE
    assert "b.alice.example." not in node.hashes
    assert node.text("managed_domains", "a.b.alice.example") == "7"


def test_p11_workloads_of_one_name_are_united_without_duplicates(node: Any) -> None:
    node.delegate(1, "alice.example")
    first = node.subdomain(2, "www.alice.example", "203.0.113.5", "203.0.113.6")
    second = node.subdomain(3, "www.alice.example", "203.0.113.6", "203.0.113.7")
    node.settle()
    ips = [f"203.0.113.{last}" for last in (5, 6, 7)]
    assert node.text("alice.example.", "www") == (
        '{"a":[' + ",".join(f'{{"ip":"{ip}","ttl":3600}}' for ip in ips) + "]}"
    )
    node.delete(second)
    node.settle()
    assert node.text("alice.example.", "www") == (
        '{"a":[{"ip":"203.0.113.5","ttl":3600},{"ip":"203.0.113.6","ttl":3600}]}'
    )
    assert node.text("managed_domains", "www.alice.example") == "7"
    node.delete(first)
    node.settle()
    assert node.get("alice.example.", "www") is None
    assert node.get("managed_domains", "www.alice.example") is None


def test_p11_duplicates_of_the_old_gateway_are_tidied(node: Any) -> None:
    node.subdomain(2, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.put("gw1.example.", "www", '{"a":[{"ip":"203.0.113.5","ttl":3600},{"ip":"203.0.113.5","ttl":3600}]}')
    node.settle()
    assert node.text("gw1.example.", "www") == FIVE


def test_p12_the_claim_goes_even_when_the_records_are_gone_already(node: Any) -> None:
    workload = node.subdomain(311, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.put("gw1.example.", "www", None)
    node.delete(workload)
    node.settle()
    assert node.get("managed_domains", "www.gw1.example") is None
    again = node.subdomain(312, "www.gw1.example", "203.0.113.6", tid=8)
    node.settle()
    assert node.answer(again) == OK


def test_p8_a_name_is_free_for_others_in_the_pass_that_removes_it(node: Any) -> None:
    old = node.subdomain(311, "www.gw1.example", "203.0.113.5")
    node.settle()
    new = node.subdomain(312, "www.gw1.example", "203.0.113.6", tid=8)
    node.delete(old)
    node.settle()
    assert node.answer(new) == OK
    assert node.text("managed_domains", "www.gw1.example") == "8"
    assert node.text("gw1.example.", "www") == '{"a":[{"ip":"203.0.113.6","ttl":3600}]}'


def test_a_workload_without_addresses_is_refused(node: Any) -> None:
    workload = node.subdomain(311, "www.gw1.example")
    node.settle()
    assert node.answer(workload) == (
        ResultState.ERROR,
        "incorrect format for domain www.gw1.example: it has no address",
    )
    assert node.get("managed_domains", "www.gw1.example") is None


def test_p12_one_without_addresses_that_counts_holds_its_name_and_gives_it_back(node: Any) -> None:
    """An old gateway granted such."""
    workload = node.subdomain(311, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.acknowledge()
    workload = node.want(msgspec.structs.replace(workload, ips=()))
    node.settle()
    assert node.answer(workload) == OK
    assert node.text("managed_domains", "www.gw1.example") == "7"
    node.delete(workload)
    node.settle()
    assert node.get("managed_domains", "www.gw1.example") is None


def test_p12_stale_claims_are_swept_once_the_listing_is_complete(node: Any) -> None:
    node.desired = Desired(node.node_id)
    node.put("managed_domains", "stale.gw1.example", "8")
    node.put("managed_domains", "served.gw1.example", "8")
    node.put("gw1.example.", "served", FIVE)
    node.settle()
    assert node.text("managed_domains", "stale.gw1.example") == "8"
    node.relist()
    made = node.settle()
    assert node.get("managed_domains", "stale.gw1.example") is None
    assert node.text("managed_domains", "served.gw1.example") == "8"
    assert any("served.gw1.example of user 8 stands behind no reservation" in text for text in made.problems)


def test_p14_an_own_name_whose_record_was_lost_is_taken_up_again(node: Any) -> None:
    workload = node.subdomain(311, "www.gw1.example", "203.0.113.5")
    node.settle()
    before = node.rows()
    del node.hashes["tfgateway_reservations"]
    node.settle()
    assert node.rows() == before
    assert node.answer(workload) == OK
    del node.hashes["tfgateway_reservations"]
    del node.hashes["managed_domains"]
    node.settle()
    assert node.rows() == before


def test_p20_capitals_are_lowered(node: Any) -> None:
    workload = node.subdomain(311, "WWW.Gw1.Example", "203.0.113.5")
    node.settle()
    assert node.text("gw1.example.", "www") == FIVE
    assert node.text("managed_domains", "www.gw1.example") == "7"
    other = node.subdomain(312, "www.gw1.example", "203.0.113.6", tid=8)
    node.settle()
    assert node.answer(other) == (
        ResultState.ERROR,
        "cannot add subdomain www to zone gw1.example: subdomain already reserved",
    )
    assert node.recorded(workload)


@pytest.mark.parametrize("name", ["_acme-challenge", "_dmarc", "a._x", "__owner__"])
def test_p20_underscored_names_are_reserved_in_managed_domains(node: Any, name: str) -> None:
    workload = node.subdomain(311, f"{name}.gw1.example", "203.0.113.5")
    node.settle()
    assert node.answer(workload)[0] == ResultState.ERROR


def test_p20_underscored_names_are_free_in_an_own_zone(node: Any) -> None:
    node.delegate(1, "alice.example")
    workload = node.subdomain(2, "_acme-challenge.alice.example", "203.0.113.5")
    node.settle()
    assert node.answer(workload) == OK


def test_the_same_user_gets_a_managed_name_only_once(node: Any) -> None:
    node.subdomain(311, "www.gw1.example", "203.0.113.5")
    second = node.subdomain(312, "www.gw1.example", "203.0.113.6")
    node.settle()
    assert node.answer(second)[0] == ResultState.ERROR
    assert node.text("gw1.example.", "www") == FIVE


def test_a_row_of_another_user_is_not_removed(node: Any) -> None:
    node.desired = Desired(node.node_id)
    workload = node.subdomain(311, "www.gw1.example", "203.0.113.5")
    node.settle()
    node.put("managed_domains", "www.gw1.example", "8")
    node.delete(workload, NextAction.DELETE)
    node.settle()
    assert node.text("managed_domains", "www.gw1.example") == "8"


def test_p4_a_name_that_was_never_granted_takes_nothing_away_when_it_is_deleted(node: Any) -> None:
    """Posted and deleted before the gateway saw it, with the very address of the other."""
    node.subdomain(1, "www.gw1.example", "203.0.113.5", tid=8)
    node.settle()
    node.put("gw1.example.", "byhand", FIVE)
    node.acknowledge()
    before = node.rows()
    for number, name in ((2, "www.gw1.example"), (3, "byhand.gw1.example")):
        node.delete(node.subdomain(number, name, "203.0.113.5"))
    made = node.settle()
    assert made.summary() == {"remove": 2}
    assert node.rows() == before


def test_p3_an_unreadable_zone_owner_is_no_reason_to_refuse(node: Any) -> None:
    node.put("zone", "alice.example", "{garbage")
    workload = node.subdomain(311, "www.alice.example", "203.0.113.5")
    made = node.settle()
    assert node.answer(workload) is None
    assert any("cannot be read" in text for text in made.problems)
    node.put("zone", "alice.example", '{"owner":"7"}')
    node.settle()
    assert node.answer(workload) == OK
