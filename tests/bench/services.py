"""The proxy with a million services in redis: how long it takes to know them, what they weigh, what a lookup costs."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from pathlib import Path

from tfgateway.redis_schema.services import Service

from tests.bench import peers
from tests.bench.processes import memory, redis_server
from tests.bench.proxy import LOAD, ROUNDS, SERVED, rate, report_script
from tests.bench.report import Figure, publish
from tests.support.ports import free_port

SERVICES = 1_000_000
SECONDS = 1.2


def measure(scale: float) -> bool:
    """True: the limits are kept."""
    count = max(1, int(SERVICES * scale))
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        script = report_script(directory)
        backends = stack.enter_context(peers.backend(directory, LOAD))
        redis = free_port()
        stack.enter_context(redis_server(directory, redis))
        few = stack.enter_context(peers.ours(directory, SERVED, backends))
        peers.put_services(redis, ((f"s{number}.users.example", _service(number)) for number in range(count)))
        started = time.monotonic()
        many = stack.enter_context(peers.ours(directory, SERVED, backends, redis=redis))
        ready = time.monotonic() - started
        weight = max(many.memory_of_each()) - max(few.memory_of_each())
        rates: dict[str, list[float]] = {"few": [], "many": []}
        for _ in range(ROUNDS):
            for title, peer in (("few", few), ("many", many)):
                rates[title].append(rate(peer, "new HTTP connections", script, SECONDS * scale))
        ratio = statistics.median(rates["many"]) / statistics.median(rates["few"])
        peak = max(memory(pid, "VmHWM") for pid in many.processes)
    figures = [
        Figure("from start to the first visitor", ready, "s"),
        Figure("memory of a worker for them", weight / 1e6, "MB"),
        Figure("memory of a worker, peak", peak, "MB"),
        Figure("new HTTP connections: with many services / with one", ratio, "x", floor=0.8),
    ]
    return publish("services", {"services": count}, figures)


def _service(number: int) -> Service:
    address = f"203.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Service(address, "", 443, 80, str(number % 1000))
