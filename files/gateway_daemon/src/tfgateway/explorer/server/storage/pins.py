"""Pinned keys: of their requests only those with a bound signature are accepted (E-2)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tfgateway.errors import StoreError
from tfgateway.explorer.server.storage import database


def pinned(connection: sqlite3.Connection, key_id: str) -> bool:
    """Whether the key with this id (node id or decimal tid) is pinned."""
    return connection.execute("SELECT 1 FROM pin WHERE key_id = ?", (key_id,)).fetchone() is not None


def change(connection: sqlite3.Connection, key_id: str, *, pin: bool) -> bool:
    """Pin the key, or take its pin back; False when it was so already."""
    command = "INSERT OR IGNORE INTO pin (key_id) VALUES (?)" if pin else "DELETE FROM pin WHERE key_id = ?"
    return connection.execute(command, (key_id,)).rowcount > 0


def remove(path: Path, key_id: str) -> bool:
    """Take a pin back in the database of an explorer, which may run; False when there is none.

    Errors: ``StoreError``.
    """
    try:
        with closing(database.connect_existing(path)) as connection, connection:
            return change(connection, key_id, pin=False)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
