"""The database of the self-hosted explorer: who waits for whom, and what an older file is made into."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tfgateway.errors import StoreError
from tfgateway.explorer.server.storage import tables
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(SqliteEngine(tmp_path / "e.db"))
    await made.open()
    yield made
    await made.close()


def _add(connection: sqlite3.Connection, name: str) -> None:
    tables.insert(connection, "farm", name=name, owner=1, body=b"{}")


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM farm").fetchone()[0])


async def test_a_long_scan_keeps_nobody_waiting_and_sees_one_state(opened: Database) -> None:
    running, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def scan(connection: sqlite3.Connection) -> tuple[int, int]:
        before = _count(connection)
        loop.call_soon_threadsafe(running.set)
        assert go_on.wait(30)
        return before, _count(connection)

    scanning = asyncio.create_task(opened.scan(scan))
    async with asyncio.timeout(30):
        await running.wait()
        await opened.write(lambda connection: _add(connection, "one"))
        assert await opened.read(_count) == 1
        assert not scanning.done()
        go_on.set()
        assert await scanning == (0, 0)


async def test_when_too_many_wait_a_further_one_fails_at_once(opened: Database) -> None:
    """As while a standby is away: clients that have gone are not waited for without end."""
    go_on = threading.Event()
    async with asyncio.TaskGroup() as waiting:
        waiting.create_task(opened.write(lambda _: go_on.wait(30)))
        for _ in range(999):
            waiting.create_task(opened.write(lambda _: None))
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="1000 requests wait for it"):
            await opened.write(lambda _: None)
        assert await opened.read(_count) == 0
        go_on.set()
    await opened.write(lambda _: None)


async def test_what_was_written_is_read(opened: Database) -> None:
    for number in range(50):
        await opened.write(lambda connection, name=f"farm{number}": _add(connection, name))
        assert await opened.read(_count) == await opened.scan(_count) == number + 1


async def test_readers_do_not_write(opened: Database) -> None:
    for lane in (opened.read, opened.scan):
        with pytest.raises(StoreError, match="readonly"):
            await lane(lambda connection: _add(connection, "one"))
    assert await opened.read(_count) == 0


async def test_work_that_fails_changes_nothing(opened: Database) -> None:
    def work(connection: sqlite3.Connection) -> None:
        _add(connection, "one")
        raise KeyError("one")

    with pytest.raises(KeyError):
        await opened.write(work)
    assert await opened.read(_count) == 0
    await opened.write(lambda connection: _add(connection, "one"))


async def test_an_older_file_gets_the_indexes_that_came_later(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    for _ in range(2):
        made = Database(SqliteEngine(path))
        await made.open()
        await made.close()
        with sqlite3.connect(path) as connection:
            plan = connection.execute(
                "EXPLAIN QUERY PLAN SELECT count(*) FROM workload WHERE next_action = 4"
            ).fetchone()
            assert "workload_action" in plan[3]
            connection.execute("DROP INDEX workload_action")


async def test_a_file_has_one_explorer(tmp_path: Path, opened: Database) -> None:
    second = Database(SqliteEngine(tmp_path / "e.db"))
    with pytest.raises(StoreError, match=rf"e\.db: is served already by process {os.getpid()} on \S+: "):
        await second.open()
    await opened.write(lambda connection: _add(connection, "one"))
    await opened.close()
    await second.open()
    assert await second.read(_count) == 1
    await second.close()


async def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    made = Database(SqliteEngine(path))
    with pytest.raises(StoreError, match=r"e\.db: written by another version \(99\)"):
        await made.open()
    await made.close()
