"""The planes' copy of redis with a million names: to load it, to keep it, and from a write to the served answer.

Redis and planes are real processes, with one worker each. Names are written as the reconciler writes them, by its own
script; an answer is asked for again and again over UDP until it is the new one.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import redis
from tfgateway.reconciler import store
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction
from tfgateway.redis_schema.services import Service, encode_service

from tests.bench.processes import Program, memory, redis_server, running
from tests.bench.report import Figure, publish
from tests.support.ports import free_port

NAMES = 1_000_000
CHANGES = 500
LOOK = 0.0001
"""Seconds between two questions whether a change is served: who asks must not take a core of two away."""
FOREIGN = 5
BURST = 10_000
PATIENCE = 120.0
PROBE = 0.002
ZONE = b"\x03big\x07example\0"


def measure(scale: float) -> bool:
    """True: the limits are kept."""
    count = max(int(NAMES * scale), 3 * BURST)
    figures = []
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as directory, _Node(Path(directory)) as node:
        node.fill_names(count)
        figures += _dns(node, count)
        node.redis.flushall()
        node.fill_services(count)
        figures += _proxy(node)
    return publish("mirror", {"names": count}, figures)


def _dns(node: _Node, count: int) -> list[Figure]:
    with node.plane("dns") as plane:
        ask = _Asker(node.dns_port)
        loaded = plane.served(lambda: ask("n1", 0.02))
        memory = plane.memory()
        writes, own = map(sorted, zip(*_changes(node, ask, count, CHANGES, own=True), strict=True))
        foreign = [answered for _, answered in _changes(node, ask, count, FOREIGN, own=False)]
        burst = _burst(node, ask)
        peak = plane.memory("VmHWM")
        time.sleep(1)
        plane.wait_for_snapshot()
    figures = [
        Figure("cold start until served", loaded, "s", 10, goal=4),
        Figure("memory of a worker, loaded", memory, "MB", 400, goal=250),
        Figure("memory of a worker, peak", peak, "MB"),
        Figure("one name of many, write to answer, p50", statistics.median(own), "ms", 1, goal=0.3),
        Figure("one name of many, write to answer, p99", own[int(len(own) * 0.99)], "ms", 2),
        Figure("of that redis' reply to the write, p50", statistics.median(writes), "ms"),
        Figure("of that redis' reply to the write, p99", writes[int(len(writes) * 0.99)], "ms"),
        Figure("the same by a stranger (zone is read again), median", statistics.median(foreign), "ms"),
        *burst,
    ]
    node.stop_redis()
    with node.plane("dns") as plane:
        ask = _Asker(node.dns_port)
        figures.append(Figure("start from disk, redis away", plane.served(lambda: ask("n1", 0.02)), "s", 10, goal=4))
    node.start_redis()
    return figures


def _changes(node: _Node, ask: _Asker, count: int, times: int, *, own: bool) -> Iterator[tuple[float, float]]:
    """Milliseconds from sending the write to redis' reply, and to having the new answer."""
    for number in range(times):
        name = f"n{(number * 7919) % count}"
        address = bytes((10, int(own), number >> 8, number & 255))
        value = b'{"a":[{"ip":"%s","ttl":3600}]}' % socket.inet_ntoa(address).encode()
        write = (
            node.writing(name, value)
            if own
            else (lambda name=name, value=value: node.redis.hset(node.key, name, value))
        )
        started = time.monotonic()
        write()
        written = time.monotonic()
        while ask(name) != address:
            if time.monotonic() > started + PATIENCE:
                raise RuntimeError(f"{name} is not served")
            time.sleep(LOOK)
        yield (written - started) * 1000, (time.monotonic() - started) * 1000
        time.sleep(0.01)


def _burst(node: _Node, ask: _Asker) -> list[Figure]:
    """Many writes at once, and somebody who asks for something else meanwhile."""
    with node.redis.pipeline(transaction=False) as pipe:
        for number in range(BURST):
            value = b'{"a":[{"ip":"10.9.%d.%d","ttl":3600}]}' % (number >> 8 & 255, number & 255)
            keys, arguments = store._arguments(Transaction((), (Row(node.key.decode(), f"n{number}", value),)), ())
            pipe.evalsha(store._APPLY_SHA, len(keys), *keys, *arguments)
        times: list[float] = []
        done = threading.Event()
        prober = threading.Thread(target=_probe, args=(node.dns_port, times, done))
        prober.start()
        time.sleep(0.5)
        started = time.monotonic()
        pipe.execute()
    last = BURST - 1
    expected = bytes((10, 9, last >> 8 & 255, last & 255))
    while ask(f"n{last}") != expected:
        if time.monotonic() > started + PATIENCE:
            raise RuntimeError("the burst is not served")
    took = time.monotonic() - started
    done.set()
    prober.join()
    lost = sum(1 for one in times if one == float("inf"))
    answered = sorted(one for one in times if one != float("inf"))
    return [
        Figure(f"{BURST} writes at once, all served after", took * 1000, "ms"),
        Figure("meanwhile: queries without answer", lost, "", 1),
        Figure("meanwhile: answers, p99", answered[int(len(answered) * 0.99)], "ms"),
        Figure("meanwhile: slowest answer", answered[-1], "ms"),
    ]


