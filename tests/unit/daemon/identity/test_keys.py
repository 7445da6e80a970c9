from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import IdentityError
from tfgateway.identity.keys import Identity, node_id_to_public_key, public_key_to_node_id, verify

KEYS = st.binary(min_size=32, max_size=32)


def test_vectors_1_and_2_public_key_and_node_id(party: dict[str, Any]) -> None:
    identity = Identity.from_seed(bytes.fromhex(party["seed"]))
    assert identity.public_key.hex() == party["public_key"]
    assert identity.node_id == party["node_id"]
    assert node_id_to_public_key(party["node_id"]).hex() == party["public_key"]


def test_vector_0_upstream_keys(known: dict[str, Any]) -> None:
    upstream = known["upstream"]
    assert Identity(upstream["ed25519"]["seed_text"].encode()).public_key.hex() == upstream["ed25519"]["public_key"]
    assert Identity(upstream["node_id"]["seed_text"].encode()).node_id == upstream["node_id"]["node_id"]


def test_a_signature_verifies_for_its_message_and_key_only() -> None:
    ours, other = Identity(bytes(32)), Identity(bytes(31) + b"\1")
    signature = ours.sign(b"message")
    assert len(signature) == 64
    assert verify(ours.public_key, b"message", signature)
    assert not verify(ours.public_key, b"massage", signature)
    assert not verify(other.public_key, b"message", signature)
    assert not verify(ours.public_key, b"message", signature[:-1] + bytes([signature[-1] ^ 1]))


def test_a_vector_of_rfc_8032() -> None:
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    identity = Identity(seed)
    assert identity.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert identity.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@given(st.binary(max_size=40), st.binary(max_size=80))
def test_verify_answers_no_to_any_key_and_signature_of_a_stranger(public_key: bytes, signature: bytes) -> None:
    assert verify(public_key, b"message", signature) is False


def test_a_malleable_signature_does_not_verify() -> None:
    """S + L is the same scalar; a strict verifier enforces S < L (RFC 8032 §5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    identity = Identity(bytes(32))
    signature = identity.sign(b"message")
    scalar = int.from_bytes(signature[32:], "little") + order
    assert not verify(identity.public_key, b"message", signature[:32] + scalar.to_bytes(32, "little"))


@given(KEYS)
def test_node_ids_round_trip(public_key: bytes) -> None:
    assert node_id_to_public_key(public_key_to_node_id(public_key)) == public_key


def test_leading_zero_bytes_are_ones() -> None:
    assert public_key_to_node_id(bytes(32)) == "1" * 32
    assert node_id_to_public_key("1" * 32) == bytes(32)


@pytest.mark.parametrize(
    "node_id",
    [
        "",
        "1" * 31,
        "1" * 33,
        "z" * 44,
        "FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhi",
        "0Ae4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF",
        "FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF ",
        "FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF\n",
        "é" * 43,
        "A" * 1_000_000,
    ],
)
def test_what_is_no_node_id_is_refused(node_id: str) -> None:
    with pytest.raises(IdentityError, match="base58 text of 32 bytes"):
        node_id_to_public_key(node_id)


@given(st.text(max_size=60))
def test_any_text_is_a_node_id_of_one_key_or_an_identity_error(text: str) -> None:
    try:
        public_key = node_id_to_public_key(text)
    except IdentityError:
        return
    assert public_key_to_node_id(public_key) == text


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_seed_of_another_size_is_refused_with_the_known_words(size: int) -> None:
    with pytest.raises(IdentityError, match=f"seed has the wrong size {size} and should be 32"):
        Identity.from_seed(bytes(size))


def test_a_public_key_of_another_size_has_no_node_id() -> None:
    with pytest.raises(IdentityError, match="32 bytes, not 33"):
        public_key_to_node_id(bytes(33))


def test_an_identity_prints_as_its_node_id_only() -> None:
    seed = hashlib.sha256(b"secret").digest()
    identity = Identity(seed)
    for shown in (repr(identity), str(identity), f"{identity}"):
        assert shown == f"Identity({identity.node_id})"
