"""From a write to redis to the answer that a client gets."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import redis
from tfgateway.redis_schema.marker import RAISER
from tfgateway.redis_schema.zone_changes import PUBLISHER

from tests.bench.dns.questions import ZONE, field, host, with_cookie
from tests.bench.report import Figure

TIMES = 200
_AS_GATEWAYS_WRITE = f"""{RAISER}{PUBLISHER}
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
wrote(KEYS[1], ARGV[1], ARGV[2])
publish(raised())
"""
_PATIENCE = 10.0


def measure(unix_socket: Path, port: int, names: int, title: str = "", *, foreign: bool = True) -> list[Figure]:
    """One field is written, then its name is asked for until the new address is served.

    foreign: also by a program that tells nobody, after which the zone has to be read again.
    """
    with redis.Redis(unix_socket_path=str(unix_socket)) as client:
        script = client.register_script(_AS_GATEWAYS_WRITE)

        def as_gateways(label: str, value: str) -> None:
            script(keys=[ZONE], args=[label, value])

        def as_others(label: str, value: str) -> None:
            client.hset(ZONE, label, value)

        found = _latencies(port, names, TIMES, as_gateways)
        figures = [
            Figure(f"{title}redis write to served answer, p50", found[len(found) // 2], "ms", limit=1),
            Figure(f"{title}redis write to served answer, p99", found[int(len(found) * 0.99)], "ms"),
        ]
        if foreign:
            found = _latencies(port, names, TIMES // 20, as_others)
            figures.append(Figure(f"{title}the same, by another program, p50", found[len(found) // 2], "ms"))
    return figures


def _latencies(port: int, names: int, times: int, write: Callable[[str, str], None]) -> list[float]:
    """In milliseconds, sorted."""
    chance = random.Random(times)
    found = []
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(1)
        for _ in range(times):
            time.sleep(0.005)
            label = host(chance.randrange(names))
            query = with_cookie(label, b"bench...", b"\x7f\0\0\1")  # rate limiting is not what is measured
            wanted = struct.pack("!BBH", 198, 18, chance.randrange(65536))
            began = time.monotonic()
            write(label, field(".".join(map(str, wanted))))
            while True:
                with contextlib.suppress(TimeoutError):
                    sock.send(query)
                    if wanted in sock.recv(512):
                        break
                if time.monotonic() > began + _PATIENCE:
                    raise RuntimeError(f"{label}: not served {_PATIENCE:g} s after it was written")
            found.append((time.monotonic() - began) * 1000)
    return sorted(found)
