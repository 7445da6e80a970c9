"""A database that was restored from a copy gives no id twice: it is noticed, and one command goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tfgateway.errors import StoreError
from tfgateway.explorer.models import SKIPPED_BY_A_COPY
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.engine import DatabaseEngine
from tfgateway.explorer.server.storage.engines.given_ids import GivenIds, RestoreDetected
from tfgateway.explorer.server.storage.engines.postgresql.engine import PostgresqlEngine
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.explorer.server.storage.maintenance import backup

from tests.support import postgresql as support
from tests.support.postgresql import Server

SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
POSTGRESQL = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


async def _refused(engine: DatabaseEngine, why: str) -> None:
    database = Database(engine)
    with pytest.raises(RestoreDetected, match=why):
        await database.open()
    await database.close()


@SQLITE
async def test_a_copied_file_is_noticed(grid: Any, tmp_path: Path) -> None:
    path = tmp_path / "explorer.db"
    await grid.create()
    await grid.explorer.server.close()
    shutil.copy(path, tmp_path / "copy.db")
    await grid.explorer.restart()
    lost = await grid.create()
    await grid.explorer.server.close()
    shutil.copy(tmp_path / "copy.db", path)
    await _refused(SqliteEngine(path), "its last workload is 1, and 2 was given out")
    assert SqliteEngine(path).acknowledge() == 1
    await grid.explorer.restart()
    assert await grid.create() == lost + SKIPPED_BY_A_COPY + 1
    # The copy is older than that restore.
    await grid.explorer.server.close()
    shutil.copy(tmp_path / "copy.db", path)
    await _refused(SqliteEngine(path), "it is older than a restore that was acknowledged")
    assert SqliteEngine(path).acknowledge() == 2
    await grid.explorer.restart()


def _access(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_mode & 0o777


@SQLITE
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_what_root_leaves_beside_a_file_is_the_explorers(engine: SqliteEngine, tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1234)
    database = Database(engine)
    await database.open()
    await database.write(lambda connection: connection.skip_ids("farm", 5))
    await database.write(lambda connection: connection.next_id("farm"))
    await database.close()
    assert _access(tmp_path / "explorer.db.lock") == _access(tmp_path / "explorer.db.ids") == (1234, 0o600)


@SQLITE
async def test_a_backup_of_ours_needs_no_word(grid: Any, tmp_path: Path) -> None:
    path = tmp_path / "explorer.db"
    backup.backup(path, tmp_path / "copy.db")
    lost = await grid.create()
    await grid.explorer.server.close()
    shutil.copy(tmp_path / "copy.db", path)
    await grid.explorer.restart()
    assert await grid.create() > lost


@SQLITE
async def test_a_file_of_ids_that_is_damaged_is_named(grid: Any, tmp_path: Path) -> None:
    await grid.explorer.server.close()
    (tmp_path / "explorer.db.ids").write_text("{")
    database = Database(SqliteEngine(tmp_path / "explorer.db"))
    with pytest.raises(StoreError, match=r"explorer\.db\.ids: .*: remove it if no backup was restored"):
        await database.open()
    await database.close()
    (tmp_path / "explorer.db.ids").unlink()
    await grid.explorer.restart()


@POSTGRESQL
async def test_a_dump_that_is_restored_is_noticed(grid: Any, engine: PostgresqlEngine, postgresql: Server) -> None:
    """The online backup of the guide: ``pg_dump`` beside running explorers, ``pg_restore`` into a new database."""
    await grid.create()
    old, new = (
        psycopg.conninfo.conninfo_to_dict(url)["dbname"] for url in (engine.conninfo, postgresql.new_database())
    )
    with support.directory() as place:
        server = ["-h", "127.0.0.1", "-p", str(postgresql.port), "-U", "test"]
        support.run(support.program("pg_dump"), *server, "-Fc", "-f", str(place / "dump"), str(old))
        lost = await grid.create()
        support.run(support.program("pg_restore"), *server, "-d", str(new), str(place / "dump"))
    restored = PostgresqlEngine(postgresql.url(str(new)))
    await _refused(restored, "it was made by another server, or as another database")
    assert restored.acknowledge() == 1
    await grid.explorer.stop()
    grid.explorer.engine = restored
    grid.explorer._open(grid.explorer.policy)
    await grid.explorer.start()
    assert await grid.create() >= lost + SKIPPED_BY_A_COPY
    assert len((await grid.poll(0)).json) == 2


@POSTGRESQL
async def test_a_running_explorer_notices(grid: Any, engine: PostgresqlEngine, tmp_path: Path) -> None:
    """As after the failover to a standby that was behind."""
    for _ in range(3):
        await grid.create()
    engine.apply(lambda connection: connection.execute("SELECT setval('workload_id_seq', 1)"))
    answer = await grid.post(grid.workload())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert grid.explorer.count("workload") == 3
    async with grid.explorer.session.get(str(grid.explorer.server.make_url("/readyz"))) as response:
        assert (response.status, await response.text()) == (503, "the database was restored from a copy\n")
    await grid.explorer.restart()


@POSTGRESQL
async def test_ids_that_are_drawn_at_the_same_time_are_no_restore(grid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one with the higher id is committed before the other one has got its own."""
    original, held, go_on = GivenIds.check, threading.Event(), threading.Event()

    def check(self: GivenIds, table: str, number: int, before: int) -> None:
        if not held.is_set():
            held.set()
            assert go_on.wait(30)
        original(self, table, number, before)

    monkeypatch.setattr(GivenIds, "check", check)
    write = grid.explorer.database.write
    first = asyncio.create_task(write(lambda connection: connection.next_id("workload")))
    assert await asyncio.to_thread(held.wait, 30)
    second = await write(lambda connection: connection.next_id("workload"))
    go_on.set()
    assert await first < second


@POSTGRESQL
async def test_the_next_process_remembers(engine: PostgresqlEngine, tmp_path: Path) -> None:
    for _ in range(2):
        database = Database(PostgresqlEngine(engine.conninfo, tmp_path / "ids"))
        await database.open()
        await database.write(lambda connection: connection.next_id("workload"))
        await database.close()
    engine.apply(lambda connection: connection.execute("SELECT setval('workload_id_seq', 1)"))
    again = PostgresqlEngine(engine.conninfo, tmp_path / "ids")
    await _refused(again, "its last workload is 1, and 2 was given out")
    again.acknowledge()
    await Database(again).open()
