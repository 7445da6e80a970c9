"""The explorer on PostgreSQL: three replicas, ten million workloads, a thousand gateways that wait; SQLite beside it.

SQLite has a million and one explorer. The two are measured in turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tfgateway.explorer import signing
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Farm, Gateway, Pool, Subdomain, User
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage.engines.engine import DatabaseEngine
from tfgateway.explorer.server.storage.engines.postgresql.engine import PostgresqlEngine
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.identity.keys import Identity

from tests.bench import explorer
from tests.bench.explorer import GATEWAYS, MEMORY_LIMIT, OTHER_TIDS, TID, USER, WORKLOADS, encoded, latencies, spread
from tests.bench.processes import Program, memory, running
from tests.bench.report import Figure, publish
from tests.support import postgresql
from tests.support.ports import free_port

TIMES = 10
"""As many workloads as with SQLite."""
REPLICAS = 3
ROUNDS = 2
SLOWER = 3.0
"""By how much PostgreSQL may be slower than SQLite."""
CREATORS, SECONDS = 8, 10.0
_BATCH = 20_000
# As a server of this size would be set up.
_SETTINGS = ("shared_buffers=1GB", "max_wal_size=4GB", "checkpoint_timeout=30min")


@dataclass
class _Side:
    """Explorers of one database: ``ports`` of each and of its metrics, ``arrived`` as of ``explorer.waiting``."""

    name: str
    ports: list[tuple[int, int]]
    programs: list[Program]
    arrived: dict[int, asyncio.Future[float]]


def measure(scale: float) -> bool:
    """Fill, run, print. True: the limits are kept."""
    count = max(int(GATEWAYS * scale), 4)
    gateways = [Identity.from_seed(number.to_bytes(32, "big")) for number in range(1, count + 1)]
    workloads = max(int(WORKLOADS * scale), count)
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as home, postgresql.running(_SETTINGS) as server:
        directory = Path(home)
        url, file = server.new_database(), directory / "explorer.sqlite"
        _fill(SqliteEngine(file), gateways, workloads)
        started = time.monotonic()
        _fill(PostgresqlEngine(url), gateways, workloads * TIMES)
        filled = time.monotonic() - started
        server.execute("VACUUM ANALYZE", url.rpartition("/")[2])
        figures = asyncio.run(_measure(directory, str(file), url, gateways, workloads))
        size = float(str(server.execute("SELECT sum(pg_database_size(oid)) FROM pg_database")[0][0])) / 2**20
    conditions = {
        "workloads": f"{workloads} in SQLite, {workloads * TIMES} in PostgreSQL",
        "replicas": f"1 and {REPLICAS}",
        "gateways waiting": count,
        "PostgreSQL MB": round(size),
        "seconds of COPY": round(filled),
    }
    return publish("explorer_scale", conditions, figures)


def _fill(engine: DatabaseEngine, gateways: list[Identity], workloads: int) -> None:
    engine.open(RegistrationMode.OPEN)
    nodes = [gateway.node_id for gateway in gateways]
    user = User(id=TID, name="bench", email="bench@example.com", pubkey=USER.public_key.hex())
    farm = Farm(id=1, name="bench", threebot_id=1)
    pool = Pool(pool_id=1, node_ids=tuple(nodes), customer_tid=TID, empty_at=2**63 - 1)
    tables: dict[str, tuple[tuple[str, ...], Iterator[tuple[int | str | bytes, ...]]]] = {
        "user": (("id", "name", "email", "body"), iter([(TID, user.name, user.email, encoded(user))])),
        "farm": (("id", "name", "owner", "body"), iter([(1, "bench", TID, encoded(farm))])),
        "gateway": (
            ("id", "node_id", "farm_id", "country", "city", "body"),
            ((i, node, 1, "", "", encoded(Gateway(id=i, node_id=node, farm_id=1))) for i, node in enumerate(nodes, 1)),
        ),
        "pool": (("id", "customer_tid", "body"), iter([(1, TID, encoded(pool))])),
        "workload": (
            ("id", "node_id", "customer_tid", "pool_id", "workload_type", "next_action", "active", "body"),
            _workloads(nodes, workloads),
        ),
    }
    for table, (columns, rows) in tables.items():
        while batch := list(itertools.islice(rows, _BATCH)):
            engine.apply(lambda connection: connection.insert_many(table, columns, batch))  # noqa: B023  (runs now)
            last = int(batch[-1][0])
        engine.apply(lambda connection: connection.skip_ids(table, last))  # noqa: B023
    engine.close()


def _workloads(nodes: list[str], count: int) -> Iterator[tuple[int | str | bytes, ...]]:
    """As ``explorer.deployed``; all bodies are made of one."""
    model = next(explorer.deployed([nodes[0]], 1))
    text = encoded(model)
    marks = {nodes[0].encode(): b"NODE", b"host1.": b"hostID.", b'"1-1"': b'"ID-1"', b'"id":1,': b'"id":ID,'}
    for given, mark in marks.items():
        text = text.replace(given, mark)
    for number in range(1, count + 1):
        node, tid = nodes[number % len(nodes)], OTHER_TIDS[number % len(OTHER_TIDS)]
        body = text.replace(b"NODE", node.encode()).replace(b"ID", b"%d" % number)
        yield (number, node, tid, 1, int(model.workload_type), int(model.next_action), 1, body)


@contextlib.contextmanager
def _explorers(name: str, database: str, number: int, directory: Path) -> Iterator[_Side]:
    command = str(Path(sys.executable).with_name("tfgateway"))
    side = _Side(name, [(free_port(), free_port()) for _ in range(number)], [], {})
    with contextlib.ExitStack() as stack:
        for port, metrics in side.ports:
            options = [f"--listen=127.0.0.1:{port}", f"--metrics=127.0.0.1:{metrics}", f"--database={database}"]
            log = directory / f"{name}-{port}.log"
            program = stack.enter_context(
                running([command, "explorer", *options], log, port, metrics, env=os.environ.copy())
            )
            side.programs.append(program)
        yield side


async def _measure(directory: Path, file: str, url: str, gateways: list[Identity], workloads: int) -> list[Figure]:
    nodes = [gateway.node_id for gateway in gateways]
    with _explorers("SQLite", file, 1, directory) as one, _explorers("PostgreSQL", url, REPLICAS, directory) as other:
        async with contextlib.AsyncExitStack() as stack:
            for side, last in ((one, workloads), (other, workloads * TIMES)):
                side.arrived, _ = await stack.enter_async_context(explorer.waiting(side.ports, nodes, last))
            figures = await _rounds("new workload to its gateway", (one, other), gateways)
            stopping = asyncio.Event()
            listers = [asyncio.create_task(explorer.list_all(side.ports[0][0], stopping)) for side in (one, other)]
            figures += await _rounds("new workload while others list all", (one, other), gateways)
            stopping.set()
            await asyncio.gather(*listers)
            for side in (one, other):
                figures.append(Figure(f"creates, {side.name}", await _creates(side, nodes), "/s"))
        for side in (one, other):
            peak = max(memory(program.pid, "VmHWM") for program in side.programs)
            figures.append(Figure(f"memory of a replica, {side.name}, peak", peak, "MB", MEMORY_LIMIT))
    return figures


@contextlib.asynccontextmanager
async def _user(side: _Side, number: int) -> AsyncIterator[ExplorerClient]:
    """At one replica after the other, mostly not the one where the gateway waits."""
    port = side.ports[number % len(side.ports)][0]
    async with ExplorerClient(f"http://127.0.0.1:{port}", identity=USER, key_id=str(TID)) as client:
        yield client


async def _rounds(what: str, sides: tuple[_Side, _Side], gateways: list[Identity]) -> list[Figure]:
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(ROUNDS):
        for side in sides:
            async with _user(side, number) as client:
                found[side.name] += await latencies(client, gateways, side.arrived)
    sqlite, other = (spread(f"{what}, {side.name}", found[side.name]) for side in sides)
    limits = [SLOWER * figure.value for figure in sqlite]
    # The slowest of a few hundred says more about the machine.
    limited = [Figure(f.name, f.value, f.unit, limit) for f, limit in zip(other[:2], limits, strict=False)]
    return [*sqlite, *limited, *other[2:]]


async def _creates(side: _Side, nodes: list[str]) -> float:
    """Reservations a second, by several users' clients at all replicas."""
    made = 0
    until = time.monotonic() + SECONDS

    async def create(number: int) -> None:
        nonlocal made
        async with _user(side, number) as client:
            for turn in itertools.count():
                if time.monotonic() > until:
                    return
                node = nodes[(number + turn * CREATORS) % len(nodes)]
                workload = Subdomain(
                    workload_id=1, node_id=node, pool_id=1, customer_tid=TID, epoch=int(time.time()),
                    domain=f"more{number}-{turn}.gw.example", ips=("192.0.2.1",),
                )  # fmt: skip
                await client.create_workload(signing.sign_workload(workload, USER))
                made += 1

    await asyncio.gather(*(create(number) for number in range(CREATORS)))
    return made / SECONDS
