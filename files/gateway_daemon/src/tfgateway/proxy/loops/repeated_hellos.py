"""TLS connections that come back by way of other gateways.

Nothing can be added to them that says where they have been, but their bytes are passed on as they came, and a client
draws the random of its ClientHello anew for each connection (RFC 8446 §4.1.2). A hello that was routed a moment ago and
arrives again from elsewhere has gone round, through whichever gateways or other proxies.
"""

from __future__ import annotations

import mmap
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tfgateway.proxy.loops.shared_table import open_table

_ENTRY = struct.Struct("=IIII")
"""Digest of the random, digest of where it came from first, time in seconds, how often it came from there."""
_SLOTS = 1 << 16
TABLE_SIZE = _SLOTS * _ENTRY.size
"""Bytes."""

_RANDOM = slice(11, 43)
"""Behind the headers of record and message and the version, if the first record is not shorter than that."""
_VALID = 30  # seconds
_MOST_REPEATS = 16
"""From one source: tools send one recorded hello many times, and a client may share its address with a gateway."""


class RepeatedHellos:
    """The ClientHellos that all workers have routed lately; ``close`` it."""

    def __init__(self, table: mmap.mmap, clock: Callable[[], float] = time.monotonic) -> None:
        """table: of ``TABLE_SIZE`` bytes, see ``shared_table``; it is closed with this. clock: seconds."""
        self._table = table
        self._clock = clock

    @classmethod
    def open(cls, path: Path) -> Self:
        """With the table that all workers share. Errors: ``OSError``."""
        return cls(open_table(path, TABLE_SIZE))

    def close(self) -> None:
        """Let the memory go."""
        self._table.close()

    def was_here(self, data: bytes, source: str) -> bool:
        """Whether a ClientHello has come back. It is noted: ask once for each connection.

        data: what the connection began with; source: the address of its client.
        """
        random = zlib.crc32(data[_RANDOM])
        origin = zlib.crc32(source.encode())
        now = int(self._clock())
        at = (random % _SLOTS) * _ENTRY.size
        known, first_origin, then, repeats = _ENTRY.unpack_from(self._table, at)
        if known != random or now - then > _VALID:
            _ENTRY.pack_into(self._table, at, random, origin, now, 0)
            return False
        if first_origin != origin or repeats >= _MOST_REPEATS:
            return True
        _ENTRY.pack_into(self._table, at, random, origin, then, repeats + 1)
        return False
