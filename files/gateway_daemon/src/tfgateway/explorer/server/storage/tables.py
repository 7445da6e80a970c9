"""Rows of any table, found by the values of columns."""

from __future__ import annotations

from tfgateway.explorer.server.storage.connection import DatabaseConnection, Value

# Table and column names in the functions below are literals of the callers; values are always bound. The names are
# quoted, since to PostgreSQL ``user`` is something else.


def insert(connection: DatabaseConnection, table: str, **columns: Value) -> None:
    """Add a row. Errors: ``UniqueViolation``."""
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    connection.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', tuple(columns.values()))  # noqa: S608


def update(connection: DatabaseConnection, table: str, row: int, **columns: Value) -> None:
    """Change the row with id ``row``. Errors: ``UniqueViolation``."""
    names = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f'UPDATE "{table}" SET {names} WHERE id = ?', (*columns.values(), row))  # noqa: S608


def replace(connection: DatabaseConnection, table: str, **columns: Value) -> None:
    """Add a row, or change the one with the same first column, which is the table's key."""
    key, *others = columns
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    changes = ", ".join(f"{name} = excluded.{name}" for name in others)
    command = f'INSERT INTO "{table}" ({names}) VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {changes}'  # noqa: S608
    connection.execute(command, tuple(columns.values()))


def delete(connection: DatabaseConnection, table: str, row: int) -> None:
    """Remove the row with id ``row``; its id is never given out again."""
    connection.execute(f'DELETE FROM "{table}" WHERE id = ?', (row,))  # noqa: S608


def find(connection: DatabaseConnection, table: str, **where: Value) -> bytes | None:
    """The body of the one row that matches."""
    return _body(connection, table, where, "")


def find_for_update(connection: DatabaseConnection, table: str, **where: Value) -> bytes | None:
    """As ``find``; no other transaction changes the row before this one ends."""
    return _body(connection, table, where, connection.for_update)


def _body(connection: DatabaseConnection, table: str, where: dict[str, Value], lock: str) -> bytes | None:
    conditions = " AND ".join(f"{name} = ?" for name in where)
    query = f'SELECT body FROM "{table}" WHERE {conditions}{lock}'  # noqa: S608
    row = connection.execute(query, tuple(where.values())).fetchone()
    return row[0] if row else None
