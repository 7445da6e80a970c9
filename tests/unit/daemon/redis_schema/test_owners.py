from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.owners import decode_zone_owner, encode_zone_owner


def test_worked_examples(known: dict[str, Any]) -> None:
    for example in known["zone_owners"]:
        assert encode_zone_owner(example["owner"]) == example["stored"].encode()
        assert decode_zone_owner(example["stored"].encode()) == example["owner"]


@pytest.mark.parametrize(
    ("raw", "owner"),
    [
        (b'{"owner":"7"}', "7"),
        (b' {"OWNER" : "7", "since": 2020}\n', "7"),
        (b'{"Owner":"7","owner":"8"}', "8"),
        (b"{}", ""),
        (b"null", ""),
        (b'{"Owner":null}', ""),
        (b'{"Owner":""}', ""),
    ],
)
def test_any_case_is_read_and_an_absent_owner_is_nobody(raw: bytes, owner: str) -> None:
    assert decode_zone_owner(raw) == owner


@pytest.mark.parametrize("raw", [b"", b"7", b'"7"', b'{"Owner":7}', b'{"Owner":"7"', b"[]", b"[" * 5000])
def test_a_damaged_owner_is_not_nobody(raw: bytes) -> None:
    with pytest.raises(SchemaError, match="zone owner"):
        decode_zone_owner(raw)


@given(st.text())
def test_owners_round_trip(owner: str) -> None:
    assert decode_zone_owner(encode_zone_owner(owner)) == owner


@given(st.binary(max_size=60))
def test_any_bytes_are_an_owner_or_a_layout_error(raw: bytes) -> None:
    with contextlib.suppress(SchemaError):
        assert isinstance(decode_zone_owner(raw), str)
