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
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from redis.asyncio import Redis
from tfgateway.explorer import wire
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import NextAction, Subdomain, Workload
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.explorer_side.poller import Poller

from tests.bench.processes import Program, memory, redis_server, running
from tests.bench.report import Figure, publish
from tests.support import procfs
from tests.support.ports import free_port

RESERVATIONS = 100_000
FEW = 100
NEW = 200
PAUSE = 0.2
POLLS = 200
ROUNDS = 5
PAGE = 200
REST = 20.0
PATIENCE = 600.0
IDENTITY = Identity.from_seed(bytes(range(32)))


@dataclass(frozen=True, slots=True)
class _Measured:
    """Of one reconciler: seconds, megabytes, percent of a processor, polls a second, and seconds of each new one."""

    converged: float
    peak: float
    rest: float
    polls: float
    new: list[float]


def measure(scale: float) -> bool:
    """Both sizes, one after the other. True: the limits are kept."""
    count = max(int(RESERVATIONS * scale), FEW)
    few = asyncio.run(_run(FEW))
    many = asyncio.run(_run(count))
    poll = asyncio.run(_polls((FEW, count)))
    figures = [
        Figure("first convergence", many.converged, "s", 60),
        Figure("memory, peak", many.peak, "MB", 300),
        Figure("memory at 100, peak", few.peak, "MB"),
        Figure("processor at rest", many.rest, "%"),
        Figure("processor at rest, 100 reservations", few.rest, "%"),
        Figure("polls without news, a second", many.polls, "/s"),
        Figure("a poll without news, processor", poll[count], "ms"),
        Figure("a poll without news, processor, 100 reservations", poll[FEW], "ms"),
        Figure("a poll without news, against 100 reservations", poll[count] / poll[FEW], "times", 1.2),
        *_spread("new reservation in redis after the answer", many.new),
        *_spread("the same among 100", few.new),
    ]
    return publish("reconciler", {"reservations": count}, figures)


def _spread(name: str, seconds: list[float]) -> list[Figure]:
    ordered = sorted(second * 1000 for second in seconds)
    return [
        Figure(f"{name}, median", statistics.median(ordered), "ms", 50),
        # What comes in the middle of a complete look at redis waits for its end.
        Figure(f"{name}, 90 %", ordered[int(len(ordered) * 0.9)], "ms"),
        Figure(f"{name}, 99 %", ordered[int(len(ordered) * 0.99)], "ms"),
    ]


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


async def _run(count: int) -> _Measured:
    explorer = Explorer(count)
    async with _served(explorer) as url:
        with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as directory:
            async with _processes(Path(directory), url) as (redis, program):
                return await _figures(explorer, redis, program, count)


@contextlib.asynccontextmanager
async def _served(explorer: Explorer) -> AsyncIterator[str]:
    """Its URL."""
    app = web.Application()
    app.router.add_get("/api/v1/reservations/nodes/{node}/workloads", explorer.poll)
    app.router.add_route("*", "/{rest:.*}", explorer.anything)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def _polls(counts: tuple[int, ...]) -> dict[int, float]:
    """Milliseconds on the processor of a poll without news and its answer, by number of reservations.

    In this process: in the reconciler's own, the looks at redis would hide it.
    """
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    async with contextlib.AsyncExitStack() as stack:
        followers = {}
        for count in counts:
            url = await stack.enter_async_context(_served(Explorer(count)))
            client = await stack.enter_async_context(ExplorerClient(url))
            followers[count] = Poller(client, IDENTITY.node_id, 3600, time.monotonic)
            await followers[count].poll()
        for _ in range(ROUNDS):  # in turns: what else the machine does meets all alike
            for count, poller in followers.items():
                began = time.process_time()
                for _ in range(POLLS):
                    if await poller.poll():
                        raise RuntimeError("there was news")
                seconds[count].append((time.process_time() - began) / POLLS)
    return {count: statistics.median(rounds) * 1000 for count, rounds in seconds.items()}


async def _figures(explorer: Explorer, redis: Redis, program: Program, count: int) -> _Measured:
    started = time.monotonic()
    await _until(redis, program, count)
    converged = time.monotonic() - started
    while await redis.hlen("tfgateway:outbox"):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.5)
    ticks, polls, began = _ticks(program.pid), explorer.polls, time.monotonic()
    await asyncio.sleep(REST)
    took = time.monotonic() - began
    rest = (_ticks(program.pid) - ticks) / took
    polls_a_second = (explorer.polls - polls) / took
    seconds = []
    for _ in range(NEW):
        before, name = explorer.answered, explorer.add()
        while await redis.hget("gw1.example.", name) is None or explorer.answered == before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        seconds.append(time.monotonic() - explorer.answered)
        await asyncio.sleep(PAUSE)
    return _Measured(converged, memory(program.pid, "VmHWM"), rest, polls_a_second, seconds)


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
    fields = procfs.fields(pid)
    return float(fields[11]) + float(fields[12])
