"""Socket options for DNS, and the source address of replies."""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

# Linux numbers that the socket module of Python 3.11 does not name.
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
# Whatever an ICMP message claims about the path, a reply is neither refused nor cut smaller for it (RFC 9715).
_PMTUDISC_PROBE: Final = 3
"""Never in fragments. IPv4 without them needs no identification either, which costs the kernel 7 % of a reply."""
_PMTUDISC_OMIT: Final = 5
"""In fragments if the interface wants it."""
_UNFRAGMENTED: Final = 1400
"""Bytes of a reply that every network takes whole (RFC 9715 §3.1)."""


class PacketInfo(NamedTuple):
    """Layout of the ancillary data that says to which address a datagram was sent."""

    size: int
    """Bytes of struct in_pktinfo, in6_pktinfo."""
    interface_at: int
    type: int
    """Of the control message."""


PKTINFO: Final = {
    socket.AF_INET: PacketInfo(12, 0, _IP_PKTINFO),
    socket.AF_INET6: PacketInfo(20, 16, socket.IPV6_PKTINFO),
}

ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared
"""Local addresses of sockets that take what any address of this host is sent."""

_RECEIVE_BUFFER: Final = 1 << 20


def prepare_udp(sock: socket.socket, udp_size: int) -> None:
    """Set the options of a bound UDP socket; again is harmless. udp_size: bytes of a reply at most."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    # A socket that is bound to one address replies from it anyway.
    anywhere = sock.getsockname()[0] in ANYWHERE
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, anywhere)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_OMIT)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, anywhere)
        discover = _PMTUDISC_PROBE if udp_size <= _UNFRAGMENTED else _PMTUDISC_OMIT
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, discover)


def packed(host: str) -> bytes:
    """The address of a peer as ``socket`` gives it, in network byte order."""
    if ":" not in host:
        return socket.inet_aton(host)
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
