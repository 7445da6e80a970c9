"""Several explorers on one PostgreSQL database: what one of them does, all of them know."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import psycopg
import pytest
from tfgateway.aio import end
from tfgateway.errors import StoreError
from tfgateway.explorer import signing
from tfgateway.explorer.models import Subdomain
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.app import METRICS
from tfgateway.explorer.server.storage import rows
from tfgateway.explorer.server.storage.connection import CommitOutcomeUnknown, DatabaseConnection, node_lock
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.postgresql import connection as driver
from tfgateway.explorer.server.storage.engines.postgresql.engine import PostgresqlEngine
from tfgateway.explorer.server.storage.engines.postgresql.notifications import Notifications

from tests.support.postgresql import Server
from tests.support.waiting import soon

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
LONG = 30.0


@pytest.fixture
async def replicas(start_grid: Callable[..., Awaitable[Any]], start_explorer: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Two of them: the grid of one, and a grid that asks the other."""
    one = await start_grid(drain=0.0)
    other = await start_explorer()
    there = type(one)(other, one.user, one.node)
    there.tid, there.pool = one.tid, one.pool
    yield one, there


def _lose_notifications(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Notifications, "announce", lambda _self, _node_id: None)


async def _waits(grid: Any) -> None:
    await soon(lambda: grid.explorer.long_polls.waiting == 1)


async def test_a_poll_at_one_is_woken_by_a_change_at_another(replicas: tuple[Any, Any]) -> None:
    one, other = replicas
    poll = asyncio.create_task(one.poll(0, "&wait=60"))
    await _waits(one)
    made = await other.create()
    async with asyncio.timeout(LONG):
        answer = await poll
    assert [found["id"] for found in answer.json] == [made]
    assert answer.headers["x-last-id"] == str(made)
    # And once only: our own notification does not come back as news.
    again = asyncio.create_task(other.poll(made + 1, "&wait=60"))
    async with asyncio.timeout(LONG):
        assert [found["id"] for found in (await again).json] == [made]  # that replica has not delivered it yet
    third = asyncio.create_task(other.poll(made + 1, "&wait=0.5"))
    assert [found["id"] for found in (await third).json] == [made]


async def test_each_knows_the_ids_that_others_gave_out(replicas: tuple[Any, Any]) -> None:
    """After a restore, or a failover to a standby that was behind, none of them gives one out again."""
    one, other = replicas
    poll = asyncio.create_task(one.poll(0, "&wait=60"))
    await _waits(one)
    await other.create()
    async with asyncio.timeout(LONG):
        await poll
    one.explorer.engine.apply(lambda connection: connection.execute("SELECT setval('workload_id_seq', 1, false)"))
    assert (await one.post(one.workload())).status == 503


async def test_what_no_notification_says_is_found_by_the_poll(
    replicas: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Notifications, "recheck", 0.1)
    _lose_notifications(monkeypatch)
    one, other = replicas
    poll = asyncio.create_task(one.poll(0, "&wait=60"))
    await _waits(one)
    made = await other.create()
    async with asyncio.timeout(LONG):
        assert [found["id"] for found in (await poll).json] == [made]


async def test_after_a_lost_connection_everybody_looks_again(
    replicas: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, postgresql: Server
) -> None:
    _lose_notifications(monkeypatch)
    one, other = replicas
    poll = asyncio.create_task(one.poll(0, "&wait=60"))
    await _waits(one)
    made = await other.create()
    postgresql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        f" AND datname = '{psycopg.conninfo.conninfo_to_dict(one.explorer.engine.conninfo)['dbname']}'"
    )
    async with asyncio.timeout(LONG):
        assert [found["id"] for found in (await poll).json] == [made]


async def test_a_request_is_good_once_at_all_of_them(replicas: tuple[Any, Any]) -> None:
    one, other = replicas
    body = b'{"uptime":5}'
    once = signing.Once("POST", f"/api/v1/gateways/{one.node_id}/uptime", "grid.example", "n" * 32)
    headers = signing.request_headers(one.node, one.node_id, int(one.explorer.now), body, once)
    statuses = [
        (
            await grid.call(
                "POST", f"/gateways/{one.node_id}/uptime", body, headers={**headers, "Host": "grid.example"}
            )
        ).status
        for grid in (one, other, one)
    ]
    assert statuses == [200, 401, 401]


