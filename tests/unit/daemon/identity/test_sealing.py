from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import CryptoError
from tfgateway.identity import sealing
from tfgateway.identity.keys import Identity

OURS, THEIRS = Identity(bytes(range(32))), Identity(bytes(range(32, 64)))
SMALL_ORDER = bytes.fromhex("0100000000000000000000000000000000000000000000000000000000000000")


def test_vectors_1_and_2_x25519_keys(party: dict[str, Any]) -> None:
    assert sealing.x25519_private(bytes.fromhex(party["seed"])).hex() == party["x25519_private"]
    assert sealing.x25519_public(bytes.fromhex(party["public_key"])).hex() == party["x25519_public"]


def test_vector_0_upstream_formats(known: dict[str, Any]) -> None:
    key = known["upstream"]["ed25519"]
    seed = key["seed_text"].encode()
    assert sealing.x25519_private(seed).hex() == key["x25519_private"]
    assert sealing.x25519_public(bytes.fromhex(key["public_key"])).hex() == key["x25519_public"]
    assert sealing.unseal(bytes.fromhex(key["sealed_hello_world"]), seed) == b"hello world"
    ecdh = known["upstream"]["ecdh"]
    one, two = (Identity(text.encode()) for text in ecdh["seed_texts"])
    cipher = bytes.fromhex(ecdh["cipher"])
    assert sealing.decrypt_ecdh(cipher, one.seed, two.public_key) == ecdh["plain"].encode()
    assert sealing.encrypt_ecdh(ecdh["plain"].encode(), one.seed, two.public_key, nonce=cipher[:24]) == cipher


def test_vector_12_secret_from_user_to_gateway(known: dict[str, Any]) -> None:
    secret = known["secret"]
    plain, nonce = secret["plain"].encode(), bytes.fromhex(secret["nonce"])
    cipher = sealing.encrypt_ecdh(plain, THEIRS.seed, OURS.public_key, nonce=nonce)
    assert cipher.hex() == secret["ecdh"]
    assert sealing.decrypt_ecdh(cipher, OURS.seed, THEIRS.public_key) == plain
    assert sealing.decrypt_ecdh(cipher, THEIRS.seed, OURS.public_key) == plain


def test_vector_13_sealed_box(known: dict[str, Any]) -> None:
    cipher = bytes.fromhex(known["secret"]["sealed"])
    assert sealing.unseal(cipher, OURS.seed) == known["secret"]["plain"].encode()


@pytest.mark.parametrize("size", range(40))
def test_p1_a_short_ciphertext_is_an_error_and_not_a_crash(size: int) -> None:
    with pytest.raises(CryptoError, match=f"has {size} bytes and needs at least 40"):
        sealing.decrypt_ecdh(bytes(size), OURS.seed, THEIRS.public_key)


@pytest.mark.parametrize("size", [0, 1, 24, 47])
def test_a_short_sealed_box_is_an_error(size: int) -> None:
    with pytest.raises(CryptoError, match=f"has {size} bytes and needs at least 48"):
        sealing.unseal(bytes(size), OURS.seed)


@given(st.binary(max_size=100))
def test_both_formats_round_trip(plain: bytes) -> None:
    cipher = sealing.encrypt_ecdh(plain, THEIRS.seed, OURS.public_key)
    assert len(cipher) == 24 + 16 + len(plain)
    assert sealing.decrypt_ecdh(cipher, OURS.seed, THEIRS.public_key) == plain
    sealed = sealing.seal(plain, OURS.public_key)
    assert len(sealed) == 48 + len(plain)
    assert sealing.unseal(sealed, OURS.seed) == plain


def test_no_two_ciphertexts_are_alike() -> None:
    assert len({sealing.encrypt_ecdh(b"x", OURS.seed, THEIRS.public_key)[:24] for _ in range(5)}) == 5
    assert len({sealing.seal(b"x", OURS.public_key) for _ in range(5)}) == 5


@given(st.binary(max_size=120))
def test_any_bytes_are_a_crypto_error(cipher: bytes) -> None:
    with pytest.raises(CryptoError):
        sealing.decrypt_ecdh(cipher, OURS.seed, THEIRS.public_key)
    with pytest.raises(CryptoError):
        sealing.unseal(cipher, OURS.seed)


def test_one_changed_bit_is_found_at_every_place() -> None:
    cipher = sealing.encrypt_ecdh(b"secret", THEIRS.seed, OURS.public_key)
    for place in range(len(cipher)):
        damaged = bytearray(cipher)
        damaged[place] ^= 1
        with pytest.raises(CryptoError, match="does not decrypt"):
            sealing.decrypt_ecdh(bytes(damaged), OURS.seed, THEIRS.public_key)


@pytest.mark.parametrize("public_key", [b"", bytes(31), bytes(33), bytes(32), b"\xff" * 32, SMALL_ORDER])
def test_a_public_key_that_is_no_point_is_an_error(public_key: bytes) -> None:
    for use in (
        lambda: sealing.x25519_public(public_key),
        lambda: sealing.seal(b"x", public_key),
        lambda: sealing.encrypt_ecdh(b"x", OURS.seed, public_key),
        lambda: sealing.decrypt_ecdh(bytes(60), OURS.seed, public_key),
    ):
        with pytest.raises(CryptoError, match="not a usable ed25519 public key"):
            use()
