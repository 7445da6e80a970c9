"""Whether the ssh server of a node takes connections."""

from __future__ import annotations

import socket

_BANNER = b"SSH-2.0-"  # RFC 4253 §4.2


def answers(address: str, port: int, *, within: float = 10.0) -> bool:
    """Whether a new connection brings a banner. within: seconds to connect, and to wait for it."""
    try:
        with socket.create_connection((address, port), timeout=within) as connection:
            received = b""
            while len(received) < len(_BANNER) and (more := connection.recv(len(_BANNER) - len(received))):
                received += more
    except OSError:
        return False
    return received == _BANNER
