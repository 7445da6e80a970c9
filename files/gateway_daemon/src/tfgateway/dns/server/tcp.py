"""DNS over TCP (RFC 7766): pipelined queries, limited in number, time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Awaitable, Callable, Iterator

from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.stream_path import StreamPath
from tfgateway.dns.answer.updates import needs_reconciler
from tfgateway.dns.server.connections import Connections
from tfgateway.dns.server.sockets import packed

_READ_AHEAD = 16 * 1024
"""Bytes of unread queries after which the client has to wait (reading is paused)."""
_WRITE_BUFFER = 64 * 1024
"""Bytes of unsent replies after which no further query of that client is answered."""
_BACKLOG = 4096
"""Asyncio sets it again, on a socket that others share."""
_TURN = 16
"""Pipelined queries that are answered before others get their turn ..."""
_RUN = 64
"""Pipelined queries that are answered at once, and sent together."""
_PREFIX = 2
"""Bytes of a message's length (RFC 1035 §4.2.2)."""
_LEAST_RATE = 16 * 1024
"""Bytes a second that a client has to read of what waits for it ..."""
_GRACE = 1.0
"""... after so many seconds."""
_CROWDED = 10
"""How much sooner an idle connection ends when more than half of all are in use (RFC 7766 §6.2.3)."""
_LONG = 4096
"""... which they also get after a reply of more bytes than this: part of a zone transfer."""
_QUIET = 2.0
"""Seconds of silence after which a connection ends when the listener does: a busy client pauses for less."""
_LAST_WORD = 0.2
"""Seconds of silence after the end of a connection was announced, in which nothing more is on its way."""
_ACCEPTING = 5
"""Iterations of the event loop until ``connection_made`` is called for an accepted connection, at most."""


