"""How long an honest client of the explorer waits under the worst requests that need no account; what memory they take.

The explorer is the real process. Rounds with and without an attack take turns on the same process, so that what else
the machine does is in both. The ratio of the slowest answers is a figure without a limit: it depends on the machine.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import multiprocessing
import socket
import sqlite3
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tfgateway.explorer import signing, wire
from tfgateway.explorer.models import Gateway, Workload
from tfgateway.identity.keys import Identity

from tests.bench.processes import memory, running
from tests.bench.report import Figure, publish
from tests.support.ports import free_port

ROUNDS = 3
ASKED = 100
"""Honest requests of one round."""
ATTACKERS = 3
"""Connections that send requests one after the other; those that are left open are 40 or more."""
MEMORY_LIMIT = 64.0  # MB above rest
PATIENCE = 120.0
ATTACKER = ("127.0.0.2", 0)
"""Not the address of the honest client: who is behind the same address shares its part."""

NODE = Identity.from_seed(bytes(range(0x20)))
_ITEM = b"X: " + b"a" * 8000 + b"\r\n"


def measure(scale: float) -> bool:
    """Run each attack, print. True: the limits are kept."""
    asked = max(int(ASKED * scale), 10)
    figures = []
    for name, attack in ATTACKS.items():
        with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as directory:
            figures += _measure(Path(directory), name, attack, asked)
    return publish("hostile", {"rounds": ROUNDS, "requests": asked, "attackers": ATTACKERS}, figures)


def _measure(directory: Path, name: str, attack: Callable[[int], None], asked: int) -> list[Figure]:
    port, database = free_port(), directory / "explorer.sqlite"
    command = [str(Path(sys.executable).with_name("tfgateway")), "explorer", f"--listen=127.0.0.1:{port}"]
    with running([*command, f"--database={database}"], directory / "log", port) as program:
        _fill(database)
        _ask(port, asked)
        rest = memory(program.pid, "VmRSS")
        quiet, attacked = 0.0, 0.0
        for _ in range(ROUNDS):
            quiet = max(quiet, _ask(port, asked))
            with _attacking(attack, port):
                attacked = max(attacked, _ask(port, asked))
        _ask(port, 1)
        return [
            Figure(f"{name}: slowest answer, of that without", attacked / quiet, "x"),
            Figure(f"{name}: slowest answer", attacked * 1000, "ms"),
            Figure(f"{name}: peak above rest", memory(program.pid, "VmHWM") - rest, "MB", MEMORY_LIMIT),
            Figure(f"{name}: kept above rest", memory(program.pid, "VmRSS") - rest, "MB"),
        ]


def _fill(path: Path) -> None:
    gateway = Gateway(id=1, node_id=NODE.node_id, farm_id=1, public_key_hex=NODE.public_key.hex())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO farm VALUES (1, 'bench', 1, x'7b7d')")
        connection.execute("INSERT INTO gateway VALUES (1, ?, 1, '', '', ?)", (NODE.node_id, wire.encode(gateway)))
        for number in range(1, 401):
            body = wire.encode(Workload(id=number, workload_id=1, node_id=NODE.node_id, description="x" * 60_000))
            connection.execute("INSERT INTO workload VALUES (?, ?, 7, 1, 7, 3, 1, ?)", (number, NODE.node_id, body))
        connection.commit()


def _ask(port: int, count: int) -> float:
    """Seconds of the slowest of ``count`` honest requests, of which every other one is a heartbeat."""
    slowest = 0.0
    for number in range(count):
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        if number % 2:
            body = b'{"uptime":1}\n'
            headers = signing.request_headers(NODE, NODE.node_id, int(time.time()), body)
            connection.request("POST", f"/api/v1/gateways/{NODE.node_id}/uptime", body, headers)
        else:
            connection.request("GET", "/api/v1/farms")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"an honest request is answered with {answer.status}")
        slowest = max(slowest, time.monotonic() - started)
    return slowest


@contextlib.contextmanager
def _attacking(attack: Callable[[int], None], port: int) -> Iterator[None]:
    """The attack runs, in processes of its own, for as long as the context lasts."""
    processes = [multiprocessing.Process(target=attack, args=(port,), daemon=True) for _ in range(ATTACKERS)]
    for process in processes:
        process.start()
    time.sleep(0.5)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE, ATTACKER)


def _again(port: int, request: Callable[[], bytes]) -> None:
    """One request after the other, each answered before the next."""
    while True:
        with (
            contextlib.suppress(OSError),
            _connect(port) as connection,
        ):
            connection.sendall(request())
            while connection.recv(65536):
                pass


def _kept(port: int, request: bytes, connections: int) -> None:
    """Requests whose answers are not read, or that do not end; those that the explorer closes are made again."""
    kept: list[socket.socket] = []
    for number in itertools.count():
        with contextlib.suppress(OSError):
            connection = _connect(port)
            connection.setblocking(False)
            connection.send(request)
            kept.append(connection)
        if len(kept) > connections:
            kept.pop(0).close()
        if number >= connections:
            time.sleep(0.02)


def _signature(items: str, headers: bytes) -> bytes:
    parameters = f'keyId="{NODE.node_id}",algorithm="ed25519",created="{int(time.time())}"'
    signed = f'Signature {parameters},headers="(created) date threebot-id {items}",signature="{"A" * 86}=="'
    lines = f"Authorization: {signed}\r\nDate: x\r\nThreebot-Id: {NODE.node_id}\r\n".encode()
    return _request(b"POST /api/v1/gateways", lines + headers, b"{}")


def _request(target: bytes, headers: bytes = b"", body: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + length + b"\r\n" + body


def _many_items(port: int) -> None:
    _again(port, lambda: _signature("x " * 1900, _ITEM * 20))


def _fewer_items(port: int) -> None:
    _again(port, lambda: _signature("x " * 1900, _ITEM * 3))


def _twenty_items(port: int) -> None:
    items = " ".join(f"x{number}" for number in range(17))
    headers = b"".join(b"x%d: %s\r\n" % (number, b"a" * 1700) for number in range(17))
    _again(port, lambda: _signature(items, headers))


def _large_signatures(port: int) -> None:
    _again(
        port, lambda: _request(b"POST /api/v1/gateways", (b"Authorization: Signature " + b"a" * 8000 + b"\r\n") * 99)
    )


def _small_signatures(port: int) -> None:
    header = b"Authorization: Signature " + b"a" * 250 + b"\r\n"
    _again(port, lambda: _request(b"POST /api/v1/gateways", header * 99))


def _nested(port: int) -> None:
    _again(port, lambda: _request(b"POST /api/v1/users", body=b'{"a":' * 12_000 + b"1" + b"}" * 5000))


def _broken_text(port: int) -> None:
    _again(port, lambda: _request(b"POST /api/v1/users", body=b'["%s"]' % (b"\\ud800" * 10_000)))


def _lists(port: int) -> None:
    _again(port, lambda: _request(b"GET /api/v1/reservations/workloads?size=1000"))


def _unread_lists(port: int) -> None:
    _kept(port, _request(b"GET /api/v1/reservations/workloads?customer_tid=7&size=1000"), 40)


def _unread_polls(port: int) -> None:
    _kept(port, _request(f"GET /api/v1/reservations/nodes/{NODE.node_id}/workloads?from=0".encode()), 40)


def _heads(port: int) -> None:
    _kept(port, b"GET /api/v1/farms HTTP/1.1\r\n" + _ITEM * 100, 150)


def _bodies(port: int) -> None:
    _kept(port, b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 65000\r\n\r\n" + b"a" * 64_000, 150)


def _pipelined(port: int) -> None:
    poll = b"GET /api/v1/reservations/nodes/N/workloads?from=0&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n"
    _kept(port, poll + (b"GET /api/v1/farms HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 90 + b"\r\n") * 500, 150)


def _pipelined_bodies(port: int) -> None:
    _kept(
        port, _request(b"POST /api/v1/gateways/N", body=b'{"id": 1}').replace(b"Connection: close\r\n", b"") * 100, 600
    )


def _resets(port: int) -> None:
    request = _request(b"POST /api/v1/gateways/N", body=b'{"id": 1}')
    while True:
        with contextlib.suppress(OSError), _connect(port) as connection:
            connection.sendall(request)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _small_chunks(port: int) -> None:
    head = b"OPTIONS / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    _kept(port, (head + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n") * 10, 150)


ATTACKS: dict[str, Callable[[int], None]] = {
    "1900 items, 168 KB": _many_items,
    "1900 items, 32 KB": _fewer_items,
    "20 items": _twenty_items,
    "signatures, 802 KB": _large_signatures,
    "signatures, 28 KB": _small_signatures,
    "nested body": _nested,
    "broken text": _broken_text,
    "lists": _lists,
    "unread lists": _unread_lists,
    "unread polls": _unread_polls,
    "heads without end": _heads,
    "bodies without end": _bodies,
    "pipelined": _pipelined,
    "pipelined bodies": _pipelined_bodies,
    "small chunks": _small_chunks,
    "resets": _resets,
}
