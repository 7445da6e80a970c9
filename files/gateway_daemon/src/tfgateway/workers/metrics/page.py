"""The metrics page of a plane: a socket that outlives releases, and the server behind it."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tfgateway.errors import GatewayError
from tfgateway.plane import Endpoint, Plane
from tfgateway.telemetry.logs import logger
from tfgateway.workers.listen_sockets import bind
from tfgateway.workers.pool_spec import PoolSpec

if TYPE_CHECKING:
    from aiohttp import web

_BACKLOG = 128

_log = logger("workers")


def listen(plane: Plane, spec: PoolSpec) -> socket.socket:
    """The listening socket of the page; connections wait until it is served. Errors: ``GatewayError``."""
    endpoint = Endpoint("metrics", "tcp", spec.metrics)
    try:
        sock = bind(endpoint, shared=False)
        try:
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise GatewayError(f"{plane.name}.metrics: cannot listen on {spec.metrics}: {error.strerror}") from error
    return sock


class MetricsPage:
    """The server at one listening socket; it can be stopped and started again."""

    def __init__(self, sock: socket.socket, render: Callable[[], Awaitable[bytes]]) -> None:
        self.socket = sock
        self._render = render
        self._runner: web.AppRunner | None = None
        self._refused = False

    async def serve(self) -> None:
        """Serve, unless it is running. Errors: ``OSError``."""
        if self._runner is None:
            # Imported here: aiohttp takes a third of a worker's start and 8 MB, and workers serve no page.
            from tfgateway.telemetry import metrics

            self._runner = await metrics.serve_page(self._render, self.socket)

    async def keep_served(self) -> None:
        """Serve again after failures: each is logged, and the next call retries."""
        try:
            await self.serve()
        except OSError as error:
            if not self._refused:
                _log.error("metrics page not served: trying again", reason=str(error))
            self._refused = True
        else:
            self._refused = False

    async def pause(self) -> None:
        """Answer all accepted connections and stop; new ones wait for the next ``serve``."""
        runner, self._runner = self._runner, None
        if runner is not None:
            from tfgateway.telemetry import metrics

            await metrics.end_page(runner)

    def move(self, sock: socket.socket) -> None:
        """Serve at another socket from the next ``serve`` on; the previous one is closed."""
        if sock is not self.socket:
            self.socket.close()
            self.socket = sock
