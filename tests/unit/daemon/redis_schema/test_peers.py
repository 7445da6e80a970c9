from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.peers import Peer, decode_peer
from tfgateway.wireguard_key import decode_key, encode_key

KEY = "eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo="


@given(st.binary(min_size=32, max_size=32).filter(any))
def test_what_is_written_is_read(key: bytes) -> None:
    assert decode_key(encode_key(key)) == key
    assert decode_peer(b"7", encode_key(key).encode()) == Peer("7", key)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has 0 bytes, not 32"),
        (KEY[:-1], "it is not base64"),
        (KEY + "=", "it is not base64"),
        ("AAAA" + KEY, "it has 35 bytes, not 32"),
        (KEY.replace("+", "-").replace("/", "_"), "it is not base64"),
        (KEY + "\n", "it is not base64"),
        (" " + KEY, "it is not base64"),
        ("\u00e9" + KEY[1:], "it is not base64"),
        ("A" * 10_000, "it has 7500 bytes, not 32"),
    ],
)
def test_what_is_no_key_is_refused(text: str, why: str) -> None:
    with pytest.raises(SchemaError, match=f"^not a WireGuard key: {why}$"):
        decode_key(text)


@given(name=st.binary(max_size=24), raw=st.binary(max_size=60))
def test_anything_is_a_peer_or_a_layout_error(name: bytes, raw: bytes) -> None:
    try:
        peer = decode_peer(name, raw)
    except SchemaError:
        return
    assert (peer.tid.encode(), len(peer.public_key)) == (name, 32)


@pytest.mark.parametrize("name", [b"", b"-1", b"7 ", b"\xd9\xa7", b"1" * 20])
def test_a_field_is_a_tid(name: bytes) -> None:
    with pytest.raises(SchemaError, match="tid"):
        decode_peer(name, KEY.encode())
