"""Explorer objects from JSON: as tolerant as Go, item by item."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway import gojson
from tfgateway.errors import ParseError
from tfgateway.explorer import models, wire
from tfgateway.explorer.models import (
    DomainDelegate,
    Farm,
    Gateway,
    NextAction,
    Pool,
    Proxy,
    Result,
    Subdomain,
    Undecodable,
    UnknownWorkload,
    User,
    Workload,
    decode_workload,
    gwid,
    parse_workload,
)

SUBDOMAIN: dict[str, Any] = {
    "id": 311,
    "workload_id": 1,
    "node_id": "N",
    "customer_tid": 7,
    "next_action": 3,
    "epoch": 1611000003,
    "workload_type": 7,
    "domain": "www.gw1.example",
    "ips": ["203.0.113.5"],
    "signing_request_delete": {"signers": [7], "quorum_min": 1},
    "signatures_delete": [{"tid": 7, "signature": "ab", "epoch": 1611000004}],
    "result": {"category": 7, "workload_id": "311-1", "data_json": {"b": 1, "a": 2}, "state": 1, "epoch": 1611000005},
}


def test_a_workload_with_all_its_parts() -> None:
    workload = decode_workload(SUBDOMAIN)
    assert isinstance(workload, Subdomain)
    assert gwid(workload) == "311-1"
    assert workload.next_action == NextAction.DEPLOY
    assert workload.ips == ("203.0.113.5",)
    assert workload.signing_request_delete.signers == (7,)
    assert workload.signatures_delete[0].epoch == 1611000004
    assert workload.result.data_json == b'{"b":1,"a":2}'
    assert not workload.result.empty


def test_go_reads_keys_in_any_case_and_null_as_zero() -> None:
    text = b'{"ID":5,"Workload_Id":2,"WORKLOAD_TYPE":7,"Domain":"a.b","ips":null,"result":null,"new_in_2030":{}}'
    workload = parse_workload(gojson.decode(text))
    assert isinstance(workload, Subdomain)
    assert (gwid(workload), workload.domain, workload.ips) == ("5-2", "a.b", ())
    assert workload.result.empty


def test_the_last_duplicate_wins() -> None:
    workload = parse_workload(gojson.decode(b'{"domain":"a.b","workload_type":8,"domain":"c.d"}'))
    assert isinstance(workload, DomainDelegate)
    assert workload.domain == "c.d"


def test_broken_text_becomes_replacement_characters() -> None:
    workload = parse_workload(gojson.decode(b'{"workload_type":8,"domain":"a\xff","description":"\\ud800"}'))
    assert isinstance(workload, DomainDelegate)
    assert (workload.domain, workload.description) == ("a\ufffd", "\ufffd")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1611000000, 1611000000),
        (0, 0),
        (1611000000.9, 1611000000),
        ("", wire.ZERO_TIME),
        ("2021/01/18", 1610928000),
        ("21/01/18", 1610928000),
        ("18/01/2021", 1610928000),
        ("2021/01/18 20:30", 1611001800),
        ("2021/01/18 8pm:30", 1611001800),
        ("2021/01/18 12am:30", 1610929800),
    ],
)
def test_dates(value: object, seconds: int) -> None:
    assert parse_workload({"epoch": value}).epoch == seconds


@pytest.mark.parametrize(
    "value", ["x", "2021/02/30", "2021/13/01", "2021/01/18 24:00", True, [], {}, 1e300, "0000/00/00"]
)
def test_dates_that_are_none(value: object) -> None:
    with pytest.raises(ParseError):
        parse_workload({"epoch": value})


def test_the_zero_time_is_written_as_0() -> None:
    assert json.loads(wire.encode(Workload()))["epoch"] == 0


def test_members_are_written_in_gos_order() -> None:
    assert list(json.loads(wire.encode(Proxy())))[-6:] == [
        "workload_type",
        "version",
        "domain",
        "addr",
        "port",
        "port_tls",
    ]


def test_result_data_is_written_as_it_is() -> None:
    data = b'{"z": 1.0, "a":"\\u0041<"}'
    assert data in wire.encode(Result(data_json=data))
    assert wire.raw_member(b'{"x":1,"DATA_JSON": ' + data + b"}", "data_json") == data


@pytest.mark.parametrize("item", [None, 1, "x", [], [SUBDOMAIN], True])
def test_p2_what_is_no_object_is_undecodable(item: object) -> None:
    assert decode_workload(item) == Undecodable(id=0, gwid=None, type=0, reason="not a JSON object")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("ips", "203.0.113.5"),
        ("ips", [1]),
        ("domain", 5),
        ("epoch", "soon"),
        ("customer_tid", 2**63),
        ("customer_tid", "7"),
        ("result", []),
        ("signatures_delete", [{"tid": {}}]),
    ],
)
def test_p2_an_undecodable_workload_can_still_be_answered(member: str, value: object) -> None:
    found = decode_workload({**SUBDOMAIN, member: value})
    assert isinstance(found, Undecodable)
    assert (found.id, found.gwid, found.type) == (311, "311-1", 7)
    assert found.reason


@pytest.mark.parametrize(("number", "name"), [(12, "virtual_machine"), (99, "99"), (0, "zdb"), (-1, "-1")])
def test_p2_an_unknown_type_is_a_workload_with_a_name(number: int, name: str) -> None:
    workload = decode_workload({**SUBDOMAIN, "workload_type": number})
    assert isinstance(workload, UnknownWorkload)
    assert (workload.type_name, gwid(workload)) == (name, "311-1")


def test_a_gateway_without_new_members_and_with_null_lists() -> None:
    value = {"node_id": "N", "managed_domains": None, "workloads": {"proxy": 3}, "location": {"latitude": 51}}
    gateway = wire.decode(value, Gateway)
    assert (gateway.managed_domains, gateway.workloads.proxy, gateway.workloads.generic_vm) == ((), 3, 0)
    assert gateway.location.latitude == 51.0


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(SUBDOMAIN)) | st.text(), inner),
)


@given(_JSON)
def test_p2_decoding_never_raises(value: object) -> None:
    assert isinstance(decode_workload(value), Workload | Undecodable)


@given(st.dictionaries(st.sampled_from(list(SUBDOMAIN)), _JSON), st.integers(0, 13))
def test_p2_decoding_a_nearly_good_workload_never_raises(changes: dict[str, object], number: int) -> None:
    found = decode_workload({**SUBDOMAIN, "workload_type": number, **changes})
    assert isinstance(found, Workload | Undecodable)
    if isinstance(found, Workload):
        assert parse_workload(gojson.decode(wire.encode(found))).type_name == found.type_name


@given(_JSON, st.sampled_from([Gateway, User, Farm, Pool, Result, models.PoolOrder, models.Approval]))
def test_every_object_decodes_or_is_refused(value: object, kind: Any) -> None:
    with contextlib.suppress(ParseError):
        assert isinstance(wire.decode(value, kind), kind)


@given(st.binary(), st.sampled_from(["data_json", ""]))
def test_raw_members_are_found_or_refused(raw: bytes, name: str) -> None:
    with contextlib.suppress(ParseError):
        assert isinstance(wire.raw_member(raw, name), bytes)


def test_deep_nesting_is_refused() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    for member in ("result", "ips", "unknown"):
        assert isinstance(decode_workload({**SUBDOMAIN, member: deep}), Workload | Undecodable)
    assert isinstance(decode_workload({**SUBDOMAIN, "result": {"data_json": deep}}), Undecodable)
    with pytest.raises(ParseError):
        wire.raw_member(b'{"a":' + b"[" * 100_000, "a")
