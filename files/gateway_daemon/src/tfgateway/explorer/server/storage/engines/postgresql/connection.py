"""A connection to PostgreSQL that opens itself again after the server has gone away."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.types.numeric import Int8Dumper

from tfgateway.errors import StoreError
from tfgateway.explorer.server.storage.connection import Cursor, Value, node_lock
from tfgateway.explorer.server.storage.engines.engine import TransactionKind
from tfgateway.explorer.server.storage.engines.given_ids import GivenIds

_BEGIN = {
    TransactionKind.WRITE: b"BEGIN ISOLATION LEVEL READ COMMITTED",
    # One state of the data for all statements.
    TransactionKind.READ: b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    TransactionKind.SCAN: b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
}
# Each statement sees what was committed before it: after the wait for a lock, too.
_BEGIN_OF_NODE = b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"
_SETTINGS = {
    # Not for those that write: a COMMIT that is cancelled while it waits for the standby would count as done.
    TransactionKind.WRITE: b"SET lock_timeout = '10s'; SET statement_timeout = 0",
    TransactionKind.READ: b"SET lock_timeout = '10s'; SET statement_timeout = '30s'",
    # One processor for who lists everything: others wait for a row.
    TransactionKind.SCAN: (
        b"SET lock_timeout = '10s'; SET statement_timeout = '120s'; SET max_parallel_workers_per_gather = 0"
    ),
}
_SETTLED = """
SELECT last_value, is_called, pg_advisory_xact_lock_shared(hashtextextended(?, 0)) FROM workload_id_seq
"""
_COPIED = {bytes: "bytea", int: "int8", str: "text"}
_READ_ONLY = psycopg.errors.ReadOnlySqlTransaction
_LOST = (psycopg.OperationalError, psycopg.InterfaceError, _READ_ONLY)


@lru_cache(maxsize=1024)  # the texts of all callers, which are literals
def _translated(query: str) -> bytes:
    return query.replace("?", "%s").encode()


class PostgresqlConnection:
    """Of one thread at a time. Errors of all methods: ``psycopg.Error``, ``StoreError`` when no server is there."""

    for_update = " FOR UPDATE"

    def __init__(self, conninfo: str, name: str, kind: TransactionKind, given_ids: GivenIds) -> None:
        """name: how messages call the database."""
        self._conninfo = conninfo
        self._name = name
        self._kind = kind
        self._raw: psycopg.Connection[Any] | None = None
        self._pipeline: AbstractContextManager[object] | None = None
        self._settled: Cursor | None = None
        self._given_ids = given_ids
        self.drawn: dict[str, int] = {}
        """By table, the last id that the transaction has drawn."""
        self.committing = False
        """Whether the last transaction may have been committed."""

    @property
    def raw(self) -> psycopg.Connection[Any]:
        """The driver's, opened when need be."""
        if self._raw is None or self._raw.closed:
            try:
                self._raw = psycopg.connect(self._conninfo, autocommit=True)
                self._raw.adapters.register_dumper(int, Int8Dumper)
                self._raw.execute(_SETTINGS[self._kind], prepare=False)
            except psycopg.Error as error:
                self.close()
                raise StoreError(f"{self._name}: {reason(error)}") from error
        return self._raw

    def close(self) -> None:
        """Harmless when it is closed."""
        self._pipeline = None
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def lost(self, error: psycopg.Error) -> bool:
        """Whether the error says that the connection is of no use any more; it is closed then."""
        if isinstance(error, _LOST) and (isinstance(error, _READ_ONLY) or self._raw is None or self._raw.broken):
            self.close()
            return True
        return False

    def begin(self, node_id: str) -> None:
        """Begin a transaction; for ``node_id`` see ``Database.read``.

        Statements are sent together (libpq's pipeline) up to the next one whose result is asked for.
        """
        self.committing = False
        self._settled = None
        self.drawn = {}
        self._pipeline = self.raw.pipeline()
        self._pipeline.__enter__()
        self._connected.execute(_BEGIN_OF_NODE if node_id else _BEGIN[self._kind])
        if node_id:
            # A transaction that has drawn a lower id for this node holds its lock until it ends.
            self._settled = self.execute(_SETTLED, (node_lock(node_id),))

    def commit(self) -> None:
        """From here on it may be committed, whatever happens."""
        self.committing = self._kind is TransactionKind.WRITE
        self._connected.execute(b"COMMIT")
        self._end_pipeline()
        self.committing = False

    def rollback(self) -> None:
        """Harmless when the connection is lost."""
        if self._raw is None or self._raw.closed:
            return
        try:
            with contextlib.suppress(psycopg.Error):
                self._end_pipeline()  # the error that is handled already
            self._raw.execute(b"ROLLBACK", prepare=False)
        except psycopg.Error:
            self.close()

    def execute(self, query: str, values: Sequence[Value] = (), /) -> Cursor:
        """Run one statement."""
        # PostgreSQL has no text with NUL in it, and clients name whatever they like.
        safe = [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values]
        return self._connected.execute(_translated(query), safe, binary=True)

    def script(self, statements: str) -> None:
        """Run statements without values."""
        self._end_pipeline()
        self._connected.execute(statements.encode(), prepare=False)

    def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Value]], /) -> None:
        """By COPY."""
        self._end_pipeline()
        names = ", ".join(columns)
        cursor = self._connected.cursor()
        with cursor.copy(f'COPY "{table}" ({names}) FROM STDIN (FORMAT BINARY)'.encode()) as copy:
            copy.set_types([_COPIED[type(value)] for value in rows[0]])
            for row in rows:
                copy.write_row(row)

    def next_id(self, table: str, /) -> int:
        """A new id, of the table's sequence."""
        before = self._given_ids.last(table)
        number = int(self.execute(f"SELECT nextval('{table}_id_seq')").fetchone()[0])
        self._given_ids.check(table, number, before)
        self.drawn[table] = number
        return number

    def skip_ids(self, table: str, last: int, /) -> None:
        """Set the table's sequence."""
        self.execute(f"SELECT setval('{table}_id_seq', ?)", (last,))

    def last_id(self, table: str, /) -> int:
        """The highest id that was drawn; in a transaction for a node no row of it up to there is missing."""
        settled = self._settled if table == "workload" else None
        cursor = settled or self.execute(f"SELECT last_value, is_called FROM {table}_id_seq")  # noqa: S608
        last, called = cursor.fetchone()[:2]
        return int(last) if called else 0

    def lock(self, name: str, /) -> None:
        """An advisory lock of the transaction."""
        self.execute("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (name,))

    def alone(self, name: str, /) -> str:
        """An advisory lock of the transaction, when it is free."""
        return f"(SELECT pg_try_advisory_xact_lock(hashtextextended('{name}', 0)))"

    def _end_pipeline(self) -> None:
        """Wait for all that was sent."""
        if self._pipeline is not None:
            pipeline, self._pipeline = self._pipeline, None
            pipeline.__exit__(None, None, None)

    @property
    def _connected(self) -> psycopg.Connection[Any]:
        if self._raw is None:
            raise RuntimeError("no transaction has begun")
        return self._raw


def reason(error: psycopg.Error) -> str:
    """What the driver says, in one line."""
    return " ".join(str(error).split())
