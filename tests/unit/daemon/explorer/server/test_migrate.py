"""From one engine to the other and back: everything arrives, also when it is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfgateway.errors import StoreError
from tfgateway.explorer.models import AdmittedGateway, ResultState
from tfgateway.explorer.server.storage import admissions
from tfgateway.explorer.server.storage.connection import DatabaseConnection
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.engine import DatabaseEngine
from tfgateway.explorer.server.storage.engines.postgresql.engine import PostgresqlEngine
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.explorer.server.storage.maintenance import migrate

from tests.support.postgresql import Server


def _quiet(_table: str, _done: int) -> None:
    pass


@pytest.fixture
def other(engine: DatabaseEngine, postgresql: Server, tmp_path: Path) -> DatabaseEngine:
    """A new database of the other engine."""
    if isinstance(engine, SqliteEngine):
        return PostgresqlEngine(postgresql.new_database())
    return SqliteEngine(tmp_path / "other.db")


async def _move(grid: Any, target: DatabaseEngine) -> list[migrate.Copied]:
    await grid.explorer.stop()
    copied = migrate.migrate(grid.explorer.engine, target, _quiet)
    await _serve(grid, target)
    return copied


async def _serve(grid: Any, engine: DatabaseEngine) -> None:
    grid.explorer.engine = engine
    grid.explorer._open(grid.explorer.policy)
    await grid.explorer.start()


async def test_everything_arrives_and_ids_go_on(grid: Any, other: DatabaseEngine) -> None:
    made = [await grid.create(workload_id=number) for number in (1, 2, 3)]
    await grid.put(f"{made[0]}-1", grid.result(ResultState.OK))
    await grid.delete(made[1])
    lists = ["/users", "/farms", "/gateways", "/reservations/workloads", f"/reservations/pools/owner/{grid.tid}"]
    before = [(await grid.call("GET", path)).json for path in lists]
    page = (await grid.poll(0)).json
    copied = {table.table: table.rows for table in await _move(grid, other)}
    assert [copied[table] for table in ("user", "farm", "gateway", "pool", "workload", "queue")] == [1, 1, 1, 1, 3, 2]
    assert [(await grid.call("GET", path)).json for path in lists] == before
    assert (await grid.poll(0)).json == page
    assert await grid.create(workload_id=4) > made[-1]


async def test_a_request_is_good_once_in_both(grid: Any, other: DatabaseEngine) -> None:
    def use(connection: DatabaseConnection) -> None:
        connection.insert_many("nonce", ("key_id", "nonce", "created"), [("1", "n" * 32, 5), ("1", "m" * 32, 6)])

    await grid.explorer.database.write(use)
    await _move(grid, other)
    assert grid.explorer.count("nonce") == 2
    assert grid.explorer.value("SELECT number FROM nonce_count WHERE key_id = ?", "1") == 2


async def test_a_farm_goes_on_admitting_gateways(grid: Any, other: DatabaseEngine) -> None:
    def admit(node_id: str) -> Callable[[DatabaseConnection], None]:
        return lambda connection: admissions.write(connection, AdmittedGateway(farm_id=1, node_id=node_id))

    for node_id in ("one", "two"):
        await grid.explorer.database.write(admit(node_id))
    await _move(grid, other)
    await grid.explorer.database.write(admit("three"))
    assert len((await grid.call("GET", "/farms/1/gateways")).json) == 3


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_source_that_is_not_there_is_not_made(engine: DatabaseEngine, other: DatabaseEngine, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent\.db"):
        migrate.migrate(SqliteEngine(tmp_path / "absent.db"), other, _quiet)
    assert not (tmp_path / "absent.db").exists()


async def test_an_interrupted_migration_goes_on(
    grid: Any, other: DatabaseEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 8):
        await grid.create(workload_id=number)
    monkeypatch.setattr(migrate, "_BATCH", 2)
    await grid.explorer.stop()

    class Interrupted(Exception):
        pass

    seen = []

    def interrupt(table: str, done: int) -> None:
        seen.append((table, done))
        if (table, done) == ("workload", 4):
            raise Interrupted

    with pytest.raises(Interrupted):
        migrate.migrate(grid.explorer.engine, other, interrupt)
    with pytest.raises(StoreError, match=r"is not filled from .* yet: run `explorer migrate` to its end"):
        await Database(other).open()
    seen.clear()
    migrate.migrate(grid.explorer.engine, other, lambda table, done: seen.append((table, done)))
    assert [done for table, done in seen if table == "workload"] == [4, 6, 7]
    await _serve(grid, other)
    assert grid.explorer.count("workload") == 7


async def test_a_database_with_data_of_its_own_is_no_target(grid: Any, other: DatabaseEngine) -> None:
    await grid.explorer.stop()
    migrate.migrate(grid.explorer.engine, other, _quiet)
    with pytest.raises(StoreError, match="has data of its own"):
        migrate.migrate(grid.explorer.engine, other, _quiet)
    await grid.explorer.start()


async def test_a_database_that_is_served_is_no_source(grid: Any, other: DatabaseEngine) -> None:
    with pytest.raises(StoreError, match=r"is served already by process|connections of explorers use it"):
        engine = grid.explorer.engine
        source = engine if isinstance(engine, PostgresqlEngine) else SqliteEngine(Path(engine.name))
        migrate.migrate(source, other, _quiet)


async def test_a_copy_that_differs_is_not_taken(
    grid: Any, other: DatabaseEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grid.create()
    await grid.explorer.stop()
    original = migrate._copy

    def damage(table: Any, read: Any, write: Any, progress: Any) -> None:
        original(table, read, write, progress)
        if table.name == "workload":
            write(lambda connection: connection.execute("UPDATE workload SET next_action = 5"))

    monkeypatch.setattr(migrate, "_copy", damage)
    with pytest.raises(StoreError, match="table workload: the copy differs"):
        migrate.migrate(grid.explorer.engine, other, _quiet)
    with pytest.raises(StoreError, match="is not filled"):
        await Database(other).open()
    await grid.explorer.start()
