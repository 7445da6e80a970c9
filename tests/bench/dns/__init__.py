"""The DNS plane against NSD, Knot, BIND and PowerDNS: queries a second of processor time, in interleaved rounds.

Each server has one core, the load another. What a server did in a round is divided by the processor time that it took,
so that what else the machine does matters little; the ratio to a peer is made within a round, and the median of the
rounds is told. Cookies, rate limiting and metrics are on wherever a server has them. ``python -m tests.bench.dns`` has
options for rounds, kinds and peers.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from tests.bench.dns import news, questions, servers
from tests.bench.dns.dnsperf import dnsperf
from tests.bench.dns.load import Load
from tests.bench.report import Figure, publish

NAMES = 10_000
MANY_NAMES = 1_000_000
ROUNDS = 5
SECONDS = 0.5
"""Of one server in one round with one kind of queries."""
BOUNDS = {
    ("NSD", "hot names"): (0.85, 1.0),
    ("NSD", "random case"): (0.75, 0.95),
    ("NSD", "EDNS"): (0.75, 0.95),
    ("NSD", "EDNS with cookies"): (0.75, 0.95),
    ("NSD", "NXDOMAIN flood"): (0.75, 0.95),
    ("BIND", "hot names"): (1.2, 1.5),
    ("PowerDNS", "hot names"): (1.05, 1.25),
}
"""(peer, kind) -> floor, goal of the ratio."""
EXTRAS = ("latency", "news", "workers", "dnsperf", "tcp", "million")
TCP_BOUNDS = {"NSD": (0.8, 1.0)}
"""Peer -> floor, goal of the ratio over TCP."""

_console = Console(width=110)


def measure(scale: float) -> bool:
    """Everything; True: the floors are kept."""
    return run(
        rounds=max(1, round(ROUNDS * scale)),
        names=max(100, int(NAMES * scale)),
        many_names=max(1000, int(MANY_NAMES * scale)),
    )


def run(
    *,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    names: int = NAMES,
    many_names: int = MANY_NAMES,
    kinds: Collection[str] = (),
    peers: Collection[str] = tuple(servers.PEERS),
    extras: Collection[str] = EXTRAS,
) -> bool:
    """kinds: of ``questions.KINDS``, none: all; extras: what else is measured."""
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("two cores are needed: one for the server, one for the load")
    affinity = os.sched_getaffinity(0)
    figures: list[Figure] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfgateway-bench-")))
        unix_socket = stack.enter_context(servers.store(directory, names))
        own = stack.enter_context(servers.ours(directory, unix_socket))
        others = [stack.enter_context(servers.peer(name, directory, names)) for name in peers]
        stack.callback(os.sched_setaffinity, 0, affinity)
        os.sched_setaffinity(0, {servers.CORE + 1})
        chosen = [kind for kind in questions.KINDS if not kinds or kind.name in kinds]
        figures += _kinds(chosen, [own, *others], names, rounds, seconds)
        if "dnsperf" in extras:
            figures += _dnsperf(directory, [own, *others], names, rounds)
        if "tcp" in extras:
            figures += _dnsperf(directory, [own, *others], names, rounds, "tcp")
        if "latency" in extras:
            figures += _latency([own, *(other for other in others if other.name == "NSD")], names)
        if "news" in extras:
            figures += news.measure(unix_socket, own.port, names)
        if "workers" in extras:
            figures += _workers(directory, unix_socket, own, names, rounds, seconds)
        if "million" in extras and "NSD" in peers:
            figures += _million(directory, many_names, rounds, seconds)
    conditions = {"names": names, "rounds": rounds, "seconds each": seconds}
    return publish("dns", conditions, figures)


def _per_core(server: servers.Server, load: Load, seconds: float) -> float:
    """Right replies for a second of processor time. Errors: ``RuntimeError``: wrong ones, or losses again and again.

    A run with losses is done over: other processes kept the server from its core.
    """
    for _ in range(5):
        before = server.cpu
        result = load.saturate(seconds)
        if result.wrong:
            raise RuntimeError(f"{server.name}: {result.wrong} wrong replies of those looked at")
        if result.lost <= result.replies / 100:
            return result.replies / (server.cpu - before)
    raise RuntimeError(f"{server.name}: {result.lost} queries lost, {result.replies} answered")


def _compare(
    kind: questions.Kind,
    running: list[servers.Server],
    names: int,
    rounds: int,
    seconds: float,
    prepared: int = questions.PREPARED,
) -> tuple[dict[str, float], dict[str, float]]:
    """Medians: replies a second of processor time of each server; ours to each."""
    queries = kind.queries(names, prepared)
    loads = {server.name: Load(queries, server.port, kind.reply) for server in running}
    for server in running:
        loads[server.name].warm()
    found = defaultdict(list)
    for number in range(rounds):
        for server in running if number % 2 else reversed(running):
            found[server.name].append(_per_core(server, loads[server.name], seconds))
    absolute = {name: statistics.median(values) for name, values in found.items()}
    ours = found[running[0].name]
    ratios = {
        name: statistics.median(mine / theirs for mine, theirs in zip(ours, values, strict=True))
        for name, values in found.items()
    }
    told = ", ".join(f"{name} {value / 1000:.0f}k" for name, value in absolute.items())
    _console.print(f"{kind.name}: {told} replies a second of processor time", highlight=False)
    return absolute, ratios


def _kinds(
    kinds: list[questions.Kind], running: list[servers.Server], names: int, rounds: int, seconds: float
) -> list[Figure]:
    figures = []
    for kind in kinds:
        absolute, ratios = _compare(kind, running, names, rounds, seconds)
        figures.append(Figure(f"{kind.name}: ours", absolute[servers.OURS] / 1000, "k/s of a core"))
        for server in running[1:]:
            floor, goal = BOUNDS.get((server.name, kind.name), (None, None))
            figures.append(
                Figure(f"{kind.name}: against {server.name}", ratios[server.name], "x", floor=floor, goal=goal)
            )
    return figures


def _dnsperf(
    directory: Path, running: list[servers.Server], names: int, rounds: int, mode: str = "udp"
) -> list[Figure]:
    """Hot names, sent by another's generator, from one address: rate limiting has to be answered by its exemption."""
    found = defaultdict(list)
    for _ in range(min(rounds, 3)):
        for server in running:
            before = server.cpu
            found[server.name].append(dnsperf(directory, server.port, names, mode) / (server.cpu - before))
    medians = {name: statistics.median(values) for name, values in found.items()}
    told = ", ".join(f"{name} {value / 1000:.0f}k" for name, value in medians.items())
    _console.print(f"dnsperf over {mode}: {told} replies a second of processor time", highlight=False)
    figures = []
    for server in running[1:]:
        floor, goal = TCP_BOUNDS.get(server.name, (None, None)) if mode == "tcp" else (None, None)
        name = "dnsperf, hot names" if mode == "udp" else "dnsperf, hot names over TCP"
        ratio = medians[running[0].name] / medians[server.name]
        figures.append(Figure(f"{name}: against {server.name}", ratio, "x", floor=floor, goal=goal))
    return figures


