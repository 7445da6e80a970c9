"""Which ids were given out, kept outside of the database: after a restore it would give some of them out again.

They are compared whenever a row is added and at each start. Each restore that is acknowledged begins a new epoch.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from tfgateway.errors import StoreError
from tfgateway.explorer.models import SKIPPED_BY_A_COPY
from tfgateway.explorer.server.storage import settings
from tfgateway.explorer.server.storage.connection import DatabaseConnection
from tfgateway.telemetry.logs import logger

_log = logger("explorer")
TABLES = ("user", "farm", "gateway", "pool", "workload")
"""Those whose ids clients know."""
_PAUSE = 1.0  # seconds between two writes of the file
_EPOCH, _ORIGIN = "epoch", "origin"


def open_private(path: Path) -> IO[str]:
    """Open or make a file beside a database, for its owner alone. Errors: ``OSError``.

    What root makes, with a command, belongs to the owner of the folder: the explorer runs as another user.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    if os.geteuid() == 0:
        folder = path.absolute().parent.stat()
        os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
    return file


class RestoreDetected(StoreError):
    """The database knows less than it did."""


class _File(msgspec.Struct, frozen=True):
    """``ids``: the highest one given out of each table, in this epoch."""

    epoch: int = 0
    ids: dict[str, int] = {}


class GivenIds:
    """The highest ids that this explorer knows of. Safe for threads."""

    def __init__(self, path: Path | None, name: str) -> None:
        """path: the file in which they outlive the process; None: they do not. name: of the database."""
        self._path = path
        self._name = name
        self._known = _File()
        self._lock = threading.Lock()
        self._next_write = 0.0
        self.problem: str | None = None
        """Why no ids are given out."""

    def compare(self, connection: DatabaseConnection, origin: str) -> None:
        """Compare with the database, at a start. Errors: ``RestoreDetected``, ``StoreError``.

        origin: which server's it is; a copy has the same one only if it was made file by file.
        """
        settings.add(connection, _ORIGIN, origin)
        known, epoch = self._read(), _epoch(connection)
        if settings.find(connection, _ORIGIN) != origin:
            raise self._restored("it was made by another server, or as another database")
        if known.epoch > epoch:
            raise self._restored("it is older than a restore that was acknowledged")
        self._known = known if known.epoch == epoch else _File(epoch)
        for table in TABLES:
            if (last := connection.last_id(table)) < (given := self._known.ids.get(table, 0)):
                raise self._restored(f"its last {table} is {last}, and {given} was given out")
            self._known.ids[table] = last

    def last(self, table: str) -> int:
        """The highest one that is known."""
        return self._known.ids.get(table, 0)

    def check(self, table: str, number: int, before: int) -> None:
        """Check an id that is about to be given out. Errors: ``RestoreDetected``.

        before: ``last`` when it was not drawn yet; others are drawn, and given out, at the same time.
        """
        if number > before:
            self.problem = None
        else:
            raise self._restored(f"its next {table} is {number}, and {before} was given out")

    def given(self, ids: Mapping[str, int]) -> None:
        """Note the ids of a transaction that is committed, in the file too from time to time."""
        if not ids:
            return
        self.note(ids)
        with self._lock:
            if (now := time.monotonic()) >= self._next_write:
                self._next_write = now + _PAUSE
                self._write()

    def note(self, ids: Mapping[str, int]) -> None:
        """Note ids that were given out, by whichever explorer."""
        with self._lock:
            for table, number in ids.items():
                self._known.ids[table] = max(self._known.ids.get(table, 0), number)

    def save(self) -> None:
        """Write the file, unless there is none to write."""
        with self._lock:
            if self._known.ids:
                self._write()

    def acknowledge(self, connection: DatabaseConnection, origin: str) -> int:
        """Go on with a restored database, far above all ids that may have been given out; the new epoch."""
        known = self._read()
        for table in TABLES:
            last = max(connection.last_id(table), known.ids.get(table, 0))
            connection.skip_ids(table, last + SKIPPED_BY_A_COPY)
        epoch = max(_epoch(connection), known.epoch) + 1
        settings.replace(connection, _EPOCH, str(epoch))
        settings.replace(connection, _ORIGIN, origin)
        return epoch

    def _read(self) -> _File:
        if self._path is None:
            return _File()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File()
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(f"{self._path}: {error}: remove it if no backup was restored") from error

    def _write(self) -> None:
        if self._path is None:
            return
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with open_private(part) as file:
                file.truncate()
                json.dump(msgspec.to_builtins(self._known), file)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self._path)
        except OSError as error:
            # What was to be remembered is committed: the request has not failed.
            _log.warning("ids not remembered", file=str(self._path), reason=error.strerror)

    def _restored(self, why: str) -> RestoreDetected:
        self.problem = "the database was restored from a copy"
        return RestoreDetected(
            f"{self._name}: was restored from a copy: {why}. Ids could be given out twice: stop all explorers, run"
            " `tfgateway explorer acknowledge-restore` and start them again"
        )


def _epoch(connection: DatabaseConnection) -> int:
    return int(settings.find(connection, _EPOCH) or 0)
