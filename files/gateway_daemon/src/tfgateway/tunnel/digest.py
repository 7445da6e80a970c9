"""Names for the secrets of tunnels that may be said between workers: nobody else can tell which secret one is of."""

from __future__ import annotations

import hashlib

Digest = bytes
_DIGEST_SIZE = 16


def digest_of(key: bytes, secret: bytes) -> Digest:
    """Names a secret without telling it; ``key`` is known to the processes of one gateway only."""
    return hashlib.blake2b(secret, digest_size=_DIGEST_SIZE, key=key).digest()
