"""Pinned keys: of their requests only those with a bound signature are accepted (E-2)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tfgateway.errors import StoreError


def pinned(connection: sqlite3.Connection, key_id: str) -> bool:
    """Whether the key with this id (node id or decimal tid) is pinned."""
    return connection.execute("SELECT 1 FROM pin WHERE key_id = ?", (key_id,)).fetchone() is not None


def change(connection: sqlite3.Connection, key_id: str, *, pin: bool) -> None:
    """Pin the key, or take its pin back; either may be so already."""
    command = "INSERT OR IGNORE INTO pin (key_id) VALUES (?)" if pin else "DELETE FROM pin WHERE key_id = ?"
    connection.execute(command, (key_id,))


def remove(path: Path, key_id: str) -> bool:
    """Take a pin back in the database of an explorer, which may run; False when there is none.

    Errors: ``StoreError``.
    """
    try:
        # Opened only when it is there: SQLite would make an empty one.
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=10)
        try:
            with connection:
                return connection.execute("DELETE FROM pin WHERE key_id = ?", (key_id,)).rowcount > 0
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