async def test_ids_of_many_at_once_are_all_different(replicas: tuple[Any, Any]) -> None:
    made = await asyncio.gather(*(grid.create(workload_id=n) for n in range(1, 11) for grid in replicas))
    assert len(set(made)) == 20
    answer = await replicas[0].poll(0)
    assert sorted(found["id"] for found in answer.json) == sorted(made)


async def test_a_row_whose_transaction_commits_late_is_delivered(replicas: tuple[Any, Any]) -> None:
    """The lower id commits last. A poll in between must not say that it has seen all up to the higher one."""
    one, other = replicas
    drawn, go_on = threading.Event(), threading.Event()

    def slow(connection: DatabaseConnection) -> int:
        connection.lock(node_lock(one.node_id))
        workload = Subdomain(id=rows.next_workload_id(connection), node_id=one.node_id, customer_tid=1, next_action=3)
        rows.add_workload(connection, workload)  # without the queue, which would deliver it in the end
        drawn.set()
        assert go_on.wait(LONG)
        return workload.id

    late = asyncio.create_task(one.explorer.database.write(slow))
    assert await asyncio.to_thread(drawn.wait, LONG)
    quick = asyncio.create_task(other.create())
    elsewhere = await other.explorer.database.write(_of_another_node)
    poll = asyncio.create_task(other.poll(0))
    await asyncio.sleep(0)
    await soon(lambda: _waiting_for_locks(one) >= 2)
    go_on.set()
    async with asyncio.timeout(LONG):
        first, second, answer = await late, await quick, await poll
    assert first < second
    assert first < elsewhere
    position = int(answer.headers["x-last-id"])
    found = {item["id"] for item in answer.json}
    found |= {item["id"] for item in (await other.poll(position + 1)).json}
    assert {first, second} <= found


def _of_another_node(connection: DatabaseConnection) -> int:
    number = rows.next_workload_id(connection)
    rows.add_workload(connection, Subdomain(id=number, node_id="another", customer_tid=1, next_action=3))
    return number


def _waiting_for_locks(grid: Any) -> int:
    return int(grid.explorer.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


async def test_changes_of_one_row_do_not_undo_each_other(replicas: tuple[Any, Any]) -> None:
    one, other = replicas
    made = await one.create()
    barrier = threading.Barrier(2, timeout=LONG)

    def change(name: str) -> Callable[[DatabaseConnection], None]:
        def work(connection: DatabaseConnection) -> None:
            if name == "metadata":
                barrier.wait()
            workload = rows.workload(connection, made, for_update=True)
            if name == "description":
                barrier.wait()
            rows.change_workload(connection, msgspec.structs.replace(workload, **{name: "changed"}))

        return work

    await asyncio.gather(
        one.explorer.database.write(change("description")), other.explorer.database.write(change("metadata"))
    )
    found = await one.get(made)
    assert (found["description"], found["metadata"]) == ("changed", "changed")


# The connection


def _end_connections(postgresql: Server, engine: PostgresqlEngine) -> None:
    database = psycopg.conninfo.conninfo_to_dict(engine.conninfo)["dbname"]
    postgresql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    )


async def test_a_lost_connection_costs_no_request(grid: Any, engine: PostgresqlEngine, postgresql: Server) -> None:
    for _ in range(3):
        await grid.create()
        _end_connections(postgresql, engine)
    assert len((await grid.poll(0)).json) == 3


async def test_a_transaction_that_was_interrupted_is_repeated(
    grid: Any, engine: PostgresqlEngine, postgresql: Server
) -> None:
    runs = []

    def work(connection: DatabaseConnection) -> int:
        number = rows.next_workload_id(connection)
        rows.add_workload(connection, Subdomain(id=number, node_id="N", customer_tid=1, next_action=3))
        runs.append(number)
        if len(runs) == 1:
            _end_connections(postgresql, engine)
        return int(connection.execute("SELECT count(*) FROM workload").fetchone()[0])

    assert await grid.explorer.database.write(work) == 1
    assert len(runs) == 2


