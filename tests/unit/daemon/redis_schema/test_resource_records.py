"""Records by updates in a zone's field: old readers pass over them, everything else stays byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.redis_schema import resource_records
from tfgateway.redis_schema.records import decode_records, edit_addresses
from tfgateway.redis_schema.resource_records import ResourceRecord

RECORDS = st.lists(
    st.builds(ResourceRecord, st.integers(1, 65535), st.integers(0, 2**31 - 1), st.binary(max_size=20).map(bytes.hex)),
    max_size=4,
).map(tuple)
OLD = b'{"a":[{"ip":"203.0.113.5","ttl":3600}],"mx":[{"host":"m.","preference" : 10}]}'


@given(RECORDS, st.sampled_from([None, b"{}", OLD]))
def test_written_is_read_and_the_rest_stays(records: tuple[ResourceRecord, ...], before: bytes | None) -> None:
    raw = resource_records.edit(before, records)
    assert resource_records.decode(raw or b"{}") == (records, ())
    assert decode_records(raw or b"{}") == decode_records(before or b"{}"), "for readers of the old layout"
    again = resource_records.edit(raw, ())
    assert again == resource_records.edit(before, ())
    if before == OLD:
        assert again == OLD
        assert raw is not None
        assert b'"preference" : 10' in raw


def test_the_old_writer_keeps_them() -> None:
    record = ResourceRecord(16, 60, "0178")
    raw = resource_records.edit(OLD, [record])
    moved = edit_addresses(raw, remove=["203.0.113.5"], add=["203.0.113.6"])
    assert moved is not None
    assert resource_records.decode(moved) == ((record,), ())


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        (1, ("rr: not a list",)),
        ([1], ("rr[0]: not a record of type, ttl and data",)),
        ([{"type": 0, "ttl": 1, "data": ""}], ("rr[0]: not a record of type, ttl and data",)),
        ([{"type": 16, "ttl": -1, "data": ""}], ("rr[0]: not a record of type, ttl and data",)),
        ([{"type": 16, "ttl": 1, "data": "0"}], ("rr[0]: not a record of type, ttl and data",)),
        ([{"type": 16, "ttl": 1, "data": "zz"}], ("rr[0]: not a record of type, ttl and data",)),
    ],
)
def test_damage_costs_itself(value: object, problems: tuple[str, ...]) -> None:
    raw = json.dumps({"rr": value, "a": [{"ip": "203.0.113.5", "ttl": 1}]}).encode()
    assert resource_records.decode(raw) == ((), problems)
    assert decode_records(raw)[1] == ()


@given(st.binary(max_size=100))
def test_anything_is_read(raw: bytes) -> None:
    resource_records.decode(raw)
    resource_records.decode(b'{"rr":' + raw + b"}")
