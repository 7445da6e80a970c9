"""The two encryption formats between users and gateways.

Ed25519 keys are converted to X25519 in both. Texts carry the result as hex; here it is bytes.
"""

from __future__ import annotations

import hashlib

import nacl.bindings
import nacl.exceptions
import nacl.utils

from tfgateway.errors import CryptoError
from tfgateway.identity.keys import Identity

_NONCE = nacl.bindings.crypto_secretbox_NONCEBYTES
_TAG = nacl.bindings.crypto_secretbox_MACBYTES
ECDH_OVERHEAD = _NONCE + _TAG
"""Bytes by which ``encrypt_ecdh`` makes a text longer."""
_SEAL = nacl.bindings.crypto_box_SEALBYTES


def x25519_private(seed: bytes) -> bytes:
    """The clamped scalar of an ed25519 seed: first half of its SHA-512. Errors: ``IdentityError``."""
    return nacl.bindings.crypto_sign_ed25519_sk_to_curve25519(seed + Identity.from_seed(seed).public_key)


def x25519_public(public_key: bytes) -> bytes:
    """The Montgomery form of an ed25519 public key. Errors: ``CryptoError`` if it is no point of the main subgroup."""
    try:
        return nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(public_key)
    except nacl.exceptions.CryptoError:
        raise CryptoError("not a usable ed25519 public key") from None


def encrypt_ecdh(plain: bytes, own_seed: bytes, other_public_key: bytes, *, nonce: bytes | None = None) -> bytes:
    """EncryptECDH: nonce (24) + secretbox (16 + n), for workloads of version 1 and later.

    own_seed: ed25519 seed of one party. other_public_key: ed25519 key of the other. nonce: 24 bytes, random if absent;
    never use one twice. Errors: ``CryptoError`` (public key), ``IdentityError`` (seed).
    """
    nonce = nacl.utils.random(_NONCE) if nonce is None else nonce
    key = shared_key(own_seed, other_public_key)
    return nonce + nacl.bindings.crypto_secretbox_easy(plain, nonce, key)


def decrypt_ecdh(cipher: bytes, own_seed: bytes, other_public_key: bytes) -> bytes:
    """Undo ``encrypt_ecdh``; both parties can. Errors: ``CryptoError``, also for any input too short (P-1)."""
    if len(cipher) < ECDH_OVERHEAD:
        raise CryptoError(f"ciphertext has {len(cipher)} bytes and needs at least {ECDH_OVERHEAD}")
    key = shared_key(own_seed, other_public_key)
    try:
        return nacl.bindings.crypto_secretbox_open_easy(cipher[_NONCE:], cipher[:_NONCE], key)
    except nacl.exceptions.CryptoError:
        raise CryptoError("ciphertext does not decrypt: wrong key or damaged") from None


def seal(plain: bytes, public_key: bytes) -> bytes:
    """Encrypt: a libsodium sealed box to an ed25519 key, for workloads of version 0. Errors: ``CryptoError``."""
    return nacl.bindings.crypto_box_seal(plain, x25519_public(public_key))


def unseal(cipher: bytes, seed: bytes) -> bytes:
    """Decrypt: undo ``seal`` with the recipient's ed25519 seed. Errors: ``CryptoError``, ``IdentityError`` (seed)."""
    if len(cipher) < _SEAL:
        raise CryptoError(f"ciphertext has {len(cipher)} bytes and needs at least {_SEAL}")
    private = x25519_private(seed)
    public = nacl.bindings.crypto_scalarmult_base(private)
    try:
        return nacl.bindings.crypto_box_seal_open(cipher, public, private)
    except nacl.exceptions.CryptoError:
        raise CryptoError("ciphertext does not decrypt: wrong key or damaged") from None


def shared_key(own_seed: bytes, other_public_key: bytes) -> bytes:
    """32 bytes that only two parties can derive: BLAKE2b-256 of the raw X25519 output, not crypto_box's HSalsa20 key.

    Errors: ``CryptoError`` (public key), ``IdentityError`` (seed).
    """
    return hashlib.blake2b(shared_secret(own_seed, other_public_key), digest_size=32).digest()


def shared_secret(own_seed: bytes, other_public_key: bytes) -> bytes:
    """The raw X25519 output of two parties, 32 bytes; no key by itself. Errors: as ``shared_key``."""
    private = x25519_private(own_seed)
    try:
        return nacl.bindings.crypto_scalarmult(private, x25519_public(other_public_key))
    except nacl.exceptions.CryptoError:
        raise CryptoError("not a usable ed25519 public key") from None
