"""SQLite in WAL mode: one file, and one explorer that serves it.

Each table holds whole objects as JSON (``body``) next to the columns by which they are found.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import quote

from tfgateway.errors import StoreError
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage import settings
from tfgateway.explorer.server.storage.connection import DatabaseConnection, UniqueViolation, Value
from tfgateway.explorer.server.storage.engines.engine import TransactionKind
from tfgateway.explorer.server.storage.engines.given_ids import GivenIds, open_private
from tfgateway.telemetry.text import printable

VERSION = 1
"""Of the schema."""
_SCHEMA = """
CREATE TABLE user (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, email TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE farm (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, owner INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE gateway (
  id INTEGER PRIMARY KEY AUTOINCREMENT, node_id TEXT NOT NULL UNIQUE, farm_id INTEGER NOT NULL,
  country TEXT NOT NULL, city TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE pool (id INTEGER PRIMARY KEY AUTOINCREMENT, customer_tid INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX pool_customer ON pool (customer_tid, id);
CREATE TABLE workload (
  id INTEGER PRIMARY KEY AUTOINCREMENT, node_id TEXT NOT NULL, customer_tid INTEGER NOT NULL,
  pool_id INTEGER NOT NULL, workload_type INTEGER NOT NULL, next_action INTEGER NOT NULL,
  active INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX workload_node ON workload (node_id, id) WHERE next_action IN (3, 4);
CREATE INDEX workload_customer ON workload (customer_tid, id);
CREATE INDEX workload_pool ON workload (pool_id, id) WHERE active = 1;
CREATE TABLE queue (id INTEGER PRIMARY KEY, node_id TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX queue_node ON queue (node_id, id);
"""
# What older releases do not have, and do not look at.
_LATER = """
CREATE INDEX IF NOT EXISTS workload_action ON workload (next_action, id);
CREATE INDEX IF NOT EXISTS workload_type ON workload (workload_type, id);
CREATE TABLE IF NOT EXISTS pool_order (customer_tid INTEGER NOT NULL, nonce TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS pool_order_nonce ON pool_order (customer_tid, nonce);
CREATE TABLE IF NOT EXISTS user_update (id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pin (key_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS unbound (key_id TEXT PRIMARY KEY, used INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS admission (
  id INTEGER PRIMARY KEY, farm_id INTEGER NOT NULL, node_id TEXT NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS admission_gateway ON admission (farm_id, node_id);
CREATE TABLE IF NOT EXISTS nonce (key_id TEXT NOT NULL, nonce TEXT NOT NULL, created INTEGER NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS nonce_key ON nonce (key_id, nonce);
CREATE INDEX IF NOT EXISTS nonce_age ON nonce (key_id, created);
CREATE INDEX IF NOT EXISTS nonce_created ON nonce (created);
CREATE TABLE IF NOT EXISTS nonce_floor (key_id TEXT PRIMARY KEY, created INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS nonce_floor_created ON nonce_floor (created);
CREATE TABLE IF NOT EXISTS nonce_count (key_id TEXT PRIMARY KEY, number INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS nonce_count_number ON nonce_count (number);
CREATE TRIGGER IF NOT EXISTS nonce_added AFTER INSERT ON nonce BEGIN
  INSERT INTO nonce_count VALUES (NEW.key_id, 1) ON CONFLICT (key_id) DO UPDATE SET number = number + 1;
  INSERT INTO nonce_count VALUES ('*', 1) ON CONFLICT (key_id) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER IF NOT EXISTS nonce_dropped AFTER DELETE ON nonce BEGIN
  UPDATE nonce_count SET number = number - 1 WHERE key_id IN (OLD.key_id, '*');
  DELETE FROM nonce_count WHERE key_id = OLD.key_id AND number < 1;
END;
"""
# A file of an older release has nonces that nothing has counted.
_COUNT = """
DELETE FROM nonce_count;
INSERT INTO nonce_count SELECT key_id, count(*) FROM nonce GROUP BY key_id UNION ALL SELECT '*', count(*) FROM nonce;
"""

_BUSY = 10.0
"""Seconds to wait for another writer."""
_ORIGIN = "file"  # the same for all: a copied file does not differ from its original
_LONGEST_HOLDER = 100  # characters of who holds the lock, in a message
_T = TypeVar("_T")
_BEGIN = {TransactionKind.WRITE: "BEGIN IMMEDIATE", TransactionKind.READ: "BEGIN", TransactionKind.SCAN: "BEGIN"}


class SqliteConnection(sqlite3.Connection):
    """The standard library's, so that a statement costs nothing more."""

    for_update = ""  # there is one writer
    drawn: dict[str, int]
    """By table, the last id that the transaction has drawn."""

    given_ids: GivenIds | None = None

    def next_id(self, table: str, /) -> int:
        """A new id, once the row with it is inserted in the same transaction."""
        number = self.last_id(table) + 1
        if self.given_ids is not None:
            self.given_ids.check(table, number, self.given_ids.last(table))
            self.drawn[table] = number
        return number

    def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Value]], /) -> None:
        """Add many rows."""
        marks = ", ".join("?" * len(columns))
        self.executemany(f'INSERT INTO "{table}" ({", ".join(columns)}) VALUES ({marks})', rows)  # noqa: S608

    def skip_ids(self, table: str, last: int, /) -> None:
        """The table of AUTOINCREMENT has no row for a table that was always empty."""
        self.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        self.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, last))

    def last_id(self, table: str, /) -> int:
        """The highest id that was ever given out."""
        row = self.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return int(row[0]) if row else 0

    def lock(self, name: str, /) -> None:
        """Nothing: there is one writer."""

    def alone(self, name: str, /) -> str:
        """Always: there is one writer."""
        return "TRUE"


class NoChanges:
    """There is no other explorer."""

    recheck: float | None = None

    def announce(self, node_id: str) -> None:
        """Nothing."""

    async def listening(self) -> None:
        """At once."""

    async def run(self, changed: Callable[[str], None], missed: Callable[[], None]) -> None:
        """Nothing."""


class SqliteEngine:
    """An SQLite file, created when absent."""

    # One thread writes, others read meanwhile.
    connections = dict.fromkeys(TransactionKind, 1)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._given_ids = GivenIds(path.with_name(f"{path.name}.ids"), str(path))
        self._lock: IO[str] | None = None

    @property
    def name(self) -> str:
        """The path."""
        return str(self._path)

    def open(self, new: RegistrationMode) -> RegistrationMode | None:
        """Create or open the file, for this process alone; what it says of registration. Errors: ``StoreError``.

        new: what a file that is made says.
        """
        self._lock = _lock(self._path)
        try:
            with self.errors(), contextlib.closing(self._connect()) as connection:
                registration = _prepare(connection, self._path, new)
                self._given_ids.compare(connection, _ORIGIN)
                return registration
        except BaseException:
            self.close()
            raise

    def connect(self, kind: TransactionKind) -> SqliteConnection:
        """A connection of this kind. Errors: ``StoreError``."""
        with self.errors():
            connection = self._connect()
            # An id that was answered must not be given out again after a power cut.
            connection.given_ids = self._given_ids
            connection.execute(
                "PRAGMA synchronous = FULL" if kind is TransactionKind.WRITE else "PRAGMA query_only = ON"
            )
            return connection

    def transaction(
        self,
        connection: SqliteConnection,
        kind: TransactionKind,
        work: Callable[[DatabaseConnection], _T],
        node_id: str,
    ) -> _T:
        """Run ``work`` in a transaction; when it raises, nothing has changed. Errors: its own, ``StoreError``."""
        with self.errors():
            connection.drawn = {}
            connection.execute(_BEGIN[kind])
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._given_ids.given(connection.drawn)
            return result

    def apply(self, work: Callable[[DatabaseConnection], _T]) -> _T:
        """Run ``work`` on an existing file, which an explorer may serve. Errors: as of ``transaction``."""
        with self.errors(), contextlib.closing(connect_existing(self._path)) as connection:
            return self.transaction(connection, TransactionKind.WRITE, work, "")

    def acknowledge(self) -> int:
        """Go on with a restored file; the new epoch. Errors: ``StoreError``."""
        self._lock = _lock(self._path)
        try:
            return self.apply(lambda connection: self._given_ids.acknowledge(connection, _ORIGIN))
        finally:
            self._lock.close()
            self._lock = None

    def problem(self) -> str | None:
        """Whether it was found to be restored."""
        return self._given_ids.problem

    def other_explorers(self) -> int:
        """None: the file is locked."""
        return 0

    def changes(self) -> NoChanges:
        """There are none."""
        return NoChanges()

    def close(self) -> None:
        """Let another explorer serve the file, once all connections are closed."""
        if self._lock is not None:
            self._given_ids.save()
            self._lock.close()
            self._lock = None

    def _connect(self) -> SqliteConnection:
        # The threads of one kind take turns.
        return sqlite3.connect(
            self._path, isolation_level=None, timeout=_BUSY, factory=SqliteConnection, check_same_thread=False
        )

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turns SQLite's errors into ours."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise UniqueViolation(str(error)) from error
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error


def _lock(path: Path) -> IO[str]:
    """The lock of a database file, until this process ends; a file says who has it. Errors: ``StoreError``."""
    file = path.with_name(f"{path.name}.lock")
    try:
        lock = open_private(file)
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = printable(lock.read(_LONGEST_HOLDER).strip())
        lock.close()
        raise StoreError(
            f"{path}: is served already by {holder or 'another process'}: of an SQLite file there is one explorer;"
            " several need PostgreSQL"
        ) from None
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    lock.flush()
    return lock


def _prepare(connection: SqliteConnection, path: Path, new: RegistrationMode) -> RegistrationMode | None:
    """Make the tables when there are none; what the file says of registration. Errors: ``StoreError``."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        tables = _SCHEMA + _LATER
        connection.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version = {VERSION};")
        settings.write_new(connection, new)
        connection.execute("COMMIT")
    elif version != VERSION:
        raise StoreError(f"{path}: written by another version ({version}) of the explorer")
    connection.executescript(f"BEGIN IMMEDIATE; {_LATER} {_COUNT} COMMIT;")
    return settings.registration(connection, str(path))


def connect_existing(path: Path) -> SqliteConnection:
    """A connection beside those of an explorer that may run. Errors: ``sqlite3.Error``, also when there is no file."""
    # SQLite would make an empty one.
    uri = f"file:{quote(str(path))}?mode=rw"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY, factory=SqliteConnection)
