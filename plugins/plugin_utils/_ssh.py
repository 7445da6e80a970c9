# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether an SSH server answers, found out by its greeting; nobody logs in."""

from __future__ import annotations

import socket
import time

_GREETING = b"SSH-"
_LONGEST = 64 * 1024  # octets that are read before the greeting, where a server may send lines of text (RFC 4253, 4.2)
_ATTEMPT = 2.0  # seconds: behind a packet filter that drops, the next port is not kept waiting for longer
_PAUSE = 0.2  # seconds between two attempts


def answering(host: str, ports: list[int], timeout: float, enough: int) -> list[int]:
    """Those of ``ports`` at which a server greets within ``timeout`` seconds, in their order.

    They are asked in turn, again and again, until ``enough`` have answered; 0: all.
    """
    ports = list(dict.fromkeys(ports))
    deadline = time.monotonic() + timeout
    found: set[int] = set()
    while True:
        for port in ports:
            if port not in found and greets(host, port, min(_ATTEMPT, max(deadline - time.monotonic(), _PAUSE))):
                found.add(port)
            if len(found) == (enough or len(ports)):
                return [port for port in ports if port in found]
        if time.monotonic() + _PAUSE > deadline:
            return [port for port in ports if port in found]
        time.sleep(_PAUSE)


def greets(host: str, port: int, timeout: float) -> bool:
    """Whether an SSH server greets who connects, within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    said = b""
    try:
        with socket.create_connection((host, port), timeout) as link:
            while len(said) < _LONGEST:
                link.settimeout(max(deadline - time.monotonic(), 0.001))
                received = link.recv(4096)
                if not received:
                    return False
                said += received
                if any(line.startswith(_GREETING) for line in said.split(b"\n")):
                    return True
    except OSError:
        pass
    return False
