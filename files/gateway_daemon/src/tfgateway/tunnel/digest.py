"""Keyed digests of tunnel secrets, for messages between workers: without the key no secret can be guessed from one."""

from __future__ import annotations

import hashlib

Digest = bytes
_DIGEST_SIZE = 16


def digest_of(key: bytes, secret: bytes) -> Digest:
    """The digest of a secret; only the processes of one gateway know ``key``."""
    return hashlib.blake2b(secret, digest_size=_DIGEST_SIZE, key=key).digest()
