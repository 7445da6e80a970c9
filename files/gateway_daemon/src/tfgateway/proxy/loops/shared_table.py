"""A table in memory that all workers of the proxy share, those of a release before and after too.

A slot is overwritten by whatever has the same number, and read without a lock: what is lost lets a loop go round again.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def open_table(path: Path, size: int) -> mmap.mmap:
    """The table, the same one for all workers. size: bytes. Errors: ``OSError``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
