"""Ports of 127.0.0.1 for what tests and benchmarks start."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

_given: set[int] = set()
_claims: IO[str] | None = None


def free_port() -> int:
    """One that is free for TCP and UDP, and that no other process that asks here is given while this one lives.

    Below the kernel's ephemeral range, so that no outgoing connection takes it before somebody listens.
    """
    for _ in range(1000):
        port = random.randrange(20_000, 32_000)
        if port not in _given and _claim(port) and _free(port):
            _given.add(port)
            return port
    raise RuntimeError("no free port")


def _claim(port: int) -> bool:
    """Lock the port's byte in a file that all processes share; the kernel unlocks it when this one ends."""
    global _claims
    if _claims is None:
        _claims = (Path(tempfile.gettempdir()) / f"tfgateway-test-ports-{os.getuid()}").open("a")
    try:
        fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _free(port: int) -> bool:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        try:
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
