"""The proxy against HAProxy, nginx and sniproxy: work divided by the processor time that it took.

Peers take turns in every round, each on one processor, load (wrk) and backend (nginx) on the other; medians over the
rounds. What they do a second is bounded by the load here; what they do with a second of processor time is their own.
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import peers
from tests.bench.peers import HOST, Peer, backend
from tests.bench.processes import Missing, find, pinned
from tests.bench.report import Figure, publish

ROUNDS = 3
SECONDS = 1.2
LOAD, SERVED = 0, 1
"""Processors."""

_REPORT = """
done = function(summary, latency, requests)
  io.write(string.format('\\n{"requests": %d, "bytes": %d, "us": %d, "errors": %d, "p50": %d, "p99": %d}\\n',
    summary.requests, summary.bytes, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.status + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""

WORK: dict[str, tuple[str, str, int, tuple[str, ...], str]] = {
    # name: plane, path, connections, options of wrk, unit
    "TLS bulk": ("tls", "/big", 4, (), "MB"),
    "HTTP bulk": ("http", "/big", 4, (), "MB"),
    "new TLS connections": ("tls", "/", 32, ("-H", "Connection: close"), ""),
    "new HTTP connections": ("http", "/", 64, ("-H", "Connection: close"), ""),
    "keep-alive requests": ("http", "/", 64, (), ""),
}

FLOORS: list[tuple[str, str, float, float]] = [
    # work, peer, floor, goal
    ("TLS bulk", "HAProxy", 1.2, 1.4),
    ("HTTP bulk", "HAProxy", 1.2, 1.4),
    ("TLS bulk", "HAProxy tuned", 1.05, 1.2),
    ("HTTP bulk", "HAProxy tuned", 1.05, 1.2),
    ("new TLS connections", "HAProxy", 0.85, 1.05),
    ("new HTTP connections", "HAProxy tuned", 0.8, 1.0),
    ("keep-alive requests", "HAProxy", 0.95, 1.1),
]


def measure(scale: float) -> bool:
    """All figures. True: every floor is reached."""
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        script = report_script(directory)
        backends = stack.enter_context(backend(directory, LOAD))
        measured, absent = _start(stack, directory, backends)
        figures = _work(measured, script, scale)
        figures += _latency(measured, backends, script, scale)
        figures += _idle(measured, int(peers.IDLE * scale))
        figures += _two_workers(directory, backends, script, scale)
    conditions: dict[str, object] = {"rounds": ROUNDS, "processor": "one each"}
    if absent:
        conditions["not installed"] = ", ".join(absent)
    return publish("proxy", conditions, figures)


def report_script(directory: Path) -> Path:
    """What makes wrk tell its figures as JSON."""
    script = directory / "report.lua"
    script.write_text(_REPORT)
    return script


def _start(stack: contextlib.ExitStack, directory: Path, backends: tuple[int, int]) -> tuple[list[Peer], list[str]]:
    """All that can be started, ours first; what is not installed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (peers.DESCRIPTORS, hard))  # not every program raises its own limit
    makers = [
        lambda: peers.ours(directory, SERVED, backends),
        lambda: peers.haproxy(directory, SERVED, backends, tuned=False),
        lambda: peers.haproxy(directory, SERVED, backends, tuned=True),
        lambda: peers.nginx(directory, SERVED, backends),
        lambda: peers.sniproxy(directory, SERVED, backends),
    ]
    started, absent = [], []
    for make in makers:
        try:
            started.append(stack.enter_context(make()))
        except Missing as error:
            absent.append(str(error))
    return started, absent


def load(
    plane: str, port: int, path: str, connections: int, seconds: float, script: Path, *options: str
) -> dict[str, int]:
    """wrk's figures."""
    scheme = "https" if plane == "tls" else "http"
    command = [find("wrk"), "-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "-s", str(script)]
    command += [*options, f"{scheme}://{HOST}:{port}{path}"]
    done = subprocess.run(pinned(LOAD, command), capture_output=True, text=True, check=True, timeout=120)
    figures: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def rate(peer: Peer, work: str, script: Path, seconds: float) -> float:
    """Work a second of the peer's processor time: megabytes or pieces."""
    plane, path, connections, options, unit = WORK[work]
    before = peer.cpu()
    done = load(plane, getattr(peer, plane), path, connections, seconds, script, *options)
    used = peer.cpu() - before
    if not done["requests"] and not done["bytes"]:
        raise RuntimeError(f"{peer.name} serves no {work}: {done}")
    return (done["bytes"] / 1e6 if unit == "MB" else done["requests"]) / used


def _work(measured: list[Peer], script: Path, scale: float) -> list[Figure]:
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for work in WORK:
            for peer in measured:
                rates.setdefault((work, peer.name), []).append(rate(peer, work, script, SECONDS * scale))
    medians = {key: statistics.median(values) for key, values in rates.items()}
    figures = []
    for (work, peer), value in medians.items():
        unit = WORK[work][4]
        figures.append(Figure(f"{work}, {peer}", value, f"{unit}/cpu s"))
    for work, peer, floor, goal in FLOORS:
        if (work, peer) in medians:
            ratio = medians[work, "ours"] / medians[work, peer]
            figures.append(Figure(f"{work}: ours / {peer}", ratio, "x", floor=floor, goal=goal))
    return figures


def _latency(measured: list[Peer], backends: tuple[int, int], script: Path, scale: float) -> list[Figure]:
    """What a proxy adds to one request after the other on one connection."""
    direct = Peer("", *backends)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for peer in (direct, *measured):
            done = load("http", peer.http, "/", 1, SECONDS * scale, script)
            found.setdefault(peer.name, []).append((done["p50"], done["p99"]))
    figures = []
    for index, title in ((0, "p50"), (1, "p99")):
        base = statistics.median(values[index] for values in found[""])
        for peer in measured:
            value = statistics.median(values[index] for values in found[peer.name])
            figures.append(Figure(f"added latency {title}, {peer.name}", value - base, "us"))
    return figures


def _idle(measured: list[Peer], wanted: int) -> list[Figure]:
    """Memory of connections that have been served once and are silent."""
    count = min(wanted, peers.CONNECTIONS - 50)
    figures = []
    for peer in measured:
        before = peer.memory()
        with _holding(peer.http, count) as served:
            grown = peer.memory() - before
        figures.append(Figure(f"memory a connection, {served} idle, {peer.name}", grown / served / 1024, "KiB"))
    return figures


@contextlib.contextmanager
def _holding(port: int, count: int) -> Iterator[int]:
    """So many connections, each served once; how many were."""
    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    held: list[socket.socket] = []
    served = 0
    try:
        for start in range(0, count, 100):
            batch = []
            for _ in range(min(100, count - start)):
                sock = socket.create_connection(("127.0.0.1", port), 30)
                sock.sendall(request)
                batch.append(sock)
            held += batch
            for sock in batch:
                served += peers.SMALL in sock.recv(4096)
        yield served
    finally:
        for sock in held:
            sock.close()
        time.sleep(1.0)


def _two_workers(directory: Path, backends: tuple[int, int], script: Path, scale: float) -> list[Figure]:
    """On both processors, which they share with the load: what a second of processor time is worth then."""
    figures = []
    with (
        peers.ours(directory, -1, backends) as one,
        peers.ours(directory, -1, backends, workers=2) as two,
    ):
        for work in ("new HTTP connections", "keep-alive requests"):
            rates: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                for peer in (one, two):
                    rates.setdefault(peer.name, []).append(rate(peer, work, script, SECONDS * scale))
            ratio = statistics.median(rates[two.name]) / statistics.median(rates[one.name])
            figures.append(Figure(f"{work}: two workers / one, for their processor time", ratio, "x"))
    return figures
