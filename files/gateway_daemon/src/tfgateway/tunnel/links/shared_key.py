"""A random key that all workers of one gateway share, of all generations."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

_SIZE = 32


def shared_key(path: Path) -> bytes:
    """The key of the digests: made by the first worker, read by all others. Errors: ``OSError``."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    try:
        fresh.write_bytes(secrets.token_bytes(_SIZE))
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)  # there is one, or there is a whole one
    finally:
        fresh.unlink()
    return path.read_bytes()
