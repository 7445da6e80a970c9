from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.zone_changes import MAX_MESSAGE, decode_changes, encode_changes


def net(text: bytes) -> bytes:
    return b"%d:%b" % (len(text), text)


def encoded(parts: list[tuple[bytes, bytes, bytes | None]]) -> bytes:
    return b"".join(
        (b"-" if value is None else b"+") + net(key) + net(field) + (b"" if value is None else net(value))
        for key, field, value in parts
    )


@given(
    st.lists(st.tuples(st.sampled_from([b"a.", b"b:."]), st.binary(max_size=5), st.none() | st.binary()), max_size=9)
)
def test_what_a_script_tells_is_read_back(parts: list[tuple[bytes, bytes, bytes | None]]) -> None:
    expected: dict[bytes, dict[bytes, bytes | None]] = {}
    for key, field, value in parts:
        expected.setdefault(key, {})[field] = value
    assert decode_changes(encoded(parts)) == expected
    assert decode_changes(encoded(parts) + b"!" + net(b"a.")) == {**expected, b"a.": None}
    assert decode_changes(encode_changes({**expected, b"gone.": None})) == {**expected, b"gone.": None}


def test_what_is_too_long_is_not_told() -> None:
    assert encode_changes({b"a.": {b"x": bytes(MAX_MESSAGE)}}) == b""


@given(st.binary(max_size=60))
def test_anything_else_is_an_error_and_nothing_worse(raw: bytes) -> None:
    with contextlib.suppress(SchemaError):
        decode_changes(raw)


@pytest.mark.parametrize("raw", [b"+", b"+2:a.", b"*2:a.1:b", b"+2:a.1:b9:x", b"+-1:a", b"+99999999999:a", b"+1:"])
def test_damage_is_an_error(raw: bytes) -> None:
    with pytest.raises(SchemaError):
        decode_changes(raw)


def test_every_beginning_of_a_message_is_an_error_or_its_first_parts() -> None:
    whole = encoded([(b"a.", b"x", b"1"), (b"a.", b"y", None)])
    seen = []
    for end in range(len(whole)):
        try:
            seen.append(decode_changes(whole[:end]))
        except SchemaError:
            continue
    assert seen == [{}, {b"a.": {b"x": b"1"}}]
