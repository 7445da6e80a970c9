"""Tunnels over a long line: what they carry beside one plain TCP connection, and how much memory they take for it.

The line (``tests.support.long_line``) has a delay and a rate; its buffer holds twice what is on its way. All take turns
in every round, each alone on a line of its own; figures are medians. Go's is hashicorp's yamux, whose windows do not
grow: beside it ours is measured in the direction where ours receives.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tfgateway.tunnel.session.limits import SessionLimits

from tests.bench.processes import memory, pinned, running
from tests.bench.report import Figure, publish
from tests.bench.tunnel import HOST, LOAD, PATIENCE, our_client, our_server, their_client, their_server, visit
from tests.interop import peer as go
from tests.support.ports import free_port

ROUNDS = 3
DELAY = 0.05
"""Seconds one way."""
RATE = 40_000_000
"""Octets a second."""
BUFFER = round(2 * DELAY * RATE) * 2
OCTETS = 100_000_000
STREAMS = 16
MANY = 1000
MANY_OCTETS = 300_000


def measure(scale: float) -> bool:
    """All figures. True: every floor is reached."""
    os.sched_setaffinity(0, {LOAD})
    octets = int(OCTETS * scale)
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        source = free_port()
        command = [sys.executable, "-m", "tests.bench.tunnel_source", str(source)]
        stack.enter_context(running(pinned(LOAD, command), directory / "source.log", source))
        plain = stack.enter_context(_line(directory, source))
        ours = stack.enter_context(our_server(_made(directory / "ours")))
        stack.enter_context(
            our_client(directory / "ours", ours, stack.enter_context(_line(directory, ours.tunnels)), source)
        )
        works: dict[str, Callable[[], float]] = {
            "plain TCP, down": lambda: _down(plain, 1, octets),
            "plain TCP, up": lambda: _up(plain, octets),
            "one stream, down, ours/ours": lambda: _down(ours.visitors, 1, octets),
            "one stream, up, ours/ours": lambda: _up(ours.visitors, octets),
            f"{STREAMS} streams, down, ours/ours": lambda: _down(ours.visitors, STREAMS, octets // STREAMS),
        }
        if not go.missing():
            mixed = stack.enter_context(our_server(_made(directory / "mixed")))
            there = stack.enter_context(_line(directory, mixed.tunnels))
            stack.enter_context(their_client(directory / "mixed", mixed, there, source))
            theirs = stack.enter_context(their_server(directory))
            there = stack.enter_context(_line(directory, theirs.tunnels))
            stack.enter_context(our_client(directory, theirs, there, source))
            works["one stream, down, Go's client, our server"] = lambda: _down(mixed.visitors, 1, octets)
            works["one stream, up, our client, Go's server"] = lambda: _up(theirs.visitors, octets)
        rates: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                rates[name].append(work())
        medians = {name: statistics.median(values) for name, values in rates.items()}
        figures = [
            Figure(
                name,
                value,
                "MB/s",
                floor=15 if name.startswith("one") else None,
                goal=30 if name.startswith("one") else None,
            )
            for name, value in medians.items()
        ]
        ratio = medians[f"{STREAMS} streams, down, ours/ours"] / medians["plain TCP, down"]
        figures.append(Figure(f"{STREAMS} streams, down: ours / plain TCP", ratio, "x", floor=0.9))
        figures += _memory(ours.visitors, {"server": max(ours.server), "client": ours.client[0]})
    conditions: dict[str, object] = {
        "rounds": ROUNDS,
        "round trip": f"{2 * DELAY * 1000:.0f} ms",
        "line": f"{RATE / 1e6:.0f} MB/s",
    }
    if go.missing():
        conditions["not compared"] = go.missing()
    return publish("tunnel_distance", conditions, figures)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@contextlib.contextmanager
def _line(directory: Path, target: int) -> Iterator[int]:
    """The port of a line to ``target``."""
    port = free_port()
    arguments = [str(port), str(target), str(DELAY), str(RATE), str(BUFFER)]
    command = pinned(LOAD, [sys.executable, "-m", "tests.support.long_line", *arguments])
    log = directory / f"line-{port}.log"
    with running(command, log) as line:
        line.until(lambda: "listening" in log.read_text(), "listener")  # to connect would be one client for the target
        yield port


def _down(port: int, visitors: int, octets: int) -> float:
    """MB/s of so many visitors at once, each of whom asks for so many octets."""
    began = time.perf_counter()
    visit(port, visitors, octets, visitors)
    return visitors * octets / 1e6 / (time.perf_counter() - began)


def _up(port: int, octets: int) -> float:
    """MB/s of one visitor who sends."""
    began = time.perf_counter()
    chunk = memoryview(bytes(1 << 20))
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(f"POST /{octets} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        left = octets
        while left:
            left -= sock.send(chunk[: min(left, len(chunk))])
        if sock.recv(1) != b".":
            raise RuntimeError("less than was sent has arrived")
    return octets / 1e6 / (time.perf_counter() - began)


def _memory(port: int, processes: dict[str, int]) -> list[Figure]:
    """What so many visitors at once take at most, as a share of what the limits allow."""
    limits = SessionLimits()
    before = {part: memory(pid, "VmRSS") for part, pid in processes.items()}
    most = dict(before)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for part, pid in processes.items():
                most[part] = max(most[part], memory(pid, "VmRSS"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        visit(port, MANY, MANY_OCTETS, MANY)
    finally:
        over.set()
        watcher.join()
    allowed = (limits.buffered + limits.windows) / (1 << 20)
    return [
        Figure(
            f"{MANY} streams, memory, {part}: used / allowed ({allowed:.0f} MB)",
            (most[part] - before[part]) / allowed,
            "x",
            limit=1.1,
        )
        for part in processes
    ]
