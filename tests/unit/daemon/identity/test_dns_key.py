"""TSIG keys of users: the same for user and gateway, of the standard's derivation, apart from all other uses."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import CryptoError
from tfgateway.identity import dns_key, sealing
from tfgateway.identity.keys import Identity

USER, GATEWAY, OTHER = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
SEEDS = st.binary(min_size=32, max_size=32)
PAGE = Path(__file__).parents[4] / "docs/reference/dns-keys.md"


def of_user(tid: str = "7", node_id: str = GATEWAY.node_id) -> bytes:
    return dns_key.secret(USER.seed, GATEWAY.public_key, tid, node_id)


@given(SEEDS, SEEDS, st.integers(1, 2**62).map(str))
def test_both_parties_derive_the_same(user: bytes, gateway: bytes, tid: str) -> None:
    one, other = Identity.from_seed(user), Identity.from_seed(gateway)
    ours = dns_key.secret(one.seed, other.public_key, tid, other.node_id)
    assert ours == dns_key.secret(other.seed, one.public_key, tid, other.node_id)
    assert dns_key.tid_of(dns_key.key_name(tid, other.node_id), other.node_id) == tid


@given(SEEDS, SEEDS)
def test_another_implementation_derives_the_same(user: bytes, gateway: bytes) -> None:
    """As docs/reference/dns-keys.md describes it, by OpenSSL."""
    one, other = Identity.from_seed(user), Identity.from_seed(gateway)
    private = X25519PrivateKey.from_private_bytes(sealing.x25519_private(one.seed))
    shared = private.exchange(X25519PublicKey.from_public_bytes(sealing.x25519_public(other.public_key)))
    info = b"tfgateway tsig v1\0" + other.node_id.encode() + b"\0" + b"7"
    expected = HKDF(SHA256(), 32, salt=None, info=info).derive(shared)
    assert dns_key.secret(other.seed, one.public_key, "7", other.node_id) == expected


def test_hkdf_by_the_vectors_of_rfc_5869() -> None:
    """A.1 (its first 32 of 42 bytes) and A.3."""
    first = dns_key.hkdf_sha256(b"\x0b" * 22, bytes(range(0xF0, 0xFA)), bytes(range(13)))
    assert first.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    third = dns_key.hkdf_sha256(b"\x0b" * 22, b"")
    assert third.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


def test_it_is_of_one_user_and_gateway() -> None:
    others = {
        of_user("8"),
        of_user(node_id=OTHER.node_id),
        dns_key.secret(USER.seed, OTHER.public_key, "7", GATEWAY.node_id),
        dns_key.secret(OTHER.seed, GATEWAY.public_key, "7", GATEWAY.node_id),
        sealing.shared_key(USER.seed, GATEWAY.public_key),
        sealing.shared_secret(USER.seed, GATEWAY.public_key),
    }
    assert len({of_user(), *others}) == 7


@pytest.mark.parametrize(
    "name",
    [
        "7.tfgateway.",
        f"07.{GATEWAY.node_id}.tfgateway.",
        f"x.{GATEWAY.node_id}.tfgateway.",
        f"7.{OTHER.node_id}.tfgateway.",
        f"7.{GATEWAY.node_id}.example.",
        f"7.a.{GATEWAY.node_id}.tfgateway.",
        "",
    ],
)
def test_a_name_that_is_no_users(name: str) -> None:
    assert dns_key.tid_of(name, GATEWAY.node_id) is None


def test_the_case_of_a_name_does_not_matter() -> None:
    """RFC 8945 §4.2: it is a domain name."""
    assert dns_key.tid_of(f"7.{GATEWAY.node_id.upper()}.TFGATEWAY", GATEWAY.node_id) == "7"


def test_a_key_that_is_none() -> None:
    with pytest.raises(CryptoError):
        dns_key.secret(GATEWAY.seed, bytes(32), "7", GATEWAY.node_id)


def test_the_vectors_of_the_documentation() -> None:
    """Others derive keys by them: they must not change."""
    row = r"^\| `([0-9a-f]{64})` \| `([0-9a-f]{64})` \| `(\d+)` \| `(\S+)` \| `(\S+)` \|$"
    rows = re.findall(row, PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 3
    for user_seed, gateway_seed, tid, name, text in rows:
        user, gateway = Identity.from_seed(bytes.fromhex(user_seed)), Identity.from_seed(bytes.fromhex(gateway_seed))
        assert dns_key.key_name(tid, gateway.node_id) == name
        for seed, public in ((user.seed, gateway.public_key), (gateway.seed, user.public_key)):
            assert base64.b64encode(dns_key.secret(seed, public, tid, gateway.node_id)).decode() == text
