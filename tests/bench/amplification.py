"""What a flood from one network gets out of the DNS server: bytes of replies for each byte of queries (D-12).

The server is the real process with the settings that a node has by default, but that loopback is not exempt. Sixteen
addresses of one /24 ask at a rate that the server can answer, so that its limits alone decide what comes back;
meanwhile a client of another network asks at its own pace.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.bench.processes import redis_server, running
from tests.bench.report import Figure, publish
from tests.support.ports import free_port

RATE = 4000
"""Queries a second of the flood."""
SECONDS = 6.0
"""Of each flood; with the limiter's window of 15 s, none is forgiven within it."""
SOURCES = [f"127.0.77.{number}" for number in range(1, 17)]
BYSTANDER = "127.0.78.1"
BURST = 4
"""Queries that one source sends before replies are read."""
LIMIT = 1.0
"""A flood must get back no more than it took."""

TEXT = {"txt": [{"text": letter * 255} for letter in "abcd"]}
ADDRESS = {"a": [{"ip": "192.0.2.1"}]}
FIELDS: dict[str, object] = {"big": TEXT, "*.wild": TEXT, "www": ADDRESS, "cut": {"ns": [{"host": "ns.elsewhere."}]}}

Question = Callable[[random.Random], tuple[bytes, int]]
"""Makes a name and a type."""
_CLASS_IN, _A, _TXT = 1, 1, 16
_ORIGIN = b"\x05flood\x04test\0"


def _label(dice: random.Random) -> bytes:
    return b"\x08%08x" % dice.getrandbits(32)


FLOODS: dict[str, Question] = {
    "one large TXT": lambda _dice: (b"\x03big" + _ORIGIN, _TXT),
    "names below a wildcard": lambda dice: (_label(dice) + b"\x04wild" + _ORIGIN, _TXT),
    "names that do not exist": lambda dice: (_label(dice) + _ORIGIN, _A),
    "names below a delegation": lambda dice: (_label(dice) + b"\x03cut" + _ORIGIN, _A),
    "names of no zone": lambda dice: (_label(dice) + b"\x04else\0", _A),
}


def measure(scale: float) -> bool:
    """Run, print. True: the limits are kept."""
    seconds = max(SECONDS * scale, 2.0)
    figures = []
    for mode in ("on", "log"):
        for name, question in FLOODS.items():
            with _server(mode) as port:
                flood = _flood(port, question, seconds)
            told = name if mode == "on" else f"{name}, without limits"
            figures.append(Figure(f"{told}: amplification", flood.factor, "x", LIMIT if mode == "on" else None))
            if mode == "on":
                figures.append(Figure(f"{told}: another network's answers", flood.answered, "%"))
    return publish(
        "amplification", {"seconds": seconds, "queries/s": RATE, "addresses of one /24": len(SOURCES)}, figures
    )


@dataclass
class _Flood:
    sent: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    answered: float = 0.0
    """Per cent of the bystander's queries."""

    @property
    def factor(self) -> float:
        return self.bytes_out / self.bytes_in


def _flood(port: int, question: Question, seconds: float) -> _Flood:
    dice = random.Random(1)
    flood = _Flood()
    stop = threading.Event()
    shares: list[float] = []
    bystander = threading.Thread(target=lambda: shares.append(_bystander(port, stop)))
    with contextlib.ExitStack() as stack:
        sockets = []
        for source in SOURCES:
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((source, 0))
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
            sockets.append(sock)
        bystander.start()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            time.sleep(max(flood.sent / RATE - passed, 0))
            for sock in sockets:
                for _ in range(BURST):
                    query = _query(*question(dice))
                    with contextlib.suppress(BlockingIOError):
                        sock.send(query)
                        flood.sent += 1
                        flood.bytes_in += len(query)
                flood.bytes_out += _received(sock)
        time.sleep(0.5)
        flood.bytes_out += sum(_received(sock) for sock in sockets)
    stop.set()
    bystander.join()
    flood.answered = 100 * shares[0]
    return flood


def _query(name: bytes, kind: int) -> bytes:
    opt = b"\0" + struct.pack("!HHIH", 41, 4096, 0, 0)
    return struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 1) + name + struct.pack("!HH", kind, _CLASS_IN) + opt


def _received(sock: socket.socket) -> int:
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += len(sock.recv(65535))
    return size


def _bystander(port: int, stop: threading.Event) -> float:
    """The share of its queries that somebody else gets answered who asks ten times a second, once each."""
    asked = answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((BYSTANDER, 0))
        sock.connect(("127.0.0.1", port))
        sock.settimeout(0.5)
        while not stop.is_set():
            sock.send(_query(b"\x03www" + _ORIGIN, _A))
            asked += 1
            with contextlib.suppress(TimeoutError):
                sock.recv(65535)
                answered += 1
            stop.wait(0.1)
    return answered / asked


@contextlib.contextmanager
def _server(mode: str) -> Iterator[int]:
    """``tfgateway dns`` with a redis of its own; its port."""
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as directory, contextlib.ExitStack() as stack:
        redis_port, port, metrics = (free_port() for _ in range(3))
        stack.enter_context(redis_server(Path(directory), redis_port))
        with redis.Redis(port=redis_port) as client:
            client.hset("flood.test.", mapping={name: json.dumps(value) for name, value in FIELDS.items()})
        config = Path(directory) / "gateway.toml"
        config.write_text(
            f"""
            [redis]
            url = "redis://127.0.0.1:{redis_port}/0"
            [gateway]
            name_servers = ["ns1.gateway.example"]
            [dns]
            listen = ["127.0.0.1:{port}"]
            metrics = "127.0.0.1:{metrics}"
            [dns.rate_limit]
            mode = "{mode}"
            exempt = []
            """
        )
        command = [str(Path(sys.executable).with_name("tfgateway")), "--config", str(config), "dns"]
        program = stack.enter_context(running(command, Path(directory) / "dns.log"))
        program.until(lambda: _serves(port))
        yield port


def _serves(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        sock.send(_query(b"\x03www" + _ORIGIN, _A))
        return bool(sock.recv(65535))
