"""Which engine a location names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tfgateway.explorer.server.storage.engines.engine import DatabaseEngine
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine

_POSTGRESQL = ("postgresql://", "postgres://")


def has_password(location: str) -> bool:
    """Whether a URL has a password in it."""
    return location.startswith(_POSTGRESQL) and bool(urlsplit(location).password or "password=" in location)


def engine(location: str, ids: Path | None = None) -> DatabaseEngine:
    """The engine for a URL of PostgreSQL or the path of an SQLite file. Errors: ``ConfigError``.

    ids: the file that remembers what was given out; an SQLite file has its own beside it.
    """
    if not location.startswith(_POSTGRESQL):
        return SqliteEngine(Path(location.removeprefix("sqlite:")))
    # Imported here: 25 MB that SQLite has no use for.
    from tfgateway.explorer.server.storage.engines.postgresql.engine import PostgresqlEngine

    return PostgresqlEngine(location, ids)
