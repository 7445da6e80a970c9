"""From a write to redis to the answer that a client gets."""

from __future__ import annotations

import random
import socket
import struct
import time
from pathlib import Path

import redis

from tests.bench.dns.questions import ZONE, host
from tests.bench.report import Figure

TIMES = 300
_PATIENCE = 10.0


def measure(unix_socket: Path, port: int, names: int, times: int = TIMES, title: str = "") -> list[Figure]:
    """One field is written, then its name is asked for until the new address is served."""
    chance = random.Random(2)
    found = []
    with redis.Redis(unix_socket_path=str(unix_socket)) as client, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(1)
        for number in range(times):
            time.sleep(0.005)
            label = host(chance.randrange(names))
            query = struct.pack("!HHHHHH", number, 0, 1, 0, 0, 0) + bytes([len(label)]) + label.encode()
            query += b"\x05bench\x07example\0\0\1\0\1"
            wanted = struct.pack("!BBH", 198, 18, number)
            began = time.monotonic()
            client.hset(ZONE, label, f'{{"a":[{{"ttl":300,"ip":"198.18.{number >> 8}.{number & 255}"}}]}}')
            while True:
                sock.send(query)
                if sock.recv(512).endswith(wanted):
                    break
                if time.monotonic() > began + _PATIENCE:
                    raise RuntimeError(f"{label}: not served {_PATIENCE:g} s after it was written")
            found.append((time.monotonic() - began) * 1000)
    found.sort()
    return [
        Figure(f"{title}redis write to served answer, p50", found[len(found) // 2], "ms", limit=1),
        Figure(f"{title}redis write to served answer, p99", found[int(len(found) * 0.99)], "ms"),
    ]
