"""The TXT record that proves a user's right to a domain at one gateway: its name, token and text. Pure.

User and gateway derive the token alike, from the one's key and the other's public key: nothing is stored or exchanged.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

from tfgateway.identity.sealing import shared_key

_PURPOSE = b"tfgateway-proof"  # C-6: a prefix that no other use of the keys has; 16 bytes at most
_SIZE = 20
_TEXT = re.compile(rb"tfgateway-proof=([a-z2-7]{32})", re.IGNORECASE)
_MAX_TOKENS = 16
"""Tokens of one name that are looked at: several users and gateways may have theirs."""
_LONGEST_NAME = 253  # RFC 1035 §2.3.4, as text without the final dot


def record_name(domain: str) -> str:
    """Name of the TXT record of a domain; empty when it would exceed 253 bytes."""
    name = f"_tfgateway.{domain}"
    return name if len(name) <= _LONGEST_NAME else ""


def token(own_seed: bytes, other_public_key: bytes, tid: str, domain: str) -> str:
    """The token for a user (decimal ``tid``) and a domain, as it is served: 32 characters, the same for both parties.

    own_seed: ed25519 seed of one party. other_public_key: ed25519 key of the other. Errors: ``CryptoError`` (public
    key), ``IdentityError`` (seed).
    """
    key = shared_key(own_seed, other_public_key)
    digest = hashlib.blake2b(f"{tid} {domain}".encode(), key=key, person=_PURPOSE, digest_size=_SIZE).digest()
    return base64.b32encode(digest).decode("ascii").lower()


def record_text(token_of_user: str) -> str:
    """Text of the TXT record."""
    return f"tfgateway-proof={token_of_user}"


def tokens(texts: Iterable[bytes]) -> frozenset[str]:
    """The tokens in the TXT records of a name, lower case; other texts are ignored."""
    found: set[str] = set()
    for text in texts:
        match = _TEXT.fullmatch(text.strip())
        if match is not None and len(found) < _MAX_TOKENS:
            found.add(match[1].decode("ascii").lower())
    return frozenset(found)
