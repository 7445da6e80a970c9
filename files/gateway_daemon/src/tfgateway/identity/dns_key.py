"""The TSIG key with which a user signs DNS updates for one gateway: its name and secret. Pure.

User and gateway derive it alike, from the one's key and the other's public key: nothing is stored or exchanged.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from tfgateway.identity.sealing import shared_secret

ALGORITHMS = ("hmac-sha256", "hmac-sha512")
"""That the gateway takes with this key (RFC 8945 §6)."""
SECRET_SIZE = 32

_PURPOSE = b"tfgateway tsig v1"  # C-6: a prefix that no other use of the keys has
_NAME = re.compile(r"([1-9][0-9]{0,18})\.([1-9a-z]{43,44})\.tfgateway\.?", re.IGNORECASE)


def key_name(tid: str, node_id: str) -> str:
    """The name of a user's key at a gateway, as an absolute domain name; names of keys are folded (RFC 8945 §4.2)."""
    return f"{tid}.{node_id.lower()}.tfgateway."


def tid_of(name: str, node_id: str) -> str | None:
    """The decimal tid in the name of a key; None: it is no user's key at this gateway."""
    match = _NAME.fullmatch(name)
    return match[1] if match is not None and match[2].lower() == node_id.lower() else None


def secret(own_seed: bytes, other_public_key: bytes, tid: str, node_id: str) -> bytes:
    """The 32 bytes of the secret, the same for both parties.

    own_seed: ed25519 seed of one party. other_public_key: ed25519 key of the other. tid: decimal. Errors:
    ``CryptoError`` (public key), ``IdentityError`` (seed).
    """
    information = b"\0".join((_PURPOSE, node_id.encode("ascii"), tid.encode("ascii")))
    return hkdf_sha256(shared_secret(own_seed, other_public_key), information)


def hkdf_sha256(material: bytes, information: bytes, salt: bytes = b"") -> bytes:
    """The first block, 32 bytes, of HKDF with SHA-256 (RFC 5869)."""
    extracted = hmac.digest(salt or bytes(SECRET_SIZE), material, hashlib.sha256)
    return hmac.digest(extracted, information + b"\1", hashlib.sha256)
