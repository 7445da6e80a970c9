"""The reconciler with a hundred thousand reservations: first convergence, rest, and one new one among them.

Reconciler and redis are real processes; the explorer is a small one of this script that holds polls back as ours does,
so that the time from its answer to redis is the reconciler's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from redis.asyncio import Redis
from tfgateway.explorer import wire
from tfgateway.explorer.models import NextAction, Subdomain, Workload
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity

from tests.bench.processes import Program, memory, redis_server, running
from tests.bench.report import Figure, publish
from tests.ports import free_port

RESERVATIONS = 100_000
FEW = 100
NEW = 20
PAGE = 200
REST = 20.0
PATIENCE = 600.0
IDENTITY = Identity.from_seed(bytes(range(32)))


def measure(scale: float) -> bool:
    """Both sizes, one after the other. True: the limits are kept."""
    count = max(int(RESERVATIONS * scale), FEW)
    few = asyncio.run(_run(FEW))
    many = asyncio.run(_run(count))
    figures = [
        Figure("first convergence", many["converged"], "s", 60),
        Figure("memory, peak", many["peak"], "MB", 300),
        Figure("memory at 100, peak", few["peak"], "MB"),
        Figure("processor at rest", many["rest"], "%"),
        Figure("processor at rest, 100 reservations", few["rest"], "%"),
        Figure("polls without news, a second", many["polls"], "/s"),
        Figure("new reservation in redis after the answer, median", many["median"], "ms", 50),
        Figure("new reservation in redis after the answer, slowest", many["slowest"], "ms"),
        Figure("the same among 100, median", few["median"], "ms", 50),
    ]
    return publish("reconciler", {"reservations": count}, figures)


class Explorer:
    """Lists, holds polls back until ``add``, takes every answer."""

    def __init__(self, count: int) -> None:
        self.bodies = [wire.encode(_workload(number)) for number in range(1, count + 1)]
        self.answered = 0.0
        self.polls = 0
        self._news = asyncio.Event()

    def add(self) -> str:
        """One more reservation; its name."""
        number = len(self.bodies) + 1
        self.bodies.append(wire.encode(_workload(number)))
        self._news.set()
        return f"n{number}"

    async def poll(self, request: web.Request) -> web.Response:
        start = max(int(request.query["from"]), 1)
        self.polls += 1
        self._news.clear()
        if start > len(self.bodies) and (wait := float(request.query.get("wait", "0"))):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
        page = self.bodies[start - 1 : start - 1 + PAGE]
        self.answered = time.monotonic()
        last = start - 1 + len(page) if page else len(self.bodies)
        return web.Response(body=b"[" + b",".join(page) + b"]", headers={"x-last-id": str(last)})

    async def anything(self, request: web.Request) -> web.Response:
        await request.read()
        created = request.method == "PUT" or request.path.endswith("/gateways")
        return web.Response(status=201 if created else 200, body=b"null")


def _workload(number: int) -> Workload:
    return Subdomain(
        id=number,
        workload_id=1,
        node_id=IDENTITY.node_id,
        pool_id=1,
        customer_tid=number % 1000 + 1,
        customer_signature="00" * 64,
        next_action=NextAction.DEPLOY,
        epoch=1611000000,
        version=2,
        domain=f"n{number}.gw1.example",
        ips=("203.0.113.5",),
    )


async def _run(count: int) -> dict[str, float]:
    explorer = Explorer(count)
    app = web.Application()
    app.router.add_get("/api/v1/reservations/nodes/{node}/workloads", explorer.poll)
    app.router.add_route("*", "/{rest:.*}", explorer.anything)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as directory:
            async with _processes(Path(directory), f"http://127.0.0.1:{port}") as (redis, program):
                return await _figures(explorer, redis, program, count)
    finally:
        await runner.cleanup()


async def _figures(explorer: Explorer, redis: Redis, program: Program, count: int) -> dict[str, float]:
    started = time.monotonic()
    await _until(redis, program, count)
    converged = time.monotonic() - started
    while await redis.hlen("tfgateway:outbox"):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.5)
    ticks, polls, began = _ticks(program.pid), explorer.polls, time.monotonic()
    await asyncio.sleep(REST)
    took = time.monotonic() - began
    figures = {
        "converged": converged,
        "rest": (_ticks(program.pid) - ticks) / took,
        "polls": (explorer.polls - polls) / took,
    }
    seconds = []
    for _ in range(NEW):
        before, name = explorer.answered, explorer.add()
        while await redis.hget("gw1.example.", name) is None or explorer.answered == before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        seconds.append(time.monotonic() - explorer.answered)
        await asyncio.sleep(0.5)
    figures["median"] = statistics.median(seconds) * 1000
    figures["slowest"] = max(seconds) * 1000
    figures["peak"] = memory(program.pid, "VmHWM")
    return figures


@contextlib.asynccontextmanager
async def _processes(directory: Path, url: str) -> AsyncIterator[tuple[Redis, Program]]:
    port = free_port()
    seed, config = directory / "identity.seed", directory / "gateway.toml"
    seedfile.create(seed, bytes(range(32)))
    config.write_text(f"""
identity.seed = "{seed}"
redis.url = "redis://127.0.0.1:{port}/0"
explorer.url = "{url}"
gateway.managed_domains = ["gw1.example"]
gateway.geoip = ""
reconciler.max_reservations_per_user = 1000000
reconciler.metrics = "127.0.0.1:{free_port()}"
""")
    command = [str(Path(sys.executable).with_name("tfgateway")), "--config", str(config), "reconcile"]
    # To wait for redis holds up this script's explorer, which nobody asks yet.
    with redis_server(directory, port), running(command, directory / "reconciler.log") as program:
        async with Redis(host="127.0.0.1", port=port) as redis:
            yield redis, program


async def _until(redis: Redis, program: Program, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if await redis.hlen("tfgateway_reservations") >= count:
                return
        program.check()
        await asyncio.sleep(0.05)
    raise RuntimeError(f"not converged in {PATIENCE:g} s")


def _ticks(pid: int) -> float:
    """Hundredths of a second on the processor so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return float(fields[11]) + float(fields[12])
