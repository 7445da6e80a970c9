from __future__ import annotations

import contextlib
import dataclasses
import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.reservations import (
    FOREVER,
    ZERO_TIME,
    Recorded,
    RecordedResult,
    decode_reservation,
    encode_reservation,
    rfc3339,
    unix_seconds,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RESULTS = st.builds(
    RecordedResult,
    type=st.text(),
    id=st.text(min_size=1),
    created=st.text(),
    state=st.integers(0, 2),
    message=st.text(),
    data_json=st.sampled_from([b"null", b"[]", b'{"ips":["fd00::1"],"n":1}']),
    signature=st.text(),
)
RECORDED = st.builds(
    Recorded,
    id=st.text(min_size=1),
    node_id=st.text(),
    user_id=st.text(),
    type=st.text(),
    data=st.none() | st.dictionaries(st.text(), JSON, max_size=4),
    created=st.text(),
    signature=st.binary(),
    reference=st.text(),
    result=st.none() | RESULTS,
    version=INT64,
    to_delete=st.booleans(),
    duration=INT64,
)


@pytest.fixture(scope="session")
def stored(known: dict[str, Any]) -> bytes:
    raw: str = known["reservation"]["stored"]
    return raw.encode()


@pytest.fixture(scope="session")
def recorded(known: dict[str, Any]) -> Recorded:
    return Recorded(
        id="311-1",
        node_id=known["node_id"],
        user_id="7",
        type="subdomain",
        data={"domain": "www.gw1.example", "destination": ["203.0.113.5", "2001:db8::5"]},
        created=rfc3339(1611000003),
        signature=known["reservation"]["customer_signature"].encode(),
        result=RecordedResult(
            type="subdomain",
            id="311-1",
            created=rfc3339(1611000005, 123456789),
            state=1,
            signature=known["reservation"]["result_signature"],
        ),
    )


def test_vector_14_reservation_byte_for_byte(stored: bytes, recorded: Recorded) -> None:
    assert encode_reservation(recorded) == stored
    assert decode_reservation(stored) == recorded


@given(RECORDED)
def test_reservations_round_trip(reservation: Recorded) -> None:
    raw = encode_reservation(reservation)
    assert raw.startswith(b'"1.0.0"{"id":')
    assert raw.endswith(b"}\n")
    assert decode_reservation(raw) == reservation


@given(RECORDED)
def test_what_the_old_daemon_wrote_is_written_back_byte_for_byte(reservation: Recorded) -> None:
    raw = encode_reservation(reservation)
    assert encode_reservation(decode_reservation(raw)) == raw


def test_a_reservation_without_answer_is_gos_zero_result(recorded: Recorded) -> None:
    raw = encode_reservation(dataclasses.replace(recorded, result=None, data=None, signature=b""))
    members = json.loads(raw.removeprefix(b'"1.0.0"'))
    assert members["result"] == {
        "type": "",
        "id": "",
        "created": "0001-01-01T00:00:00Z",
        "state": 0,
        "message": "",
        "data_json": None,
        "signature": "",
    }
    assert members["duration"] == 9223372036854775807
    assert "data" not in members
    assert "signature" not in members
    assert decode_reservation(raw).result is None


def test_text_is_escaped_as_go_does_it(recorded: Recorded) -> None:
    raw = encode_reservation(dataclasses.replace(recorded, node_id="<a&b>\u2028"))
    assert b'"node_id":"\\u003ca\\u0026b\\u003e\\u2028"' in raw


@pytest.mark.parametrize("version", [b'"1.0.0"', b'\n "1.0.0" \t', b'"0.9.9"', b'"1.0.0-rc1"', b'"0.0.0"', b"", b" "])
def test_versions_up_to_1_0_0_and_none_are_read(stored: bytes, recorded: Recorded, version: bytes) -> None:
    assert decode_reservation(version + stored.removeprefix(b'"1.0.0"')) == recorded


@pytest.mark.parametrize("version", [b'"1.0.1"', b'"1.1.0"', b'"2.0.0"', b'"1.0.1-rc1"', b'"10.0.0"'])
def test_p17_a_newer_version_is_a_layout_error(stored: bytes, version: bytes) -> None:
    with pytest.raises(SchemaError, match=r"newer than 1\.0\.0"):
        decode_reservation(version + stored.removeprefix(b'"1.0.0"'))


def test_members_may_be_absent_null_unknown_or_in_another_case() -> None:
    raw = b'"1.0.0"{"ID":"1-1","User_ID":"7","type":null,"extra":[1],"result":null}'
    assert decode_reservation(raw) == Recorded(
        id="1-1", node_id="", user_id="7", type="", data=None, created=ZERO_TIME, duration=0, version=0
    )


@pytest.mark.parametrize(
    "members",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"id":""}',
        '{"id":5}',
        '{"id":"1-1","duration":"forever"}',
        '{"id":"1-1","duration":1e3}',
        '{"id":"1-1","duration":9223372036854775808}',
        '{"id":"1-1","to_delete":1}',
        '{"id":"1-1","version":true}',
        '{"id":"1-1","signature":"*"}',
        '{"id":"1-1","signature":"é"}',
        '{"id":"1-1","data":[]}',
        '{"id":"1-1","result":[]}',
        '{"id":"1-1","result":{"state":"1"}}',
        '{"id":"1-1"}{}',
        '{"id":"1-1"',
        "[" * 5000,
        '{"id":"' + "1" * 1024 * 1024 + '"}',
    ],
)
def test_p17_a_damaged_entry_is_a_layout_error(members: str) -> None:
    with pytest.raises(SchemaError, match="reservation"):
        decode_reservation(b'"1.0.0"' + members.encode())


