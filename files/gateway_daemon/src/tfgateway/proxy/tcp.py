"""Options of every TCP connection of the proxy, to visitors and to targets alike."""

from __future__ import annotations

import socket

_KEEPALIVE_IDLE = 180  # seconds without traffic before the first probe (T-20)
_KEEPALIVE_INTERVAL = 30
_KEEPALIVE_PROBES = 4


def tune(sock: socket.SocketType) -> None:
    """Find dead peers (T-20), send at once. Set on a listening socket, accepted ones inherit it (tcp(7))."""
    keep_alive(sock)
    send_at_once(sock)


def send_at_once(sock: socket.SocketType) -> None:
    """What is sent is not held back for more."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def keep_alive(sock: socket.SocketType) -> None:
    """Find dead peers (T-20)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
