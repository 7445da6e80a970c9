"""Connections of the explorer: how many there may be, and how much memory all together may keep busy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

from aiohttp import web, web_protocol
from aiohttp.web_protocol import RequestHandler

from tfgateway.fair_shares import FairShares, Source
from tfgateway.net import addresses
from tfgateway.telemetry.logs import logger

_log = logger("explorer")
_COPIES = 2  # of each byte: headers are kept as bytes and as text, an answer also in the transport
_READ_SIZE = 16 * 1024
_LINE = 256  # bytes of objects for each header, and each chunk of a body, however short it is

web_protocol.MAX_MSG_QUEUE_SIZE = 1  # requests that are read ahead: nobody sends several but to make us keep them


class ConnectionLimits:
    """The limits that all connections share. evicted: called with ``connections`` or ``memory`` for each one closed.

    A connection over a limit is never refused: one of the source that has most is closed in its place, an idle one
    before others. Memory is estimated in bytes.
    """

    def __init__(self, max_connections: int, max_memory: int, evicted: Callable[[str], None]) -> None:
        self._connections = FairShares[RequestHandler](max_connections)
        self._memory = FairShares[RequestHandler](max_memory)
        self._evicted = evicted

    @property
    def connections(self) -> int:
        """How many there are."""
        return self._connections.total

    @property
    def memory(self) -> int:
        """What requests that are not answered and answers that clients have not taken need."""
        return self._memory.total

    def opened(self, connection: RequestHandler) -> None:
        """Count a new connection."""
        self._connections.add(connection, [source(connection.transport)], 1)
        self._evict(self._connections, "connections")

    def closed(self, connection: RequestHandler) -> None:
        """Forget a connection that has ended."""
        self._connections.remove(connection)
        self._memory.remove(connection)

    def received(self, connection: RequestHandler, data: bytes) -> None:
        """Count what has arrived of requests."""
        self._connections.mark_busy(connection)
        self._hold(connection, _COPIES * len(data) + _LINE * data.count(b"\n"))

    def answered(self, connection: RequestHandler) -> None:
        """Note that nothing is left of what has arrived or was to be sent."""
        self._connections.mark_idle(connection)
        self._memory.remove(connection)

    @contextmanager
    def sending(self, connection: RequestHandler, size: int) -> Iterator[None]:
        """Count ``size`` bytes of an answer for as long as the context lasts."""
        client = source(connection.transport)
        self._hold(connection, _COPIES * size)
        try:
            yield
        finally:
            self._memory.add(connection, [client], -_COPIES * size)

    def _hold(self, connection: RequestHandler, size: int) -> None:
        if connection.transport is not None:  # it has not ended meanwhile
            self._memory.add(connection, [source(connection.transport)], size)
            self._evict(self._memory, "memory")

    def _evict(self, shares: FairShares[RequestHandler], limit: str) -> None:
        for connection in shares.evict():
            self._evicted(limit)
            transport = connection.transport
            _log.warning("connection closed", limit=limit, remote=_remote(transport), most=shares.limit)
            self.closed(connection)
            connection.force_close()
            if transport is not None:
                transport.abort()


class LimitedConnection(RequestHandler):
    """One connection of a client, as aiohttp serves it, under the limits."""

    __slots__ = ("_limits", "waiting")

    def __init__(self, manager: web.Server, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(manager, **options)
        self._limits = limits
        self.waiting: asyncio.Future[None] | None = None
        """What its request waits for until it may begin: fails when the connection ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # An answer counts until the kernel has all of it, and the next request waits until then.
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=0)
        # A piece is parsed before it is counted, and so are those of other connections in the same turn of the loop.
        cast(Any, transport).max_size = _READ_SIZE
        self._limits.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._limits.closed(self)
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(ConnectionResetError("the client has gone"))

    def data_received(self, data: bytes) -> None:
        if data:
            self._limits.received(self, data)
        super().data_received(data)

    def force_close(self) -> None:
        super().force_close()
        # Now, and not when the loop comes to it: until then, all others may have been read from.
        while len(self._messages) > 1:
            self._messages.pop()
        # It may be about to be handled, and must not wait for the rest of its body.
        for _, body in self._messages:
            body.set_exception(ConnectionResetError("the connection is closed"))
        if self._current_request is not None:
            # Its handler ends when the loop comes to it; what has come of its body must not stay until then.
            with contextlib.suppress(RuntimeError, ConnectionError):  # nothing has come, or the client has gone
                self._current_request.content.read_nowait()
        self._parser = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        # aiohttp's own answers repeat what a client sent, which may be no text.
        if isinstance(exc, UnicodeError):
            status, message = 400, "not UTF-8"
        return super().handle_error(request, status, exc, message)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        if not self._messages:  # else more requests have arrived behind this one
            self._limits.answered(self)
        return finished


class _Peer(Protocol):
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


def source(transport: _Peer | None) -> Source:
    """What the client of a connection counts for; empty when it is unknown."""
    return addresses.source(_remote(transport))


def _remote(transport: _Peer | None) -> str:
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else ""
