from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.tunnels import Connected, decode_tunnels, encode_tunnels, fingerprint

addresses = st.ip_addresses().map(str)
clients = st.dictionaries(st.text().map(fingerprint), st.builds(Connected, st.integers(0, 10**11), addresses))


@given(clients)
def test_what_is_written_is_read(those: dict[str, Connected]) -> None:
    assert decode_tunnels(encode_tunnels(those)) == those


def test_form_of_a_value() -> None:
    name = fingerprint("7:s3cr3t-tunnel-key")
    raw = encode_tunnels({name: Connected(1767225600, "203.0.113.7")})
    assert raw == name.encode() + b" 1767225600 203.0.113.7"
    assert b"s3cr3t" not in raw


@given(st.binary(max_size=80))
def test_anything_else_is_a_layout_error(raw: bytes) -> None:
    try:
        decode_tunnels(raw)
    except SchemaError:
        return
    assert raw == b""


@pytest.mark.parametrize("raw", [b"\n", b"0" * 32 + b" 1 1.2.3", b"0" * 31 + b" 1 1.2.3.4", b"0" * 32 + b" -1 ::"])
def test_damaged_values(raw: bytes) -> None:
    with pytest.raises(SchemaError):
        decode_tunnels(raw)
