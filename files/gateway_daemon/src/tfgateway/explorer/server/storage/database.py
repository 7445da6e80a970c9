"""SQLite in WAL mode behind threads: the event loop never waits for the disk, one thread writes, others read meanwhile.

Each table holds whole objects as JSON (``body``) next to the columns by which they are found.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from tfgateway.errors import StoreError
from tfgateway.explorer.server.registration import RegistrationMode

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

_REGISTRATION = "registration"
_BUSY = 10.0
"""Seconds to wait for another writer."""
_T = TypeVar("_T")
_Column = int | str | bytes


class Database:
    """Runs functions of a connection, each in a transaction of its own; those of one kind one after the other."""

    def __init__(self, path: Path, registration: RegistrationMode = RegistrationMode.CLOSED) -> None:
        """registration: what is recorded in a new file."""
        self._path = path
        self._new = registration
        self._registration: RegistrationMode | None = None
        self._writer = _Lane(path)
        # A client that lists everything must not delay a gateway that waits for one row.
        self._reader, self._scanner = _Lane(path), _Lane(path)

    @property
    def registration(self) -> RegistrationMode | None:
        """What is recorded in the file; None: a release made it that knew no choice, or it is not open."""
        return self._registration

    async def open(self) -> None:
        """Create or open the file. Errors: ``StoreError``."""
        self._registration = await self._writer.run(lambda connection: _prepare(connection, self._path, self._new))
        for lane in (self._reader, self._scanner):
            await lane.run(_read_only)

    async def close(self) -> None:
        """Finish all pending work, then close."""
        # The last one to close tidies up, and has to be allowed to write.
        for lane in (self._scanner, self._reader, self._writer):
            await lane.close()

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work``, which reads few rows, on one state of the data: all that was written before.

        Errors: its own, ``StoreError``.
        """
        return await self._reader.transaction("BEGIN", work)

    async def scan(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """As ``read``, for work that may look at many rows."""
        return await self._scanner.transaction("BEGIN", work)

    async def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` durably; when it raises, nothing has changed. Errors: its own, ``StoreError``."""
        return await self._writer.transaction("BEGIN IMMEDIATE", work)


class _Lane:
    """A connection with the one thread that uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work``; opened at the first call. Errors: its own, ``StoreError``."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def transaction(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return await self.run(lambda connection: _transaction(connection, begin, work))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY)
            return work(self._connection)
        except sqlite3.IntegrityError:  # the caller's business: a name that is taken
            raise
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _transaction(connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
    connection.execute(begin)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _prepare(connection: sqlite3.Connection, path: Path, new: RegistrationMode) -> RegistrationMode | None:
    """Make the connection the writer's, and the tables when there are none; what the file says of registration.

    new: what a file that is made says. Errors: ``StoreError``.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    # An id that was answered must not be given out again after a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        record = f"INSERT INTO setting VALUES ('{_REGISTRATION}', '{new}'), ('unbound_noted_since', '0');"  # noqa: S608  (no input)
        tables = _SCHEMA + _LATER
        connection.executescript(f"BEGIN IMMEDIATE; {tables} {record} PRAGMA user_version = {VERSION}; COMMIT;")
    elif version != VERSION:
        raise StoreError(f"{path}: written by another version ({version}) of the explorer")
    connection.executescript(f"BEGIN IMMEDIATE; {_LATER} {_COUNT} COMMIT;")
    row = connection.execute("SELECT value FROM setting WHERE name = ?", (_REGISTRATION,)).fetchone()
    try:
        return RegistrationMode(row[0]) if row else None
    except ValueError:
        raise StoreError(f"{path}: written by another version of the explorer (registration {row[0]})") from None


def _read_only(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")


def connect_existing(path: Path) -> sqlite3.Connection:
    """A connection beside those of an explorer that may run. Errors: ``sqlite3.Error``, also when there is no file."""
    # SQLite would make an empty one.
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=_BUSY)


# Table and column names in the functions below are literals of the callers; values are always bound.


def last_id(connection: sqlite3.Connection, table: str) -> int:
    """The highest id that was ever given out in ``table``, 0 when none."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return int(row[0]) if row else 0


def insert(connection: sqlite3.Connection, table: str, **columns: _Column) -> None:
    """Add a row. Errors: ``sqlite3.IntegrityError`` when a unique value is taken."""
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))  # noqa: S608


def update(connection: sqlite3.Connection, table: str, row: int, **columns: _Column) -> None:
    """Change the row with id ``row``. Errors: as ``insert``."""
    names = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f"UPDATE {table} SET {names} WHERE id = ?", (*columns.values(), row))  # noqa: S608


def delete(connection: sqlite3.Connection, table: str, row: int) -> None:
    """Remove the row with id ``row``; its id is never given out again."""
    connection.execute(f"DELETE FROM {table} WHERE id = ?", (row,))  # noqa: S608


def find(connection: sqlite3.Connection, table: str, **where: _Column) -> bytes | None:
    """The body of the one row that matches."""
    conditions = " AND ".join(f"{name} = ?" for name in where)
    query = f"SELECT body FROM {table} WHERE {conditions}"  # noqa: S608
    row = connection.execute(query, tuple(where.values())).fetchone()
    return row[0] if row else None