async def test_what_is_lost_while_it_is_committed_is_not_repeated(grid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = driver.PostgresqlConnection.commit

    def commit(self: Any) -> None:
        original(self)
        if self._kind is driver.TransactionKind.WRITE and self.cut:
            self.committing = True
            self.close()
            raise psycopg.OperationalError("the answer got lost")

    monkeypatch.setattr(driver.PostgresqlConnection, "commit", commit)
    monkeypatch.setattr(driver.PostgresqlConnection, "cut", True, raising=False)
    before = grid.explorer.database
    with pytest.raises(CommitOutcomeUnknown, match="whether it was written is not known"):
        await before.write(_of_another_node)
    answer = await grid.post(grid.workload())
    assert (answer.status, answer.headers.get("Retry-After")) == (503, None)
    monkeypatch.setattr(driver.PostgresqlConnection, "cut", False, raising=False)
    assert grid.explorer.count("workload") == 2  # each once


async def test_a_server_that_is_away_is_said_and_comes_back(
    grid: Any, engine: PostgresqlEngine, postgresql: Server
) -> None:
    health = str(grid.explorer.server.make_url("/"))

    async def status(path: str) -> int:
        async with grid.explorer.session.get(f"{health}{path}") as response:
            return response.status

    assert (await status("readyz"), await status("healthz")) == (200, 200)
    postgresql.stop()
    try:
        answer = await grid.poll(0)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await status("readyz"), await status("healthz")) == (503, 200)
    finally:
        postgresql.start()
    assert (await grid.poll(0)).status == 200
    await grid.create()


async def test_who_stops_answers_those_who_wait_and_is_not_ready(grid: Any) -> None:
    poll = asyncio.create_task(grid.poll(0, "&wait=60"))
    await _waits(grid)
    grid.explorer._app[SERVICES].long_polls.close()
    async with asyncio.timeout(LONG):
        assert (await poll).status == 200
    async with grid.explorer.session.get(str(grid.explorer.server.make_url("/readyz"))) as response:
        assert (response.status, await response.text()) == (503, "stopping\n")
        assert response.headers["Connection"] == "close"  # what would come behind it here might get no answer
    assert (await grid.post(grid.workload())).status == 201


async def test_a_cancellation_that_gets_lost_does_not_keep_the_process(
    engine: PostgresqlEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in ``asyncio.wait_for`` of Python 3.11, by which the driver waits."""

    async def send(_self: Notifications, _connection: object) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    monkeypatch.setattr(Notifications, "_send", send)
    changes = engine.changes()
    running = asyncio.create_task(changes.run(lambda _node_id: None, lambda: None))
    await changes.listening()
    async with asyncio.timeout(LONG):
        await end([running])


async def test_who_waits_too_long_to_write_is_not_ready(grid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the standby that each commit waits for is away."""
    monkeypatch.setattr("tfgateway.explorer.server.storage.database._STUCK", 0.0)
    begun, go_on = threading.Event(), threading.Event()

    def wait(_connection: DatabaseConnection) -> None:
        begun.set()
        assert go_on.wait(LONG)

    async def ready() -> tuple[int, str]:
        async with grid.explorer.session.get(str(grid.explorer.server.make_url("/readyz"))) as response:
            return response.status, await response.text()

    writing = asyncio.create_task(grid.explorer.database.write(wait))
    assert await asyncio.to_thread(begun.wait, LONG)
    assert await ready() == (503, "a change has been waiting for the database\n")
    registry = grid.explorer._app[METRICS]
    assert registry.get_sample_value("tfgateway_explorer_database_calls", {"kind": "write"}) == 1
    go_on.set()
    await writing
    assert await ready() == (200, "ok\n")


# What is refused, and what PostgreSQL cannot store


async def test_a_database_of_another_encoding_is_refused(engine: PostgresqlEngine, postgresql: Server) -> None:
    postgresql.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    database = Database(PostgresqlEngine(postgresql.url("latin")))
    with pytest.raises(StoreError, match="its encoding is LATIN1: make the database with ENCODING 'UTF8'"):
        await database.open()
    await database.close()


async def test_names_with_nul_are_found_by_nobody(grid: Any) -> None:
    assert (await grid.call("GET", "/reservations/nodes/N%00/workloads?from=0")).json == []
    assert (await grid.call("GET", "/users?name=a%00")).json == []
