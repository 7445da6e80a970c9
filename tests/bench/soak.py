"""Ten minutes of everything at once: memory and descriptors of proxy and tunnel client must stay as they are."""

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
_BEHIND_TUNNEL = ("-H", f"Host: {peers.BEHIND_TUNNEL}")
_WORK = WORK | {
    "bulk through a tunnel": ("http", "/big", 4, _BEHIND_TUNNEL, "MB"),
    "requests through a tunnel": ("http", "/", 64, _BEHIND_TUNNEL, ""),
    "new connections through a tunnel": ("http", "/", 32, (*_BEHIND_TUNNEL, "-H", "Connection: close"), ""),
}
_WARM = 0.2
"""Share of the time after which memory must not grow any more."""


def measure(scale: float) -> bool:
    """True: flat."""
    seconds = SECONDS * scale
    memory: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="tfgateway-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        script = report_script(directory)
        backends = stack.enter_context(peers.backend(directory, LOAD))
        proxy = stack.enter_context(peers.ours(directory, SERVED, backends))
        client = stack.enter_context(peers.tunnel_client(directory, SERVED, proxy.tunnels, backends))
        time.sleep(2)
        programs = {"proxy": proxy, "tunnel client": client}
        base_line = {name: program.descriptors() for name, program in programs.items()}
        ending = threading.Event()
        nuisance = threading.Thread(target=_annoy, args=(proxy, ending))
        nuisance.start()
        counts = dict.fromkeys(_WORK, 0)
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            for work, (plane, path, connections, options, _) in _WORK.items():
                done = load(plane, getattr(proxy, plane), path, connections, 1, script, *options)
                if not done["requests"] and path == "/":
                    raise RuntimeError(f"no {work}: {done}")
                counts[work] += done["requests"]
            for name, program in programs.items():
                memory.setdefault(name, []).append((elapsed, program.memory() / 1e6))
        ending.set()
        nuisance.join()
        left = {name: _descriptors_left(program, base_line[name]) for name, program in programs.items()}
    figures = []
    for name, looks in memory.items():
        warm = [value for moment, value in looks if moment >= seconds * _WARM]
        half = len(warm) // 2
        growth = max(warm[half:], default=0.0) - max(warm[:half], default=0.0)
        figures += [
            Figure(f"memory, first look, {name}", looks[0][1], "MB"),
            Figure(f"memory, greatest, {name}", max(value for _, value in looks), "MB"),
            Figure(f"memory, growth from the first to the second half, {name}", growth, "MB", limit=2.0),
            Figure(f"descriptors left over, {name}", left[name], "", limit=0.5),
        ]
    figures += [Figure(f"{work}, requests", count, "") for work, count in counts.items()]
    return publish("soak", {"seconds": f"{seconds:.0f}"}, figures)


def _annoy(proxy: peers.Peer, ending: threading.Event) -> None:
    """Visitors who break off, say rubbish, or nothing."""
    heads = [b"", b"GET", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\nHost: other\r\n\r\n", b"x" * 65536]
    held: list[socket.socket] = []
    number = 0
    while not ending.is_set():
        number += 1
        with contextlib.suppress(OSError):
            sock = socket.create_connection(("127.0.0.1", (proxy.http, proxy.tls, proxy.tunnels)[number % 3]), 5)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", number % 4 == 0, 0))
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
