from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway import gojson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def test_text_is_written_with_gos_escapes_and_members_in_their_order() -> None:
    assert (
        gojson.encode({"z": "<a&b>", "a": "\u2028\u2029é"})
        == b'{"z":"\\u003ca\\u0026b\\u003e","a":"\\u2028\\u2029\xc3\xa9"}'
    )


@given(VALUES)
def test_what_is_written_is_read(value: object) -> None:
    raw = gojson.encode(value)
    assert gojson.decode(raw) == value
    assert json.loads(raw) == value


@given(VALUES)
def test_both_ways_of_reading_agree(value: object) -> None:
    # A tail is what the fast way refuses.
    assert gojson.decode_first(gojson.encode(value) + b" x") == (value, True)


@pytest.mark.parametrize(
    ("raw", "value", "rest"),
    [
        (b' {"a":1}\r\n\t', {"a": 1}, False),
        (b'{"a":1} {"b":2}', {"a": 1}, True),
        (b'"\xff"', "\ufffd", False),
        (b'"\\ud800"', "\ufffd", False),
        (b'"\\udc00\\ud800x"', "\ufffd\ufffdx", False),
        (b'"\\ud83d\\ude00"', "\U0001f600", False),
        (b'{"\\ud800":["\\udfff"]}', {"\ufffd": ["\ufffd"]}, False),
        (b"[1e999]", [float("inf")], False),
        (b"[-1e999]", [float("-inf")], False),
        (b"123456789012345678901234567890", 123456789012345678901234567890, False),
        (b"1.0", 1.0, False),
    ],
)
def test_what_go_reads_is_read(raw: bytes, value: object, rest: bool) -> None:
    assert gojson.decode_first(raw) == (value, rest)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"a":}',
        b"NaN",
        b"Infinity",
        b"'a'",
        b'"a\x01"',
        b"\xef\xbb\xbf{}",
        b"\x0b1",
        b"[" * 10**6,
        b"1" * 5000,
    ],
)
def test_what_go_refuses_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        gojson.decode_first(raw)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_value_that_can_be_written_again_or_a_value_error(raw: bytes) -> None:
    try:
        value = gojson.decode(raw)
    except ValueError:
        return
    gojson.encode(value)


def test_objects_are_read_without_regard_to_case_and_null_is_absent() -> None:
    assert gojson.decode_object(b'{"Owner":"7","ID":null,"x":{"Y":null}}') == {"owner": "7", "x": {"Y": None}}
    assert gojson.decode_object(b'{"a":1,"A":2}') == {"a": 2}
    assert gojson.decode_object(b'{"a":1,"A":null}') == {"a": 1}
    assert gojson.decode_object(b"null") == {}


@pytest.mark.parametrize("raw", [b"[]", b"5", b'"a"', b"{}{}", b"true"])
def test_what_is_no_object_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a JSON object|data follows"):
        gojson.decode_object(raw)
