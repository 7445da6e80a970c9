"""DNS over UDP: datagrams in, datagrams out, in batches between the event loop's other work."""

from __future__ import annotations

import asyncio
import socket
import time

from structlog.typing import FilteringBoundLogger

from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.fast_path import FastPath
from tfgateway.dns.server.batch import SIZE, Batch

_ROUNDS = 4
"""Batches a turn of the event loop: more would let a flood keep the rest waiting."""


class UdpListener:
    """Answers the datagrams of one socket."""

    def __init__(self, sock: socket.socket, hot: FastPath, counts: QueryCounters, log: FilteringBoundLogger) -> None:
        """sock: prepared by ``sockets.prepare_udp``; closed by ``close``."""
        self._socket = sock
        self._hot = hot
        self._counts = counts
        self._log = log
        self._batch = batch = Batch(sock)
        self._slots = hot.slots(batch.buffer, batch.starts, batch.peers, batch.address_size, batch.replies)

    def start(self) -> None:
        """Serve from the running event loop."""
        asyncio.get_running_loop().add_reader(self._socket, self._drain)

    def close(self) -> None:
        """Serve no more; harmless the second time."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _drain(self) -> None:
        batch = self._batch
        for _ in range(_ROUNDS):
            try:
                sizes = batch.receive()
            except OSError:
                self._counts.dropped("udp", "receive")
                return
            if not sizes:
                return
            started = time.monotonic()
            try:
                silent = self._hot.answer(self._slots, sizes, time.time(), int(started * 1_000_000))
            except Exception as error:  # the next batch is answered
                self._log.error("queries not answered", count=len(sizes), reason=repr(error), exc_info=True)
                self._counts.drops["udp", "failed"] += len(sizes)
                return
            lost = batch.send(len(sizes), silent)
            self._counts.latency.add(time.monotonic() - started, len(sizes))
            if lost:
                self._counts.drops["udp", "send"] += lost
            if len(sizes) < SIZE:
                return
