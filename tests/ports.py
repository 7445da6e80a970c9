"""Ports of 127.0.0.1 for what tests and benchmarks start."""

from __future__ import annotations

import random
import socket

_given: set[int] = set()


def free_port() -> int:
    """One that is free for TCP and UDP, and that this process has never been given before.

    Below the kernel's ephemeral range, so that no outgoing connection takes it before somebody listens.
    """
    for _ in range(1000):
        port = random.randrange(20_000, 32_000)
        if port in _given:
            continue
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port")
