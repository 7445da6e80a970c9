"""A load generator that is cheaper than any server: prepared queries, 64 a system call, from thousands of networks.

A closed loop with a window: so many queries are outstanding, never more. Every query has a source address of its own in
127.0.0.0/8 (IP_PKTINFO), so that rate limiting has what it has in life to look at: many networks that ask for little.
It sends to loopback only.
"""

from __future__ import annotations

import ctypes
import mmap
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

BATCH = 64
WINDOW = 192
PATIENCE = 0.5
"""Seconds without a reply after which what is outstanding counts as lost."""

_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg, _recvmmsg = _libc.sendmmsg, _libc.recvmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)

# struct mmsghdr of 64-bit Linux: name, namelen, iov, iovlen, control, controllen, flags, len.
_MMSGHDR = struct.Struct("@PI4xPLPLi4xI4x")
_IOVEC = struct.Struct("@PL")
_CONTROL = struct.Struct("@LiiI4s4x4x")
_IP_PKTINFO = 8
_REPLY_SIZE = 2048


@dataclass(frozen=True)
class Query:
    """One that is sent again and again."""

    message: bytes
    source: bytes
    """Packed IPv4 address in 127.0.0.0/8."""


@dataclass
class Result:
    """Of one run."""

    replies: int = 0
    lost: int = 0
    wrong: int = 0
    """Replies, of those looked at (one a batch), that are not what was expected."""
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


class Load:
    """Queries in memory, ready for the kernel. Their ids are their numbers, as far as 16 bits tell them."""

    def __init__(self, queries: Sequence[Query], port: int, expected: bytes) -> None:
        """port: of the server on 127.0.0.1; expected: flags and counts of a right reply."""
        self._count = len(queries)
        self._port = port
        self._expected = expected
        size = max(len(query.message) for query in queries)
        at, layout = 0, []
        for need in (
            size * self._count, 16, _CONTROL.size * self._count, _IOVEC.size * self._count, _MMSGHDR.size * self._count,
            _REPLY_SIZE * BATCH, _IOVEC.size * BATCH, _MMSGHDR.size * BATCH,
        ):  # fmt: skip
            layout.append(at)
            at += -(-need // 16) * 16
        messages, peer, controls, iovs, self._out, self._replies, reply_iovs, self._in = layout
        memory = self._memory = mmap.mmap(-1, at)
        base = self._base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        memory[peer : peer + 16] = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, b"\x7f\0\0\1")
        for number, query in enumerate(queries):
            start, length = messages + number * size, len(query.message)
            memory[start : start + length] = (number & 0xFFFF).to_bytes(2, "big") + query.message[2:]
            control = controls + number * _CONTROL.size
            _CONTROL.pack_into(memory, control, 28, socket.IPPROTO_IP, _IP_PKTINFO, 0, query.source)
            iov = iovs + number * _IOVEC.size
            _IOVEC.pack_into(memory, iov, base + start, length)
            _MMSGHDR.pack_into(
                memory, self._out + number * _MMSGHDR.size, base + peer, 16, base + iov, 1, base + control, 32, 0, 0
            )
        for number in range(BATCH):
            iov = reply_iovs + number * _IOVEC.size
            _IOVEC.pack_into(memory, iov, base + self._replies + number * _REPLY_SIZE, _REPLY_SIZE)
            _MMSGHDR.pack_into(memory, self._in + number * _MMSGHDR.size, 0, 0, base + iov, 1, 0, 0, 0, 0)

    def saturate(self, seconds: float, window: int = WINDOW) -> Result:
        """As many as the server answers."""
        result = Result()
        with _socket() as sock:
            fd = sock.fileno()
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            position = outstanding = 0
            began = now = time.monotonic()
            until = began + seconds
            while now < until:
                room = min(window - outstanding, BATCH, self._count - position)
                if room >= BATCH // 2 or room == self._count - position > 0:
                    sent = _sendmmsg(fd, self._base + self._out + position * _MMSGHDR.size, room, 0)
                    if sent > 0:
                        outstanding += sent
                        position = (position + sent) % self._count
                got = _recvmmsg(fd, self._base + self._in, BATCH, socket.MSG_DONTWAIT, None)
                if got > 0:
                    outstanding = max(0, outstanding - got)
                    result.replies += got
                    self._look(result)
                elif outstanding > window - BATCH // 2 and not poll.poll(PATIENCE * 1000):
                    result.lost += outstanding
                    outstanding = 0
                now = time.monotonic()
            result.seconds = now - began
        return result

    def warm(self) -> None:
        """Until every query was answered a few times: what a server keeps, it has then."""
        replies = 0
        while replies < 3 * self._count:
            done = self.saturate(0.5).replies
            if not done:
                raise RuntimeError(f"no replies on port {self._port}")
            replies += done

    def at_rate(self, rate: float, seconds: float) -> Result:
        """So many a second, whatever the server does; each reply's latency in seconds."""
        result = Result()
        memory, replies = self._memory, self._replies
        sent_at = [0.0] * self._count
        with _socket() as sock:
            fd = sock.fileno()
            began = now = time.monotonic()
            sent = 0
            while now < began + seconds:
                position = sent % self._count
                due = min(int((now - began) * rate) - sent, BATCH, self._count - position)
                if due > 0:
                    stamp = time.monotonic()
                    done = _sendmmsg(fd, self._base + self._out + position * _MMSGHDR.size, due, 0)
                    for number in range(position, position + max(done, 0)):
                        sent_at[number] = stamp
                    sent += max(done, 0)
                got = _recvmmsg(fd, self._base + self._in, BATCH, socket.MSG_DONTWAIT, None)
                now = time.monotonic()
                for number in range(max(got, 0)):
                    at = replies + number * _REPLY_SIZE
                    result.latencies.append(now - sent_at[int.from_bytes(memory[at : at + 2], "big")])
            result.replies = len(result.latencies)
            result.lost = sent - result.replies
            result.seconds = now - began
        return result

    def _look(self, result: Result) -> None:
        start = self._replies
        if self._memory[start + 2 : start + 12] != self._expected:
            result.wrong += 1


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sock.bind(("0.0.0.0", 0))
    return sock
