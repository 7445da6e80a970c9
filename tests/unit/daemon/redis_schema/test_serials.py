from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.serials import Issued, decode_issued, encode_issued


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1))
def test_what_is_written_is_read(serial: int, digest: int) -> None:
    assert decode_issued(encode_issued(Issued(serial, digest))) == Issued(serial, digest)


def test_form_of_a_value() -> None:
    assert encode_issued(Issued(1767225600, 0xAB)) == b"1767225600 000000000000000000000000000000ab"


@given(st.binary(max_size=60))
def test_anything_else_is_a_layout_error(raw: bytes) -> None:
    try:
        issued = decode_issued(raw)
    except SchemaError:
        return
    assert encode_issued(issued).split()[1] == raw.split()[1]


@pytest.mark.parametrize("raw", [b"", b"1", b"4294967296 " + b"0" * 32, b"-1 " + b"0" * 32, b"1 " + b"0" * 33])
def test_damaged_values(raw: bytes) -> None:
    with pytest.raises(SchemaError):
        decode_issued(raw)
