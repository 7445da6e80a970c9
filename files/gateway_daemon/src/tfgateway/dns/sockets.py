"""Listening sockets for DNS, and the address that a datagram's reply has to leave from."""

from __future__ import annotations

import contextlib
import socket
from typing import Final, NamedTuple

from tfgateway.settings import host_port

# Linux numbers that the socket module of Python 3.11 does not name.
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_OMIT: Final = 5
"""Whatever an ICMP message claims about the path, a reply is neither refused nor cut smaller for it (RFC 9715)."""


class PacketInfo(NamedTuple):
    """Where the ancillary data of a datagram says at which address it arrived."""

    size: int
    """Bytes of struct in_pktinfo, in6_pktinfo."""
    interface_at: int


PKTINFO: Final = {socket.AF_INET: PacketInfo(12, 0), socket.AF_INET6: PacketInfo(20, 16)}

ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared
"""Local addresses of sockets that take what any address of this host is sent."""

_RECEIVE_BUFFER: Final = 1 << 20
_BACKLOG: Final = 512


def open_udp(listen: str) -> socket.socket:
    """A non-blocking UDP socket at ``listen`` (``ADDRESS:PORT``). Errors: ``OSError``."""
    sock = _bind(listen, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    # A socket that is bound to one address replies from it anyway.
    anywhere = sock.getsockname()[0] in ANYWHERE
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, anywhere)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, anywhere)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_OMIT)
    return sock


def open_tcp(listen: str) -> socket.socket:
    """A non-blocking listening TCP socket at ``listen``. Errors: ``OSError``."""
    sock = _bind(listen, socket.SOCK_STREAM)
    sock.listen(_BACKLOG)
    return sock


def packed(host: str) -> bytes:
    """The address of a peer as ``socket`` tells it, in network byte order."""
    if ":" not in host:
        return socket.inet_aton(host)
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])


def _bind(listen: str, kind: socket.SocketKind) -> socket.socket:
    host, port = host_port(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, kind))
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        undo.pop_all()
    return sock
