"""Outgoing connections of the client, and its words for what goes wrong with them."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence

from tfgateway.net.sockets import AddressInfo, close, resolve, send_at_once
from tfgateway.tunnel.client.model import HostPort


def words(error: OSError) -> str:
    """The kernel's text for an error: asyncio has put the address in its place."""
    known = isinstance(error.errno, int) and error.errno > 0 and not isinstance(error, ssl.SSLError)
    return os.strerror(error.errno) if known and error.errno else error.strerror or str(error)


def _literal(host: str, port: int) -> Sequence[AddressInfo]:
    """What ``getaddrinfo`` gives for an IP literal, without a thread for it; empty: it is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, socket.SOCK_STREAM, 0, "", (host, port))]
    return []


async def connect(address: HostPort) -> socket.socket:
    """A connected, non-blocking socket to the first address that accepts. Errors: ``OSError``."""
    loop = asyncio.get_running_loop()
    host, port = address
    found = _literal(host, port) or await resolve(host, port)
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, where in found:
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            send_at_once(sock)
            await loop.sock_connect(sock, where)
        except BaseException as error:
            if sock is not None:
                close(sock)
            if not isinstance(error, OSError):
                raise
            problem = error
        else:
            return sock
    raise problem
