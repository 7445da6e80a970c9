"""DNS over UDP: datagrams in, datagrams out, in batches between the event loop's other work."""

from __future__ import annotations

import asyncio
import socket
import time

from structlog.typing import FilteringBoundLogger

from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.fast_path import FastPath
from tfgateway.dns.server.batch import SIZE, Batch, Origin
from tfgateway.dns.server.updates.handler import UpdateHandler

_MOST_PENDING = 256
"""Datagrams that are answered later; more are dropped."""
_ROUNDS = 4
"""Batches a turn of the event loop: more would let a flood keep the rest waiting."""


class UdpListener:
    """Answers the datagrams of one socket."""

    def __init__(
        self,
        sock: socket.socket,
        hot: FastPath,
        counts: QueryCounters,
        log: FilteringBoundLogger,
        updates: UpdateHandler | None = None,
    ) -> None:
        """sock: prepared by ``sockets.prepare_udp``; closed by ``close``. updates: what ``hot`` defers goes there."""
        self._updates = updates
        self._pending: set[asyncio.Task[None]] = set()
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
            if deferred := self._hot.take_deferred():
                self._defer(deferred)
            lost = batch.send(len(sizes), silent)
            self._counts.latency.add(time.monotonic() - started, len(sizes))
            if lost:
                self._counts.drops["udp", "send"] += lost
            if len(sizes) < SIZE:
                return

    def _defer(self, deferred: list[tuple[int, bytes]]) -> None:
        """Have these datagrams of the batch answered in their own time."""
        for number, message in deferred:
            if self._updates is None or len(self._pending) >= _MOST_PENDING:
                self._counts.dropped("udp", "updates")
                continue
            task = asyncio.create_task(self._answer_later(self._updates, message, self._batch.origin(number)))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _answer_later(self, updates: UpdateHandler, message: bytes, origin: Origin) -> None:
        reply = await updates.answer(message, origin.client, "udp")
        sent = self._hot.limited(reply, origin.client, int(time.monotonic() * 1_000_000)) if reply else None
        if sent is None:
            return
        try:
            self._socket.sendmsg([sent], origin.ancillary, 0, origin.address)
        except OSError:  # closed meanwhile, or the way out is full: the client asks again
            self._counts.dropped("udp", "send")
