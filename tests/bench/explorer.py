"""The explorer with a million workloads and thousands of gateways that wait: how soon does a gateway hear of a new one?

The explorer is the real process on the disk that ``TMPDIR`` names; gateways and users are one process beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
from tfgateway.explorer import signing, wire
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import (
    Farm,
    Gateway,
    NextAction,
    Pool,
    Result,
    ResultState,
    SigningRequest,
    Subdomain,
    User,
    Workload,
    gwid,
)
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.identity.keys import Identity

from tests.bench.processes import memory, running
from tests.bench.report import Figure, publish
from tests.support.ports import free_port

WORKLOADS = 1_000_000
GATEWAYS = 1_000
THOUSANDS = 5_000
DESCRIPTORS = 500
"""Besides those of the gateways' connections, for each of the two processes."""
CREATED = 200
WAIT = 60
LATENCY_LIMIT = 100.0  # ms
MEMORY_LIMIT = 300.0  # MB

USER = Identity.from_seed(bytes(range(0x20, 0x40)))
TID = 1
OTHER_TIDS = range(2, 1002)
"""Who the workloads that are there already belong to."""


def measure(scale: float) -> bool:
    """Fill, run, print. True: the limits are kept."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = max(int(GATEWAYS * scale), 2)
    many = max(min(int(THOUSANDS * scale), soft - DESCRIPTORS), few)
    gateways = [Identity.from_seed(number.to_bytes(32, "big")) for number in range(1, many + 1)]
    workloads = max(int(WORKLOADS * scale), many)
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as directory:
        database = Path(directory) / "explorer.sqlite"
        started = time.monotonic()
        asyncio.run(_fill(database, [gateway.node_id for gateway in gateways], workloads))
        written = time.monotonic() - started
        figures = asyncio.run(_measure(database, gateways[:few], workloads, _run))
        figures += asyncio.run(_measure(database, gateways, workloads, _run_thousands))
        size = database.stat().st_size / 2**20
    conditions = {"workloads": workloads, "gateways waiting": f"{few}, then {many}", "database MB": round(size)}
    conditions["seconds to fill"] = round(written)
    return publish("explorer", conditions, figures)


async def _fill(path: Path, nodes: list[str], workloads: int) -> None:
    """What a long life would have written, straight into the tables."""
    database = Database(SqliteEngine(path))
    await database.open()
    await database.close()
    users = [User(id=TID, name="bench", email="bench@example.com", pubkey=USER.public_key.hex())]
    users += [User(id=tid, name=f"user{tid}", email=f"{tid}@example.com", pubkey="00" * 32) for tid in OTHER_TIDS]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(
            "INSERT INTO user VALUES (?, ?, ?, ?)", [(u.id, u.name, u.email, encoded(u)) for u in users]
        )
        connection.execute(
            "INSERT INTO farm VALUES (1, 'bench', 1, ?)", (encoded(Farm(id=1, name="bench", threebot_id=1)),)
        )
        entries = [Gateway(id=number, node_id=node, farm_id=1) for number, node in enumerate(nodes, 1)]
        connection.executemany(
            "INSERT INTO gateway VALUES (?, ?, 1, '', '', ?)", [(e.id, e.node_id, encoded(e)) for e in entries]
        )
        for start in range(0, len(nodes), GATEWAYS):
            some = tuple(nodes[start : start + GATEWAYS])
            reserved = Pool(pool_id=pool(start), node_ids=some, customer_tid=TID, empty_at=2**63 - 1)
            connection.execute("INSERT INTO pool VALUES (?, ?, ?)", (reserved.pool_id, TID, encoded(reserved)))
        rows = (
            (w.id, w.node_id, w.customer_tid, w.pool_id, w.workload_type, w.next_action, 1, encoded(w))
            for w in deployed(nodes, workloads)
        )
        connection.executemany("INSERT INTO workload VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()


def pool(number: int) -> int:
    """Of the gateway with this number, from 0."""
    return number // GATEWAYS + 1


def deployed(nodes: list[str], count: int) -> Iterator[Workload]:
    for number in range(1, count + 1):
        node, tid = nodes[number % len(nodes)], OTHER_TIDS[number % len(OTHER_TIDS)]
        yield Subdomain(
            id=number,
            workload_id=1,
            node_id=node,
            pool_id=1,
            customer_tid=tid,
            customer_signature="00" * 64,
            next_action=NextAction.DEPLOY,
            signing_request_delete=SigningRequest(signers=(tid,), quorum_min=1),
            epoch=1611000000,
            version=2,
            domain=f"host{number}.gw.example",
            ips=("192.0.2.1",),
            result=Result(
                category=7, workload_id=f"{number}-1", signature="00" * 64, state=1, epoch=1611000000, node_id=node
            ),
        )


def encoded(value: object) -> bytes:
    return wire.encode(value)


_Run = Callable[[int, int, int, ExplorerClient, list[Identity], int], Awaitable[list[Figure]]]


async def _measure(database: Path, gateways: list[Identity], workloads: int, run: _Run) -> list[Figure]:
    port, metrics = free_port(), free_port()
    command = [
        str(Path(sys.executable).with_name("tfgateway")),
        "explorer",
        f"--listen=127.0.0.1:{port}",
        f"--metrics=127.0.0.1:{metrics}",
    ]
    with running([*command, f"--database={database}"], database.parent / "log", port, metrics) as program:
        async with ExplorerClient(f"http://127.0.0.1:{port}", identity=USER, key_id=str(TID)) as client:
            return await run(port, metrics, program.pid, client, gateways, workloads)


async def _run(
    port: int, metrics: int, pid: int, client: ExplorerClient, gateways: list[Identity], last: int
) -> list[Figure]:
    async with waiting([(port, metrics)], [gateway.node_id for gateway in gateways], last) as (arrived, started):
        figures = [Figure("all gateways wait after", started * 1000, "ms")]
        resting = memory(pid, "VmRSS")
        quiet = await latencies(client, gateways, arrived)
        figures += spread("new workload to its gateway", quiet)
        for name, path in {
            "list of a user": "/reservations/workloads?customer_tid=7&size=100",
            "list of all, first page": "/reservations/workloads?size=100",
            "list by state": "/reservations/workloads?next_action=4",
            "list by type": "/reservations/workloads?workload_type=8",
            "first page of a gateway": f"/reservations/nodes/{gateways[0].node_id}/workloads?from=0",
        }.items():
            figures.append(Figure(name, await _timed(port, path), "ms"))
        stopping = asyncio.Event()
        lister = asyncio.create_task(list_all(port, stopping))
        busy = await latencies(client, gateways, arrived)
        stopping.set()
        figures += spread("new workload while others list all", busy)
        await lister
    peak = memory(pid, "VmHWM")
    return [
        *figures,
        Figure("memory of the explorer, resting", resting, "MB", MEMORY_LIMIT),
        Figure("memory of the explorer, peak", peak, "MB", MEMORY_LIMIT),
    ]


async def _run_thousands(
    port: int, metrics: int, pid: int, client: ExplorerClient, gateways: list[Identity], last: int
) -> list[Figure]:
    count = len(gateways)
    async with waiting([(port, metrics)], [gateway.node_id for gateway in gateways], last) as (arrived, started):
        figures = [Figure(f"all {count} gateways wait after", started * 1000, "ms")]
        figures += spread(f"new workload among {count} gateways", await latencies(client, gateways, arrived))
    return [*figures, Figure(f"memory with {count} gateways, peak", memory(pid, "VmHWM"), "MB", MEMORY_LIMIT)]


def spread(name: str, seconds: list[float]) -> list[Figure]:
    ordered = sorted(second * 1000 for second in seconds)
    return [
        Figure(f"{name}, median", statistics.median(ordered), "ms", LATENCY_LIMIT),
        Figure(f"{name}, 99 %", ordered[int(len(ordered) * 0.99)], "ms", LATENCY_LIMIT),
        Figure(f"{name}, slowest", ordered[-1], "ms"),
    ]


async def latencies(
    client: ExplorerClient, gateways: list[Identity], arrived: dict[int, asyncio.Future[float]]
) -> list[float]:
    """Seconds from the user's request to the gateway's answer in hand, for one workload after the other."""
    found = []
    for number in range(CREATED):
        chosen = random.randrange(len(gateways))
        gateway = gateways[chosen]
        workload = Subdomain(
            workload_id=1,
            node_id=gateway.node_id,
            pool_id=pool(chosen),
            customer_tid=TID,
            epoch=int(time.time()),
            domain=f"new{number}.gw.example",
            ips=("192.0.2.1",),
        )
        signed = signing.sign_workload(workload, USER)
        started = time.monotonic()
        made = msgspec.structs.replace(signed, id=await client.create_workload(signed))
        async with asyncio.timeout(30):
            found.append(await arrived.setdefault(made.id, asyncio.Future()) - started)
        await _acknowledge(client, gateway, made)
    return found


async def _acknowledge(client: ExplorerClient, gateway: Identity, workload: Workload) -> None:
    signature = signing.sign_result(ResultState.OK, "", b"null", gateway)
    result = Result(state=ResultState.OK, signature=signature)
    url = client._base
    async with ExplorerClient(url, identity=gateway, key_id=gateway.node_id) as own:
        await own.put_result(gateway.node_id, gwid(workload), result)


@contextlib.asynccontextmanager
async def waiting(
    ports: list[tuple[int, int]], nodes: list[str], last: int
) -> AsyncIterator[tuple[dict[int, asyncio.Future[float]], float]]:
    """Every node polls and waits, over and over; when a workload arrived, and how long all took to begin to wait.

    ports: of each explorer and its metrics; the nodes are spread over them.
    """
    arrived: dict[int, asyncio.Future[float]] = {}

    async def gateway(node: str, port: int) -> None:
        start = last + 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            for found in await _get(reader, writer, f"/reservations/nodes/{node}/workloads?from={start}&wait={WAIT}"):
                future = arrived.setdefault(found["id"], asyncio.Future())
                if not future.done():
                    future.set_result(time.monotonic())
                start = max(start, found["id"] + 1)

    started = time.monotonic()
    tasks = [asyncio.create_task(gateway(node, ports[i % len(ports)][0])) for i, node in enumerate(nodes)]
    gauge = "tfgateway_explorer_polls_waiting"
    while sum([await _gauge(metrics, gauge) for _, metrics in ports]) < len(nodes):  # noqa: ASYNC110 - others
        await asyncio.sleep(0.05)
    yield arrived, time.monotonic() - started
    for task in tasks:
        task.cancel()
    failed = [
        result
        for result in await asyncio.gather(*tasks, return_exceptions=True)
        if type(result) is not asyncio.CancelledError
    ]
    if failed:
        raise RuntimeError(f"{len(failed)} gateways failed: {failed[0]!r}")


async def list_all(port: int, stopping: asyncio.Event) -> None:
    """Somebody with a browser."""
    while not stopping.is_set():
        await _timed(port, "/reservations/workloads?size=1000&page=500")


async def _timed(port: int, path: str) -> float:
    """Milliseconds of one GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()
    await _get(reader, writer, path)
    writer.close()
    return (time.monotonic() - started) * 1000


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> list[dict[str, int]]:
    writer.write(f"GET /api/v1{path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    if not head.startswith("HTTP/1.1 200 "):
        raise RuntimeError(f"GET {path}: {head.splitlines()[0]}")
    length = re.search(r"(?i)content-length: (\d+)", head)
    body = await (reader.readexactly(int(length[1])) if length else _chunks(reader))
    found: list[dict[str, int]] = json.loads(body)
    return found


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks (RFC 9112 §7.1), as long lists have."""
    body = bytearray()
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return bytes(body)


async def _gauge(port: int, name: str) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    return float(page.partition(f"\n{name} ")[2].partition("\n")[0])
