"""Rows of a table in pieces of bounded size, so that a list takes no more memory than a piece of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tfgateway.explorer.server.storage.connection import DatabaseConnection, Value

_PIECE = 128 * 1024  # bytes after which a piece ends, with the row that reaches it


class Chunk(NamedTuple):
    """Consecutive rows; ``last``: id of the last one; ``left``: how many rows may follow, 0 when it was the end."""

    bodies: list[bytes]
    last: int
    left: int


def _as_stored(_connection: DatabaseConnection, body: bytes) -> bytes:
    return body


@dataclass(frozen=True, slots=True)
class Listing:
    """The rows of ``table`` that match ``condition`` (SQL, a literal of the caller) with ``values``, by id.

    shown: what a row's body becomes for the client, with the connection to look up more.
    """

    table: str
    condition: str
    values: tuple[Value, ...]
    shown: Callable[[DatabaseConnection, bytes], bytes] = _as_stored

    @classmethod
    def matching(
        cls,
        table: str,
        where: dict[str, Value],
        shown: Callable[[DatabaseConnection, bytes], bytes] = _as_stored,
    ) -> Listing:
        """Rows whose columns (literals of the caller) have these values; all when there are none."""
        return cls(table, " AND ".join(f"{name} = ?" for name in where) or "TRUE", tuple(where.values()), shown)

    def page(self, connection: DatabaseConnection, page: int, size: int) -> tuple[Chunk, int]:
        """The beginning of page ``page`` (from 1) of ``size`` rows, and the number of pages."""
        count = f'SELECT count(*) FROM "{self.table}" WHERE {self.condition}'  # noqa: S608
        pages = math.ceil(connection.execute(count, self.values).fetchone()[0] / size)
        seek = f'SELECT id FROM "{self.table}" WHERE {self.condition} ORDER BY id LIMIT 1 OFFSET ?'  # noqa: S608
        first = connection.execute(seek, (*self.values, (page - 1) * size)).fetchone()
        return (self.piece(connection, first[0] - 1, size) if first else Chunk([], 0, 0)), pages

    def piece(self, connection: DatabaseConnection, after: int, most: int) -> Chunk:
        """Rows with ids above ``after``, at most ``most``, and no more than one beyond 128 KB."""
        query = f'SELECT id, body FROM "{self.table}" WHERE {self.condition} AND id > ? ORDER BY id LIMIT ?'  # noqa: S608
        bodies: list[bytes] = []
        size, last = 0, after
        for last, body in connection.execute(query, (*self.values, after, most)):
            bodies.append(self.shown(connection, body))
            size += len(bodies[-1])
            if size >= _PIECE:
                return Chunk(bodies, last, most - len(bodies))
        return Chunk(bodies, last, 0)
