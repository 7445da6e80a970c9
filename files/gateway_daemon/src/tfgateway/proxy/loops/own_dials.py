"""Connections that the gateway dialled to itself: they come back as visitors, and would be routed again without end.

For bytes that carry no mark of their own: neither a ClientHello, which has its random, nor an HTTP request, which has a
CDN-Loop field.

A table of 64 Ki local ports in memory that all workers share, of all generations. An entry is a digest of both ends and
the time: it is never deleted, and counts for a moment only.
"""

from __future__ import annotations

import mmap
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tfgateway.net.addresses import plain
from tfgateway.proxy.loops.shared_table import open_table
from tfgateway.proxy.own_addresses import OwnAddresses

_ENTRY = struct.Struct("=II")
_PORTS = 1 << 16
_VALID = 30  # seconds within which a visitor has sent what it wants: longer than any sensible proxy.head_timeout
TABLE_SIZE = _PORTS * _ENTRY.size
"""Bytes."""


class OwnDials:
    """The connections to this host that this gateway has dialled lately; ``close`` it."""

    def __init__(
        self, table: mmap.mmap, own_addresses: OwnAddresses, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """table: see ``shared_table``; it is closed with this."""
        self._table = table
        self._own_addresses = own_addresses
        self._clock = clock

    @classmethod
    def open(cls, path: Path, own_addresses: OwnAddresses) -> Self:
        """With the table that all workers share. Errors: ``OSError``."""
        return cls(open_table(path, TABLE_SIZE), own_addresses)

    def close(self) -> None:
        """Let the memory go."""
        self._table.close()

    def note(self, dialled: socket.SocketType, address: str, port: int) -> None:
        """Remember a connection that was begun, to an IP literal, if it leads to this host. Errors: ``OSError``."""
        if self._own_addresses.has(address):
            local = dialled.getsockname()
            digest = _digest(plain(local[0]), local[1], address, port)
            _ENTRY.pack_into(self._table, local[1] * _ENTRY.size, int(self._clock()), digest)

    def has(self, source: str, accepted: socket.SocketType) -> bool:
        """Whether an accepted connection is one of those; ``source``: its peer's address. Errors: ``OSError``."""
        if not self._own_addresses.has(source):
            return False
        port = accepted.getpeername()[1]
        then, digest = _ENTRY.unpack_from(self._table, port * _ENTRY.size)
        if int(self._clock()) - then > _VALID:
            return False
        near = accepted.getsockname()
        same: bool = digest == _digest(source, port, plain(near[0]), near[1])
        return same


def _digest(source: str, source_port: int, destination: str, destination_port: int) -> int:
    return zlib.crc32(f"{source} {source_port} {destination} {destination_port}".encode())
