"""Copies everything from one database of the explorer to a new one, whichever engines they are.

Rows are copied in the order of their key, a batch a transaction: who was interrupted goes on behind the last one. The
new database says that it is incomplete until all has been compared, and no explorer serves it meanwhile.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import msgspec

from tfgateway.errors import StoreError
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage import settings
from tfgateway.explorer.server.storage.connection import DatabaseConnection, Value
from tfgateway.explorer.server.storage.engines import given_ids
from tfgateway.explorer.server.storage.engines.engine import DatabaseEngine, TransactionKind

_BATCH = 5000
_PATIENCE = 2.0  # seconds: a server notices a little later that an explorer has stopped
_COPIED_SETTINGS = ("registration", settings.UNBOUND_NOTED_SINCE)


class _Table(msgspec.Struct, frozen=True):
    """``columns`` begin with those of the key, of which there are ``keys``."""

    name: str
    columns: tuple[str, ...]
    keys: int = 1


_TABLES = (
    _Table("user", ("id", "name", "email", "body")),
    _Table("farm", ("id", "name", "owner", "body")),
    _Table("gateway", ("id", "node_id", "farm_id", "country", "city", "body")),
    _Table("pool", ("id", "customer_tid", "body")),
    _Table(
        "workload",
        ("id", "node_id", "customer_tid", "pool_id", "workload_type", "next_action", "active", "body"),
    ),
    _Table("queue", ("id", "node_id", "body")),
    _Table("admission", ("farm_id", "node_id", "body"), 2),  # an id of its own, which nobody knows
    _Table("pool_order", ("customer_tid", "nonce"), 2),
    _Table("user_update", ("id", "sequence")),
    _Table("pin", ("key_id",)),
    _Table("unbound", ("key_id", "used")),
    _Table("nonce", ("key_id", "nonce", "created"), 2),
    _Table("nonce_floor", ("key_id", "created")),
)


class Copied(msgspec.Struct, frozen=True):
    """One table as it is in both databases; ``sha256``: of all rows in the order of their key, in hex."""

    table: str
    rows: int
    sha256: str


def migrate(source: DatabaseEngine, target: DatabaseEngine, progress: Callable[[str, int], None]) -> list[Copied]:
    """Copy all of ``source``, which nobody serves, to ``target``, which is new or was begun before.

    progress: called with a table and the number of its rows that are there. Errors: ``StoreError``.
    """
    try:
        source.apply(_check_there)
        source.open(RegistrationMode.CLOSED)
        _check_idle(source)
        with closing(source.connect(TransactionKind.SCAN)) as reading:

            def read(work: Callable[[DatabaseConnection], Any]) -> Any:
                return source.transaction(reading, TransactionKind.SCAN, work, "")

            read(_check_complete)
            target.open(RegistrationMode.CLOSED)
            _check_idle(target)
            with closing(target.connect(TransactionKind.WRITE)) as writing:

                def write(work: Callable[[DatabaseConnection], Any]) -> Any:
                    return target.transaction(writing, TransactionKind.WRITE, work, "")

                write(lambda connection: _begin(connection, source.name, target.name))
                for table in _TABLES:
                    _copy(table, read, write, progress)
                _check_idle(source)
                copied = [_compared(table, read, write) for table in _TABLES]
                found = read(_state)
                write(lambda connection: _finish(connection, *found))
                return copied
    finally:
        target.close()
        source.close()


_Run = Callable[[Callable[[DatabaseConnection], Any]], Any]


def _check_idle(engine: DatabaseEngine) -> None:
    until = time.monotonic() + _PATIENCE
    while others := engine.other_explorers():
        if time.monotonic() < until:
            time.sleep(0.1)
            continue
        raise StoreError(f"{engine.name}: {others} connections of explorers use it: stop them first")


def _check_there(connection: DatabaseConnection) -> None:
    """Opening would make what is not there."""
    connection.execute("SELECT id FROM workload LIMIT 1").fetchone()


def _check_complete(connection: DatabaseConnection) -> None:
    if settings.find(connection, settings.INCOMPLETE):
        raise StoreError("the database to copy is itself an incomplete copy")


def _begin(connection: DatabaseConnection, source: str, target: str) -> None:
    """Mark the new database as incomplete. Errors: ``StoreError`` when it is not new, or begun from another one."""
    begun = settings.find(connection, settings.INCOMPLETE)
    if begun is None and any(connection.last_id(table) for table in given_ids.TABLES):
        raise StoreError(f"{target}: has data of its own: a migration needs a new database")
    if begun not in (None, source):
        raise StoreError(f"{target}: was begun to be filled from {begun}: go on with that one, or make a new database")
    settings.replace(connection, settings.INCOMPLETE, source)


def _copy(table: _Table, read: _Run, write: _Run, progress: Callable[[str, int], None]) -> None:
    last = write(lambda connection: _last_key(connection, table))
    done = write(lambda connection: connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0])  # noqa: S608
    progress(table.name, done)
    for batch in _batches(table, read, last):
        write(partial(_insert, table=table, batch=batch))
        done += len(batch)
        progress(table.name, done)


def _last_key(connection: DatabaseConnection, table: _Table) -> tuple[Value, ...] | None:
    keys = table.columns[: table.keys]
    order = ", ".join(f"{key} DESC" for key in keys)
    query = f'SELECT {", ".join(keys)} FROM "{table.name}" ORDER BY {order} LIMIT 1'  # noqa: S608
    row: tuple[Value, ...] | None = connection.execute(query).fetchone()
    return row


def _behind(connection: DatabaseConnection, table: _Table, last: tuple[Value, ...] | None) -> list[tuple[Value, ...]]:
    """The next rows after the key ``last``; None: from the first on."""
    keys = ", ".join(table.columns[: table.keys])
    marks = ", ".join("?" * table.keys)
    where = f"WHERE ({keys}) > ({marks}) " if last is not None else ""
    query = f'SELECT {", ".join(table.columns)} FROM "{table.name}" {where}ORDER BY {keys} LIMIT ?'  # noqa: S608
    rows = connection.execute(query, (*(last or ()), _BATCH))
    # PostgreSQL has no text with NUL in it.
    return [tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row) for row in rows]


def _compared(table: _Table, read: _Run, write: _Run) -> Copied:
    there, here = _digest(table, read), _digest(table, write)
    if there != here:
        raise StoreError(f"table {table.name}: the copy differs ({here.rows} rows of {there.rows}): make a new one")
    return here


def _digest(table: _Table, run: _Run) -> Copied:
    digest, number = hashlib.sha256(), 0
    for batch in _batches(table, run, None):
        for row in batch:
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        number += len(batch)
    return Copied(table.name, number, digest.hexdigest())


def _batches(table: _Table, run: _Run, last: tuple[Value, ...] | None) -> Iterator[list[tuple[Value, ...]]]:
    while batch := run(partial(_behind, table=table, last=last)):
        yield batch
        last = batch[-1][: table.keys]


def _insert(connection: DatabaseConnection, table: _Table, batch: list[tuple[Value, ...]]) -> None:
    connection.insert_many(table.name, table.columns, batch)


def _state(connection: DatabaseConnection) -> tuple[dict[str, str], dict[str, int]]:
    """Settings, and the last ids that were given out."""
    found = {name: settings.find(connection, name) for name in _COPIED_SETTINGS}
    ids = {table: connection.last_id(table) for table in given_ids.TABLES}
    return {name: value for name, value in found.items() if value is not None}, ids


def _finish(connection: DatabaseConnection, found: dict[str, str], ids: dict[str, int]) -> None:
    for name in _COPIED_SETTINGS:
        if name in found:
            settings.replace(connection, name, found[name])
        else:
            settings.remove(connection, name)
    for table, last in ids.items():
        if last:
            connection.skip_ids(table, last)
    settings.remove(connection, settings.INCOMPLETE)
