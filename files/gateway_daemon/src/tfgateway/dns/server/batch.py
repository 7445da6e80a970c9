"""Receives and sends up to 64 datagrams a system call: ``recvmmsg`` and ``sendmmsg`` over memory that is set up once.

The C library is called through ctypes: Python's socket module knows neither. All memory is one anonymous mapping. A
reply is written over its query and goes back to where that came from: peer and local address stay where the kernel
put them.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
import sys
from typing import Final, NamedTuple

from tfgateway.dns.answer.fast_path import MAX_QUERY
from tfgateway.dns.server.sockets import ANYWHERE, PKTINFO

SIZE: Final = 64
"""Datagrams a batch."""
SLOT: Final = MAX_QUERY + 192
"""Bytes from one datagram to the next. Not a power of two: all would compete for the same few lines of the cache."""


class Origin(NamedTuple):
    """Who sent a datagram, and to which address: for a reply outside of the batch."""

    client: bytes
    """Packed address."""
    address: tuple[str, int] | tuple[str, int, int, int]
    ancillary: list[tuple[int, int, bytes]]
    """For ``socket.sendmsg``."""


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr of recvmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr of recvmmsg(2)."""

    _fields_ = (("header", _Header), ("len", ctypes.c_uint))


_MESSAGE: Final = ctypes.sizeof(_Message)
_IOVEC: Final = ctypes.sizeof(_Iovec)
_NAME: Final = 32
_CONTROL: Final = 64
_CMSG_HEADER: Final = socket.CMSG_LEN(0)
_LINK_LOCAL: Final = 0xFE  # fe80::/10; no other unicast address in use begins so

_libc: Final = ctypes.CDLL(None, use_errno=True)
_recvmmsg: Final = _libc.recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_sendmmsg: Final = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Batch:
    """The buffers of one socket for the datagrams that are being answered."""

    def __init__(self, sock: socket.socket) -> None:
        """sock: non-blocking, prepared by ``sockets.prepare_udp``."""
        self._socket = sock
        ipv4 = sock.family == socket.AF_INET
        pktinfo = PKTINFO[sock.family]
        self._info = pktinfo.size if sock.getsockname()[0] in ANYWHERE else 0
        """Bytes of ancillary data; a socket that is bound to one address needs none."""
        at = 0
        layout = []
        for size in (SLOT, _NAME, _CONTROL, _IOVEC, _IOVEC, _MESSAGE, _MESSAGE):
            layout.append(at)
            at += size * SIZE
        slots, names, controls, self._in_iov, self._out_iov, self._in, self._out = layout
        self.buffer = mmap.mmap(-1, at)
        """Datagram i begins at ``starts[i]``, its peer's packed address is at ``peers[i]``."""
        self.starts = range(slots, names, SLOT)
        self.address_size = 4 if ipv4 else 16
        peer = names + (4 if ipv4 else 8)  # in struct sockaddr_in, sockaddr_in6
        self.peers = range(peer, peer + SIZE * _NAME, _NAME)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        for number in range(SIZE):
            start = self._base + slots + number * SLOT
            for iovs, messages in ((self._in_iov, self._in), (self._out_iov, self._out)):
                iov = _Iovec.from_buffer(self.buffer, iovs + number * _IOVEC)
                iov.base, iov.len = start, MAX_QUERY + 1
                message = _Message.from_buffer(self.buffer, messages + number * _MESSAGE).header
                message.name = self._base + names + number * _NAME
                message.namelen = 16 if ipv4 else 28
                message.iov, message.iovlen = self._base + iovs + number * _IOVEC, 1
                if self._info:
                    message.control = self._base + controls + number * _CONTROL
                    message.controllen = socket.CMSG_SPACE(self._info)
        self._controls = controls
        self._fresh = self.buffer[self._in : self._in + SIZE * _MESSAGE]
        self._replies = self.buffer[self._out : self._out + SIZE * _MESSAGE]
        view = memoryview(self.buffer)
        received = self._in + _Message.len.offset
        self._sizes = view[self._in : self._in + SIZE * _MESSAGE].cast("I")[(received - self._in) // 4 :: _MESSAGE // 4]
        self.replies = view[self._out_iov : self._out_iov + SIZE * _IOVEC].cast("L")[1 :: _IOVEC // 8]
        """Bytes of reply i, to be set by its writer."""
        info = view[controls : controls + SIZE * _CONTROL]
        interface = _CMSG_HEADER + pktinfo.interface_at
        self._interfaces = info.cast("I")[interface // 4 :: _CONTROL // 4]
        self._no_interfaces = memoryview(bytes(4 * SIZE)).cast("I")
        self._first_bytes = None if ipv4 else info[_CMSG_HEADER::_CONTROL]

    def receive(self) -> list[int]:
        """The sizes of what has arrived, at most SIZE datagrams. Errors: ``OSError``."""
        self.buffer[self._in : self._out] = self._fresh
        count = _recvmmsg(self._socket.fileno(), self._base + self._in, SIZE, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(number, "recvmmsg")
        if self._info:
            self._forget_interfaces(count)
        sizes: list[int] = self._sizes[:count].tolist()
        return sizes

    def send(self, count: int, silent: list[int]) -> int:
        """Send the replies of the first ``count`` but for those ``silent``; how many could not be sent."""
        if silent:
            left_out = set(silent)
            kept = [number for number in range(count) if number not in left_out]
            for at, number in enumerate(kept):
                start = number * _MESSAGE
                to = self._out + at * _MESSAGE
                self.buffer[to : to + _MESSAGE] = self._replies[start : start + _MESSAGE]
            count = len(kept)
        sent = lost = 0
        while sent + lost < count:
            done = _sendmmsg(
                self._socket.fileno(), self._base + self._out + (sent + lost) * _MESSAGE, count - sent - lost, 0
            )
            if done >= 0:
                sent += done
            elif ctypes.get_errno() in (errno.EAGAIN, errno.ENOBUFS):
                lost = count - sent  # the way out is full: the clients ask again
            elif ctypes.get_errno() != errno.EINTR:
                lost += 1  # the way back to this one is none
        if silent:
            self.buffer[self._out : self._out + len(self._replies)] = self._replies
        return lost

    def origin(self, number: int) -> Origin:
        """Where a datagram of the last batch came from."""
        peer, packed = self.peers[number], self.buffer[self.peers[number] : self.peers[number] + self.address_size]
        text = socket.inet_ntop(self._socket.family, packed)
        ancillary: list[tuple[int, int, bytes]] = []
        if self._info:
            at = self._controls + number * _CONTROL + _CMSG_HEADER
            level = socket.IPPROTO_IP if self.address_size == 4 else socket.IPPROTO_IPV6
            ancillary.append((level, PKTINFO[self._socket.family].type, self.buffer[at : at + self._info]))
        if self.address_size == 4:
            return Origin(packed, (text, int.from_bytes(self.buffer[peer - 2 : peer], "big")), ancillary)
        port = int.from_bytes(self.buffer[peer - 6 : peer - 4], "big")
        scope = int.from_bytes(self.buffer[peer + 16 : peer + 20], sys.byteorder)
        return Origin(packed, (text, port, 0, scope), ancillary)

    def _forget_interfaces(self, count: int) -> None:
        """Let the routing table choose the interface of a reply, but for link-local addresses."""
        kept = []
        if self._first_bytes is not None and _LINK_LOCAL in (first := self._first_bytes[:count].tolist()):
            kept = [(number, self._interfaces[number]) for number in range(count) if first[number] == _LINK_LOCAL]
        self._interfaces[:count] = self._no_interfaces[:count]
        for number, interface in kept:
            self._interfaces[number] = interface
