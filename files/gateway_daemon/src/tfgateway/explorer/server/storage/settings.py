"""What the database says of itself, in table ``setting``."""

from __future__ import annotations

from tfgateway.errors import StoreError
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage import tables
from tfgateway.explorer.server.storage.connection import DatabaseConnection

_REGISTRATION = "registration"
UNBOUND_NOTED_SINCE = "unbound_noted_since"
"""When the explorer began to note signatures that are not bound, Unix seconds; 0: with the database."""


INCOMPLETE = "incomplete"
"""Which database this one is being filled from."""


def write_new(connection: DatabaseConnection, mode: RegistrationMode) -> None:
    """The settings of a database that is made."""
    add(connection, _REGISTRATION, mode.value)
    add(connection, UNBOUND_NOTED_SINCE, "0")


def add(connection: DatabaseConnection, name: str, value: str) -> None:
    """Write a setting, unless it is there."""
    connection.execute("INSERT INTO setting VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, value))


def replace(connection: DatabaseConnection, name: str, value: str) -> None:
    """Write a setting."""
    tables.replace(connection, "setting", name=name, value=value)


def remove(connection: DatabaseConnection, name: str) -> None:
    """Remove a setting, if it is there."""
    connection.execute("DELETE FROM setting WHERE name = ?", (name,))


def find(connection: DatabaseConnection, name: str) -> str | None:
    """The value of a setting."""
    row = connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else None


def registration(connection: DatabaseConnection, database: str) -> RegistrationMode | None:
    """Who may register what; None: a release made the database that knew no choice. Errors: ``StoreError``.

    database: how a message calls it.
    """
    value = find(connection, _REGISTRATION)
    try:
        return RegistrationMode(value) if value is not None else None
    except ValueError:
        raise StoreError(f"{database}: written by another version of the explorer (registration {value})") from None
