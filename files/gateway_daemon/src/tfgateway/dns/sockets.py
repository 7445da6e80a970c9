"""Listening sockets for DNS, and the address that a datagram's reply has to leave from."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from typing import Final

from tfgateway.settings import host_port

# Linux numbers that the socket module of Python 3.11 does not name.
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_OMIT: Final = 5
"""Whatever an ICMP message claims about the path, a reply is neither refused nor cut smaller for it (RFC 9715)."""

_IN_PKTINFO: Final = struct.Struct("=i4s4s")
_IN6_PKTINFO: Final = struct.Struct("=16sI")
ANCILLARY_SIZE: Final = socket.CMSG_SPACE(_IN6_PKTINFO.size)
"""Room for the ancillary data of one datagram."""

_RECEIVE_BUFFER: Final = 1 << 20
_BACKLOG: Final = 512

Ancillary = list[tuple[int, int, bytes]]


def open_udp(listen: str) -> socket.socket:
    """A non-blocking UDP socket at ``listen`` (``ADDRESS:PORT``). Errors: ``OSError``."""
    sock = _bind(listen, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
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


def reply_from(received: Ancillary) -> Ancillary:
    """Ancillary data that sends a reply from the address its query was sent to (RFC 2181 §4.1)."""
    for level, kind, data in received:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _interface, local, _destination = _IN_PKTINFO.unpack(data)
            # No interface: the way back is the routing table's business.
            return [(level, kind, _IN_PKTINFO.pack(0, local, bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            local, interface = _IN6_PKTINFO.unpack(data)
            if not ipaddress.IPv6Address(local).is_link_local:
                interface = 0
            return [(level, kind, _IN6_PKTINFO.pack(local, interface))]
    return []


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