def _latency(running: list[servers.Server], names: int) -> list[Figure]:
    """At half of what ours can answer; the same rate for all."""
    kind = questions.KINDS[0]
    queries = kind.queries(names)
    loads = [Load(queries, server.port, kind.reply) for server in running]
    full = loads[0].saturate(1.0)
    rate = full.replies / full.seconds / 2
    figures = []
    for server, load in zip(running, loads, strict=True):
        result = load.at_rate(rate, 2.0)
        latencies = sorted(result.latencies)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            value = latencies[int(len(latencies) * share)] * 1000
            figures.append(Figure(f"latency at {rate / 1000:.0f}k/s, {name}: {server.name}", value, "ms"))
    return figures


def _workers(
    directory: Path, unix_socket: Path, one: servers.Server, names: int, rounds: int, seconds: float
) -> list[Figure]:
    """Two workers against one: what a second of processor time is worth, with the load on the same two cores."""
    with servers.ours(directory, unix_socket, workers=2, name="two workers") as two:
        kind = questions.KINDS[0]
        queries = kind.queries(names)
        loads = [(server, Load(queries, server.port, kind.reply)) for server in (one, two)]
        found = defaultdict(list)
        for server, load in [*loads, *(loads * rounds)]:
            found[server.name].append(_per_core(server, load, seconds))
        ratio = statistics.median(found[two.name][1:]) / statistics.median(found[one.name][1:])
    return [Figure("two workers against one, each core", ratio, "x")]


def _million(directory: Path, names: int, rounds: int, seconds: float) -> list[Figure]:
    """A zone of a million names, asked for all of them alike: no answer is hot."""
    with servers.store(directory, names) as unix_socket, servers.ours(directory, unix_socket) as own:
        figures = [
            Figure("1M names: processor time until ready, all processes", own.cpu, "s", limit=10),
            Figure("1M names: ready after", own.started, "s"),
            Figure("1M names: memory, all processes", own.memory, "MB"),
        ]
        with servers.peer("NSD", directory, names) as other:
            _, ratios = _compare(questions.KINDS[0], [own, other], names, rounds, seconds, questions.PREPARED_FOR_MANY)
            figures.append(Figure("1M names, all alike: against NSD", ratios[other.name], "x"))
            figures += news.measure(unix_socket, own.port, names, title="1M names: ", foreign=False)
    return figures
