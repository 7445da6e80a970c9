from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.marker import (
    ANY,
    LONGEST,
    NONE,
    Marker,
    Mismatch,
    decode_marker,
    encode_marker,
    mismatch,
    read_marker,
)

A, B, C = ("a" * 32, "b" * 32, "c" * 32)
NODE, OTHER = "DLFF6CAshvyhCrpyTHq1dMd6QP6kFyhrVGegTgudk6xk", "another"
HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
NUMBER = st.integers(0, 2**53 - 1)
MARKERS = st.builds(
    Marker,
    st.text("".join(map(chr, range(33, 127))), min_size=1, max_size=64),
    HEX,
    NUMBER,
    NUMBER,
    st.text("0123456789abcdef", min_size=16, max_size=16),
    NUMBER,
    st.sampled_from([NONE, ANY]) | HEX,
    st.booleans(),
)


@given(MARKERS)
def test_what_is_written_is_read_and_fits(marker: Marker) -> None:
    raw = encode_marker(marker)
    assert decode_marker(raw) == read_marker(raw) == marker
    assert len(raw) <= LONGEST


@given(st.binary(max_size=2 * LONGEST))
def test_anything_else_is_unreadable_and_nothing_worse(raw: bytes) -> None:
    found = read_marker(raw)
    assert found is (Mismatch.UNREADABLE if raw else Mismatch.ABSENT) or encode_marker(decode_marker(raw)) == raw


@given(MARKERS, st.data())
def test_a_damaged_marker_is_unreadable_or_another_valid_one(marker: Marker, data: st.DataObject) -> None:
    raw = bytearray(encode_marker(marker))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    found = read_marker(bytes(raw))
    assert found is Mismatch.UNREADABLE or isinstance(found, Marker)


GOOD = f"1 node {A} 12 34 {'0' * 16} 5 - live"


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("live", "gone"),
        ("1 node", "2 node"),
        (" 12 ", " -12 "),
        (" 12 ", " 9007199254740992 "),
        (" 34 ", " 9999999999999999 "),
        (" 5 ", " 9999999999999999 "),
        ("live", "live\n"),
        ("node", "n" * 65),
        (" 12 ", " " + "0" * 400 + "12 "),
        (" 12 ", " \N{ARABIC-INDIC DIGIT ONE} "),
        (A, A.upper()),
        (" - ", " "),
    ],
)
def test_hostile_values_are_errors(part: str, instead: str) -> None:
    assert decode_marker(GOOD.encode()) == Marker("node", A, 12, 34, base=5)
    assert part in GOOD
    with pytest.raises(SchemaError):
        decode_marker(GOOD.replace(part, instead, 1).encode())


SEEN = Marker(NODE, A, 100, 7)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Mismatch.ABSENT, Mismatch.ABSENT),
        (Mismatch.UNREADABLE, Mismatch.UNREADABLE),
        (SEEN, None),
        (Marker(NODE, A, 101, 8), None),
        (Marker(NODE, A, 101, 7, retired=True), None),
        (Marker(NODE, A, 99, 7), Mismatch.OLDER),
        (Marker(NODE, A, 100, 6), Mismatch.OLDER),
        (Marker(NODE, A, 99, 7, retired=True), Mismatch.OLDER),
        (Marker(NODE, A, 105, 7, "1" * 16, base=100), None),  # another process went on
        (Marker(NODE, A, 105, 7, "1" * 16, base=99), Mismatch.OLDER),  # it went on from an older state
        (Marker(NODE, A, 105, 8, "1" * 16, base=99), None),  # and has made a full pass since
        (Marker(NODE, A, 99, 7, previous=ANY), None),
        (Marker(NODE, B, 200, 9), Mismatch.REPLACED),
        (Marker(NODE, B, 200, 9, previous=C), Mismatch.REPLACED),
        (Marker(NODE, B, 1, 0, previous=A), Mismatch.REPLACED),  # still being filled
        (Marker(NODE, B, 2, 1, previous=A), None),
        (Marker(NODE, B, 1, 0, previous=ANY), Mismatch.REPLACED),
        (Marker(NODE, B, 1, 1, previous=ANY), None),
        (Marker(OTHER, B, 200, 9), Mismatch.FOREIGN),
        (Marker(OTHER, A, 200, 9), Mismatch.FOREIGN),
        (Marker(OTHER, B, 2, 1, previous=A), None),  # a new identity that took the data over
        (Marker(OTHER, B, 1, 1, previous=ANY), None),
    ],
)
def test_what_follows_from_what_was_seen(found: Marker | Mismatch, expected: Mismatch | None) -> None:
    assert mismatch(SEEN, found) is expected
