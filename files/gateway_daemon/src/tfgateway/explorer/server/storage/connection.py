"""A connection to the explorer's database, whichever engine it is, and what every engine's rows have in common.

SQL is written once, in what SQLite (3.24) and PostgreSQL share, with ``?`` for values. Where the two differ, the
connection knows. A layer such as SQLAlchemy in between would take ten times as long for each of the small
statements that these are (14 us for 1.5) and 25 MB of memory, to write the same SQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from tfgateway.errors import GatewayError, StoreError

Value = int | str | bytes


class UniqueViolation(GatewayError):
    """A value that has to be unique is there already."""


class CommitOutcomeUnknown(StoreError):
    """Whether a change was written is not known: the connection was lost while it was committed."""


class Cursor(Protocol):
    """The result of a statement (PEP 249)."""

    def fetchone(self) -> Any:
        """The next row, a tuple; None: there is none."""

    def __iter__(self) -> Iterator[Any]:
        """The remaining rows."""


class DatabaseConnection(Protocol):
    """Within a transaction, which ``Database`` begins and ends."""

    for_update: str
    """Appended to a SELECT of rows that the transaction changes depending on what they are."""

    def execute(self, query: str, values: Sequence[Value] = (), /) -> Cursor:
        """Run one statement. Errors: ``UniqueViolation``, and the engine's own."""

    def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Value]], /) -> None:
        """Add many rows. Errors: ``UniqueViolation``."""

    def next_id(self, table: str, /) -> int:
        """A new id: ids of a table only grow, and are never given out twice."""

    def last_id(self, table: str, /) -> int:
        """The highest id that was ever given out in ``table``, 0 when none."""

    def skip_ids(self, table: str, last: int, /) -> None:
        """Give out ids above ``last`` from now on."""

    def lock(self, name: str, /) -> None:
        """Wait for the transaction that has locked this name; others wait for the end of this one."""

    def alone(self, name: str, /) -> str:
        """A condition that holds in one transaction at a time for each ``name``, a literal; nobody waits for it."""


def node_lock(node_id: str) -> str:
    """What a transaction locks before it draws an id for a row of this node: such ids commit in their order."""
    return f"node {node_id}"


def key_lock(key_id: str) -> str:
    """What a transaction locks before it uses a nonce of this key."""
    return f"key {key_id}"