def _probe(port: int, times: list[float], done: threading.Event) -> None:
    ask = _Asker(port)
    while not done.is_set():
        started = time.monotonic()
        answer = ask("n20001", timeout=1.0)
        times.append(float("inf") if answer is None else (time.monotonic() - started) * 1000)
        time.sleep(PROBE)


def _proxy(node: _Node) -> list[Figure]:
    with node.plane("proxy") as plane:
        loaded = plane.served(lambda: socket.create_connection(("127.0.0.1", node.http_port), 1).close() is None)
        return [
            Figure("proxy: cold start with as many services", loaded, "s"),
            Figure("proxy: memory of a worker", plane.memory(), "MB"),
        ]


class _Asker:
    """Asks one server for A records over UDP."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._number = 0

    def __call__(self, label: str, timeout: float = 0.5) -> bytes | None:
        """The address; empty: there is none; None: no answer."""
        self._number = (self._number + 1) % 65536
        text = label.encode()
        query = struct.pack("!HHHHHH", self._number, 0, 1, 0, 0, 0) + bytes([len(text)]) + text + ZONE + b"\0\1\0\1"
        try:
            self._socket.send(query)
            while select.select([self._socket], [], [], timeout)[0]:
                reply = self._socket.recv(4096)
                if reply[:2] == query[:2]:
                    return reply[-4:] if reply[7] else b""
        except ConnectionRefusedError:
            time.sleep(0.01)
        return None


class _Plane:
    """A running plane."""

    def __init__(self, program: Program, snapshot: Path) -> None:
        self._program = program
        self._snapshot = snapshot

    def served(self, serves: Callable[[], object]) -> float:
        """Seconds from its start until ``serves`` holds."""
        self._program.until(serves, pause=0.005)
        return time.monotonic() - self._program.started

    def memory(self, what: str = "VmRSS") -> float:
        """Megabytes of its biggest process: the worker."""
        return max(memory(pid, what) for pid in self._program.family)

    def wait_for_snapshot(self) -> None:
        self._program.until(self._snapshot.exists, "snapshot", pause=0.1)


class _Node:
    """A redis, and the configuration of planes that follow it."""

    key = b"big.example."

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._redis_port = free_port()
        self.dns_port, self.http_port = free_port(), free_port()
        self._config = directory / "gateway.toml"
        self._config.write_text(f"""
redis.url = "redis://127.0.0.1:{self._redis_port}/0"
gateway.name_servers = ["ns1.example"]
[dns]
listen = ["127.0.0.1:{self.dns_port}"]
metrics = "127.0.0.1:{free_port()}"
workers = 1
[proxy]
listen_http = ["127.0.0.1:{self.http_port}"]
listen_tls = []
metrics = "127.0.0.1:{free_port()}"
workers = 1
""")

    def __enter__(self) -> Self:
        self.start_redis()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_redis()

    def start_redis(self) -> None:
        self._redis_server = contextlib.ExitStack()
        self._redis_server.enter_context(redis_server(self._directory, self._redis_port))
        self.redis: Any = self._redis_server.enter_context(redis.Redis(port=self._redis_port, socket_timeout=60))
        self.redis.script_load(store._APPLY)

    def stop_redis(self) -> None:
        self._redis_server.close()

    def fill_names(self, count: int) -> None:
        """Every name with an address of its own."""
        for start in range(0, count, 10_000):
            self.redis.hset(
                self.key,
                mapping={
                    b"n%d" % n: b'{"a":[{"ip":"%d.%d.%d.%d","ttl":3600}]}'
                    % (20 + (n >> 24), n >> 16 & 255, n >> 8 & 255, n & 255)
                    for n in range(start, min(start + 10_000, count))
                },
            )

    def fill_services(self, count: int) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            for n in range(count):
                address = f"{20 + (n >> 24)}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
                domain = f"n{n}.big.example"
                service = Service(addr=address, tlsport=443, httpport=80, user=str(n % 1000))
                pipe.set(f"/tcprouter/service/{domain}", encode_service(domain, service))
                if n % 10_000 == 9_999:
                    pipe.execute()
            pipe.execute()

    def writing(self, name: str, value: bytes) -> Any:
        """The reconciler's transaction, ready to be sent."""
        keys, arguments = store._arguments(Transaction((), (Row(self.key.decode(), name, value),)), ())
        return lambda: self.redis.evalsha(store._APPLY_SHA, len(keys), *keys, *arguments)

    @contextlib.contextmanager
    def plane(self, name: str) -> Iterator[_Plane]:
        state = self._directory / "state"
        state.mkdir(exist_ok=True)
        log = self._directory / f"{name}.log"
        command = [str(Path(sys.executable).with_name("tfgateway")), "--config", str(self._config), name]
        with running(command, log, env={**os.environ, "STATE_DIRECTORY": str(state)}) as program:
            yield _Plane(program, state / f"{name}.snapshot")
