"""Ten minutes of everything at once: memory and descriptors of the proxy must stay as they are."""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path

from tests.bench import peers
from tests.bench.proxy import LOAD, SERVED, WORK, load, report_script
from tests.bench.report import Figure, publish

SECONDS = 600.0
_LOOK = 5.0
_WARM = 0.2
"""Share of the time after which memory must not grow any more."""


def measure(scale: float) -> bool:
    """True: flat."""
    seconds = SECONDS * scale
    memory: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        script = report_script(directory)
        backends = stack.enter_context(peers.backend(directory, LOAD))
        peer = stack.enter_context(peers.ours(directory, SERVED, backends))
        time.sleep(2)
        base_line = peer.descriptors()
        ending = threading.Event()
        nuisance = threading.Thread(target=_annoy, args=(peer, ending))
        nuisance.start()
        counts = dict.fromkeys(WORK, 0)
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            for work, (plane, path, connections, options, _) in WORK.items():
                done = load(plane, getattr(peer, plane), path, connections, 1, script, *options)
                counts[work] += done["requests"]
            memory.append((elapsed, peer.memory() / 1e6))
        ending.set()
        nuisance.join()
        left = _descriptors_left(peer, base_line)
    warm = [value for moment, value in memory if moment >= seconds * _WARM]
    half = len(warm) // 2
    growth = max(warm[half:], default=0.0) - max(warm[:half], default=0.0)
    figures = [
        Figure("memory, first look", memory[0][1], "MB"),
        Figure("memory, greatest", max(value for _, value in memory), "MB"),
        Figure("memory, growth from the first to the second half", growth, "MB", limit=2.0),
        Figure("descriptors left over", left, "", limit=0.5),
        *(Figure(f"{work}, requests", count, "") for work, count in counts.items()),
    ]
    return publish("soak", {"seconds": f"{seconds:.0f}"}, figures)


def _annoy(peer: peers.Peer, ending: threading.Event) -> None:
    """Visitors who break off, say rubbish, or nothing."""
    heads = [b"", b"GET", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\nHost: other\r\n\r\n", b"x" * 65536]
    held: list[socket.socket] = []
    number = 0
    while not ending.is_set():
        number += 1
        with contextlib.suppress(OSError):
            sock = socket.create_connection(("127.0.0.1", (peer.http, peer.tls)[number % 2]), 5)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", number % 3 == 0, 0))
            sock.settimeout(0.2)
            held.append(sock)
            sock.sendall(heads[number % len(heads)])
        while len(held) > 50:
            held.pop(0).close()
        time.sleep(0.01)
    for sock in held:
        sock.close()


def _descriptors_left(peer: peers.Peer, base_line: int) -> int:
    deadline = time.monotonic() + 30
    while peer.descriptors() > base_line and time.monotonic() < deadline:
        time.sleep(0.2)
    return peer.descriptors() - base_line
