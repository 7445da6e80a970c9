"""Which requests a turn of the event loop begins to handle: few, and the networks of clients take turns.

A client that floods waits behind its own requests. Those of others begin in the next turn, however many wait.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from aiohttp import web
from aiohttp.typedefs import Handler

from tfgateway.explorer.server.connections import LimitedConnection, source
from tfgateway.fair_shares import Source

_IN_ONE_TURN = 16
"""Requests. Most take a quarter of a millisecond."""


class FairTurns:
    """Requests that wait until they may begin. Usually none does: there are fewer in a turn than may begin in it."""

    def __init__(self, in_one_turn: int = _IN_ONE_TURN) -> None:
        self._in_one_turn = in_one_turn
        self._left = in_one_turn
        self._waiting: OrderedDict[Source, deque[asyncio.Future[None]]] = OrderedDict()
        self._scheduled = False

    async def wait(self, network: Source, connection: LimitedConnection | None = None) -> None:
        """Return when a request of a client in this network may begin.

        Errors: ``ConnectionResetError``: the connection has ended meanwhile.
        """
        loop = asyncio.get_running_loop()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._next_turn)
        if self._left and not self._waiting:
            self._left -= 1
            return
        may_begin: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(network, deque()).append(may_begin)
        if connection is not None:
            connection.waiting = may_begin
        await may_begin

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request begin when it is its turn; one whose client has gone meanwhile is not handled."""
        connection = request.protocol
        await self.wait(source(request.transport), connection if isinstance(connection, LimitedConnection) else None)
        return await handler(request)

    def _next_turn(self) -> None:
        self._left = self._in_one_turn
        while self._left and self._waiting:
            network, queue = self._waiting.popitem(last=False)
            may_begin = queue.popleft()
            if queue:
                self._waiting[network] = queue
            if not may_begin.done():  # else its client has gone
                may_begin.set_result(None)
                self._left -= 1
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._next_turn)