class _Connection:
    """One client's connection. See ``connections.EvictableConnection``."""

    __slots__ = ("address", "answered", "reader", "wait", "writer")

    def __init__(self, address: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = address
        self.answered = 0
        self.wait: asyncio.Timeout | None = None  # for a query that has not arrived
        self.reader = reader
        self.writer = writer

    @property
    def idle_until(self) -> float | None:
        return self.wait.when() if self.wait is not None else None


class TcpListener:
    """Serves all TCP sockets of a worker, which share the limits."""

    def __init__(
        self,
        answer: Callable[[bytes, bytes], Iterator[bytes]],
        fast: StreamPath,
        counts: QueryCounters,
        *,
        idle: float,
        connections: int,
        connections_per_client: int,
        later: Callable[[bytes, bytes], Awaitable[Iterator[bytes]]] | None = None,
    ) -> None:
        """Set up; ``listen`` starts it.

        answer: messages for a query and a packed client address, none: the connection ends; made one by one when the
        one before is on its way, must not raise but ``OSError``. fast: is asked first. later: as ``answer``, for what
        ``needs_reconciler``; None: ``answer`` gets it. idle: seconds for one query to arrive, and at most for a full
        buffer to be read again.
        """
        self._later = later
        self._answer = answer
        self._fast = fast
        self._counts = counts
        self._idle = idle
        self._limit = connections
        self._limit_per_client = connections_per_client
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: Connections[_Connection] = Connections(connections)
        self._served: set[_Connection] = set()
        """All that have not ended, those that gave way as well."""
        self._read_until = math.inf

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def listen(self, sock: socket.socket) -> asyncio.Server:
        """Serve a listening socket; closed by ``close``, or by the result's: then connections go on."""
        server = await asyncio.start_server(self._accepted, sock=sock, limit=_READ_AHEAD, backlog=_BACKLOG)
        self._servers = [*(one for one in self._servers if one.is_serving()), server]
        return server

    async def close(self) -> None:
        """Accept no more; answer what was asked, for up to ``idle`` seconds, and end all connections.

        What a client has sent without waiting for replies may not have been read yet: a connection ends when nothing
        more comes for a moment. From clients that never stop, nothing is read for the second half of the time.
        """
        for server in self._servers:
            server.close()
        now = asyncio.get_running_loop().time()
        self._read_until = now + self._idle / 2
        for connection in self._served:
            if connection.wait is not None and not connection.wait.expired():
                connection.wait.reschedule(now + self._idle_timeout())
        for _ in range(_ACCEPTING):
            await asyncio.sleep(0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._idle)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if peer is None:  # reset before it was accepted
            writer.transport.abort()
            return
        connection = _Connection(packed(peer[0]), reader, writer)
        if self._connections.of(connection.address) >= self._limit_per_client:
            self._counts.dropped("tcp", "connections")
            writer.transport.abort()
            return
        for evicted in self._connections.make_room():
            self._counts.dropped("tcp", "gave_way")
            evicted.writer.transport.abort()
        self._connections.add(connection)
        self._served.add(connection)
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: _Connection) -> None:
        reader, writer = connection.reader, connection.writer
        writer.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        try:
            # Resets, silence and the end of input are how connections end: no errors.
            with contextlib.suppress(OSError, TimeoutError):
                await self._converse(connection)
            if self._closing:
                await self._linger(reader, writer)
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._patience(writer)):
                    await writer.wait_closed()  # last replies are still on their way
        finally:
            writer.transport.abort()
            self._connections.discard(connection)
            self._served.discard(connection)

    async def _converse(self, connection: _Connection) -> None:
        address, writer = connection.address, connection.writer
        data, at = b"", 0
        while asyncio.get_running_loop().time() < self._read_until:
            if _frame_end(data, at) is None:
                data, at = await self._read(connection, data[at:]), 0
            end = _frame_end(data, at)
            if end is None:
                return
            replies, at = self._fast.answer(data, at, _RUN)
            if replies:
                connection.answered += len(replies)
                await self._send(writer, b"".join(replies))
                await asyncio.sleep(0)
                continue
            message, at = data[at + _PREFIX : end], end
            if self._later is not None and needs_reconciler(message):
                slow = await self._later(message, address)
            else:
                slow = self._answer(message, address)
            answerable = False
            for reply in slow:
                answerable = True
                await self._send(writer, len(reply).to_bytes(_PREFIX, "big") + reply)
                connection.answered += 1
                if connection.answered % _TURN == 0 or len(reply) > _LONG:
                    await asyncio.sleep(0)
            if not answerable:
                return  # without a query, the client has lost the framing

    async def _read(self, connection: _Connection, begun: bytes) -> bytes:
        """What was begun and what follows it, a whole query at least; less: the client has closed."""
        data = bytearray(begun)
        async with asyncio.timeout(self._idle_timeout()) as wait:
            connection.wait = wait
            try:
                while _frame_end(data, 0) is None and (more := await connection.reader.read(_READ_AHEAD)):
                    data += more
            finally:
                connection.wait = None
        return bytes(data)

    async def _send(self, writer: asyncio.StreamWriter, framed: bytes) -> None:
        """Send, and wait while the client is slow to read; one that is slower than it may be loses the connection."""
        if writer.transport.is_closing():
            raise ConnectionAbortedError
        writer.write(framed)
        if writer.transport.get_write_buffer_size():
            async with asyncio.timeout(self._patience(writer)):
                await writer.drain()

    def _patience(self, writer: asyncio.StreamWriter) -> float:
        """Seconds in which the client has to read what waits for it."""
        return min(self._idle, _GRACE + writer.transport.get_write_buffer_size() / _LEAST_RATE)

    @property
    def _closing(self) -> bool:
        return self._read_until < math.inf

    def _idle_timeout(self) -> float:
        """Seconds to wait for a query."""
        if self._closing:
            return min(_QUIET, self._idle)
        crowded = 2 * len(self._tasks) > self._limit
        return self._idle / _CROWDED if crowded else self._idle

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Half-close, and read until the client closes: with unread data, close() would send a reset.

        A reset throws away what is still on its way to the client.
        """
        with contextlib.suppress(OSError, TimeoutError):
            writer.write_eof()
            while True:
                async with asyncio.timeout(_LAST_WORD):
                    if not await reader.read(_READ_AHEAD):
                        return


def _frame_end(data: bytes | bytearray, at: int) -> int | None:
    """Where the message ends whose length is at ``at``; None: it is not whole."""
    if len(data) - at < _PREFIX:
        return None
    end = at + _PREFIX + (data[at] << 8 | data[at + 1])
    return end if end <= len(data) else None
