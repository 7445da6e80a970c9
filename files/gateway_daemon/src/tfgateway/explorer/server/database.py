"""SQLite in WAL mode behind one thread: the event loop never waits for the disk, and there is one writer.

Each table holds whole objects as JSON (``body``) next to the columns by which they are found.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tfgateway.errors import StoreError

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

_T = TypeVar("_T")
_Column = int | str | bytes


class Database:
    """Runs functions of a connection, each in a transaction of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Create or open the file. Errors: ``StoreError``."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def close(self) -> None:
        """Finish what was asked for, then close."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What ``work`` returns, seeing one state of the data. Errors: its own, ``StoreError``."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, "BEGIN", work)

    async def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What ``work`` returns, durable; when it raises, nothing has changed. Errors: its own, ``StoreError``."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._transaction, "BEGIN IMMEDIATE", work)

    def _open(self) -> None:
        try:
            self._connection = connection = sqlite3.connect(self._path, isolation_level=None, timeout=10)
            connection.execute("PRAGMA journal_mode = WAL")
            # An id that was answered must not be given out again after a power cut.
            connection.execute("PRAGMA synchronous = FULL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            elif version != VERSION:
                raise StoreError(f"{self._path}: written by another version ({version}) of the explorer")
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _transaction(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._connection
        if connection is None:
            raise StoreError("the database is not open")
        try:
            connection.execute(begin)
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.IntegrityError:  # the caller's business: a name that is taken
            raise
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error
        return result


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


def find(connection: sqlite3.Connection, table: str, **where: _Column) -> bytes | None:
    """The body of the one row that matches."""
    conditions = " AND ".join(f"{name} = ?" for name in where)
    query = f"SELECT body FROM {table} WHERE {conditions}"  # noqa: S608
    row = connection.execute(query, tuple(where.values())).fetchone()
    return row[0] if row else None


def select(
    connection: sqlite3.Connection, table: str, where: dict[str, _Column], page: int, size: int
) -> tuple[list[bytes], int]:
    """Bodies of page ``page`` (from 1) of the rows that match, by id, and the number of pages."""
    conditions = " AND ".join(f"{name} = ?" for name in where) or "1"
    values = tuple(where.values())
    count = connection.execute(f"SELECT count(*) FROM {table} WHERE {conditions}", values).fetchone()[0]  # noqa: S608
    query = f"SELECT body FROM {table} WHERE {conditions} ORDER BY id LIMIT ? OFFSET ?"  # noqa: S608
    rows = connection.execute(query, (*values, size, (page - 1) * size))
    return [row[0] for row in rows], math.ceil(count / size)
