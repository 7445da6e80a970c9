"""Creation, options and closing of TCP sockets, for visitors, targets and tunnels alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import TypeVar

_Where = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, _Where]
"""As ``socket.getaddrinfo`` gives it."""

_KEEPALIVE_IDLE = 180  # seconds without traffic before the first probe (T-20)
_KEEPALIVE_INTERVAL = 30
_KEEPALIVE_PROBES = 4

_S = TypeVar("_S", bound=socket.SocketType)


def tune(sock: socket.SocketType) -> None:
    """Set keep-alive (T-20) and no delay. Set on a listening socket, accepted ones inherit it (tcp(7))."""
    keep_alive(sock)
    send_at_once(sock)


def send_at_once(sock: socket.SocketType) -> None:
    """Set TCP_NODELAY."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def keep_alive(sock: socket.SocketType) -> None:
    """Set keep-alive, to find dead peers (T-20)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)


def close(sock: socket.SocketType) -> None:
    """Close a socket; Linux gives the descriptor back even when close(2) reports an error."""
    try:  # noqa: SIM105 - for each connection twice: entering a context costs a fifth of the system call
        sock.close()
    except OSError:
        pass


def adopt(family: int, descriptor: int) -> socket.SocketType:
    """A non-blocking TCP socket of a descriptor that accept(2) gave. Errors: ``OSError``; it is closed then.

    Without what ``socket.socket`` adds, which costs more than the system call itself.
    """
    try:
        sock = socket.SocketType(family, int(socket.SOCK_STREAM), 0, descriptor)
    except OSError:
        close_descriptor(descriptor)
        raise
    return _not_blocking(sock)


def ordinary(plain: socket.SocketType) -> socket.socket:
    """``plain``, which is detached, as a non-blocking one of the ordinary class. Errors: ``OSError``; see ``adopt``."""
    descriptor = plain.detach()
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        close_descriptor(descriptor)
        raise
    return _not_blocking(sock)


def close_descriptor(descriptor: int) -> None:
    """Close a descriptor as ``close`` does."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _not_blocking(sock: _S) -> _S:
    try:
        sock.setblocking(False)
    except OSError:
        close(sock)
        raise
    return sock


async def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """Addresses of a host, from the system's resolver. Errors: ``OSError``, whatever the reason is."""
    try:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (ValueError, RuntimeError) as error:  # not a host name at all; no thread can be started
        raise OSError(f"{host}: {error}") from error
