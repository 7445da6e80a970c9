"""Copies the database while the explorer runs (SQLite's online backup)."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from tfgateway.errors import ConfigError, StoreError
from tfgateway.explorer.models import SKIPPED_BY_A_COPY
from tfgateway.explorer.server.storage.engines import given_ids
from tfgateway.explorer.server.storage.engines.sqlite import VERSION, SqliteConnection, connect_existing


def backup(database: Path, output: Path) -> int:
    """Copy ``database`` to the new file ``output`` (mode 0600), which appears when it is complete; its size in bytes.

    One state of the data, whatever is written meanwhile; nobody waits for it. The copy is a single file that
    ``tfgateway explorer --database`` can be given. Errors: ``ConfigError``, ``StoreError``.
    """
    if output.exists():
        raise ConfigError(f"{output}: exists already and is not overwritten")
    part = output.with_name(f"{output.name}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
    except OSError as error:
        raise ConfigError(f"{part}: cannot be written: {error.strerror}") from error
    try:
        _copy(database, part)
        _to_disk(part)
        part.rename(output)
        _to_disk(output.parent)
    except sqlite3.Error as error:
        raise StoreError(f"{database}: {error}") from error
    except OSError as error:
        raise StoreError(f"{output}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return output.stat().st_size


def _copy(database: Path, part: Path) -> None:
    with (
        closing(connect_existing(database)) as source,
        closing(sqlite3.connect(part, factory=SqliteConnection)) as target,
    ):
        if source.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            raise StoreError(f"{database}: is no database of this version of the explorer")
        # In one step: it reads one state of the data, and in WAL mode that keeps nobody from writing.
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
        for table in given_ids.TABLES:
            target.skip_ids(table, target.last_id(table) + SKIPPED_BY_A_COPY)
        target.commit()
        damage = target.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise StoreError(f"{database}: is damaged: {damage}")


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