@given(
    st.binary(max_size=100)
    | JSON.map(lambda value: b'"1.0.0"' + json.dumps(value).encode())
    | st.dictionaries(
        st.sampled_from(["id", "node_id", "data", "created", "signature", "result", "version", "to_delete"]), JSON
    ).map(lambda value: json.dumps({"id": "1-1", **value}).encode())
)
def test_any_bytes_are_a_reservation_or_a_layout_error(raw: bytes) -> None:
    with contextlib.suppress(SchemaError):
        encode_reservation(decode_reservation(raw))


@pytest.mark.parametrize(
    ("seconds", "nanoseconds", "text"),
    [
        (1611000003, 0, "2021-01-18T20:00:03Z"),
        (1611000005, 123456789, "2021-01-18T20:00:05.123456789Z"),
        (0, 500_000_000, "1970-01-01T00:00:00.5Z"),
        (0, 1, "1970-01-01T00:00:00.000000001Z"),
        (-1, 0, "1969-12-31T23:59:59Z"),
        (-62135596800, 0, ZERO_TIME),
        (253402300799, 0, "9999-12-31T23:59:59Z"),
    ],
)
def test_times_are_printed_as_go_prints_them(seconds: int, nanoseconds: int, text: str) -> None:
    assert rfc3339(seconds, nanoseconds) == text


@pytest.mark.parametrize("seconds", [-62135596801, 253402300800, 2**63, -(2**200)])
def test_a_time_without_four_digits_for_the_year_is_a_layout_error(seconds: int) -> None:
    with pytest.raises(SchemaError, match="outside of the years"):
        rfc3339(seconds)


@given(st.integers(-62135596800, 253402300799))
def test_times_can_be_read_back(seconds: int) -> None:
    assert int(datetime.fromisoformat(rfc3339(seconds)).timestamp()) == seconds


def test_the_duration_is_for_ever() -> None:
    assert Recorded("1-1", "", "", "", None, ZERO_TIME).duration == FOREVER == 9223372036854775807


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2021-01-18T20:00:05.123456789Z", 1_611_000_005),
        ("2021-01-18T21:00:05.1+01:00", 1_611_000_005),
        (ZERO_TIME, 0),
        ("yesterday", 0),
        ("", 0),
    ],
)
def test_times_are_read_back(text: str, seconds: int) -> None:
    assert unix_seconds(text) == seconds
