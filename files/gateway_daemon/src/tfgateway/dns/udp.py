"""DNS over UDP: datagrams in, datagrams out, in batches between the event loop's other work."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from tfgateway.dns.counts import Counts
from tfgateway.dns.sockets import ANCILLARY_SIZE, packed, reply_from

_BATCH = 64
"""Datagrams a turn of the event loop: more would let a flood keep the rest waiting."""
_MAX_QUERY = 4096


class UdpListener:
    """Answers what arrives at one socket."""

    def __init__(self, sock: socket.socket, answer: Callable[[bytes, bytes], bytes | None], counts: Counts) -> None:
        """sock: from ``sockets.open_udp``; closed by ``close``. answer: of query and packed client address; must not
        raise.
        """
        self._socket = sock
        self._answer = answer
        self._counts = counts

    def start(self) -> None:
        """Serve from the running event loop."""
        asyncio.get_running_loop().add_reader(self._socket, self._drain)

    def close(self) -> None:
        """Serve no more; harmless the second time."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _drain(self) -> None:
        for _ in range(_BATCH):
            try:
                message, ancillary, flags, peer = self._socket.recvmsg(_MAX_QUERY, ANCILLARY_SIZE)
            except BlockingIOError:
                return
            except OSError:
                self._counts.dropped("udp", "receive")
                return
            if flags & socket.MSG_TRUNC:
                self._counts.dropped("udp", "oversized")
                continue
            reply = self._answer(message, packed(peer[0]))
            if reply is None:
                continue
            try:
                self._socket.sendmsg([reply], reply_from(ancillary), 0, peer)
            except OSError:  # the buffer is full, or the way back is none: the client asks again
                self._counts.dropped("udp", "send")
