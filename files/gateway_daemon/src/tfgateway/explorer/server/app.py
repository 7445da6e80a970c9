"""The explorer as an aiohttp application, and as a process."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from prometheus_client import CollectorRegistry

from tfgateway.aio import end
from tfgateway.errors import ExplorerError
from tfgateway.explorer.server import health
from tfgateway.explorer.server.api import admissions, farms, gateways, http, nodes, pools, users, workloads
from tfgateway.explorer.server.api.access import auth
from tfgateway.explorer.server.api.services import SERVICES, Services
from tfgateway.explorer.server.connections import ConnectionLimits, LimitedConnection
from tfgateway.explorer.server.fair_turns import FairTurns
from tfgateway.explorer.server.metrics import ExplorerMetrics
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.engine import DatabaseEngine
from tfgateway.explorer.server.storage.long_polls import LongPolls
from tfgateway.explorer.urls import API
from tfgateway.telemetry.logs import logger
from tfgateway.telemetry.text import printable

_DRAIN = 5.0
_BACKLOG = 4096  # after a restart every gateway of the grid connects at once; who finds it full waits for seconds
_ACCEPTED_IN_ONE_TURN = 64  # of the event loop: what has been accepted before is waiting
_OTHER_DESCRIPTORS = 64  # database, listeners, metrics page and its clients
_LONGEST_PATH = 200  # of a request in the log
_log = logger("explorer")
METRICS = web.AppKey("metrics", CollectorRegistry)
"""The application's registry."""


class RequestLog(AbstractAccessLogger):
    """One event an answer; headers and bodies, which may hold signatures and addresses, stay out of it."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        _log.info(
            "request",
            remote=request.remote,
            method=request.method,
            path=printable(request.raw_path, _LONGEST_PATH),
            status=response.status,
            bytes=response.body_length,
            milliseconds=round(time * 1000, 1),
        )


def create_app(
    engine: DatabaseEngine, policy: ExplorerPolicy | None = None, *, clock: Callable[[], float] = time.time
) -> web.Application:
    """The application; its start opens (or creates) the database. clock: Unix seconds."""
    policy = policy or ExplorerPolicy()
    database = Database(engine, policy.registration or RegistrationMode.CLOSED)
    metrics = ExplorerMetrics(lambda: services.long_polls.waiting, lambda: services.limits.memory, database.calls)
    feed = LongPolls(policy.max_waiting, lambda: metrics.evicted("polls"))
    limits = ConnectionLimits(_connections(policy), policy.max_memory, metrics.evicted)
    changes = engine.changes()
    services = Services(database, policy, feed, changes, limits, clock)

    async def opened(_app: web.Application) -> AsyncIterator[None]:
        await services.database.open()
        _log.info("registration", mode=services.registration, because=_why(services))
        listening = asyncio.create_task(changes.run(feed.publish, feed.publish_all))
        await changes.listening()
        yield
        await end([listening])
        await services.database.close()

    async def answer_waiting(_app: web.Application) -> None:
        services.long_polls.close()

    middlewares = [FairTurns().middleware, metrics.count, http.close_while_draining, http.bounded_head]
    middlewares += [http.preflight, http.errors_as_json]
    app = web.Application(client_max_size=policy.max_body, middlewares=middlewares)
    app[SERVICES] = services
    app[METRICS] = metrics.registry
    app.cleanup_ctx.append(opened)
    app.on_shutdown.append(answer_waiting)
    app.on_response_prepare.append(http.allow_origins)
    app.on_response_prepare.append(auth.add_pin)
    for endpoints in (users, farms, admissions, gateways, pools, workloads, nodes):
        app.router.add_routes([web.route(r.method, API + r.path, r.handler) for r in endpoints.ROUTES])
    app.router.add_routes(health.ROUTES)
    return app


def _why(services: Services) -> str:
    """Where the mode of registration comes from."""
    if services.policy.registration is not None:
        return "--registration says so"
    if services.database.registration is not None:
        return "the database was made so"
    return "the database is of an older release; --registration closed closes it"


def _connections(policy: ExplorerPolicy) -> int:
    """How many there may be: others need descriptors too."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(policy.max_connections, descriptors - _OTHER_DESCRIPTORS), 1)


def _discarded() -> logging.Logger:
    """Discards aiohttp's tracebacks of requests that are not HTTP, so that no client can fill the log with them.

    They are in the access log with status 400; what fails in a handler is logged by ``errors_as_json``.
    """
    discarded = logging.getLogger("tfgateway.explorer.http")
    discarded.addHandler(logging.NullHandler())
    discarded.propagate = False
    return discarded


def _listener(host: str, port: int, read_timeout: float) -> socket.socket:
    """A socket whose connections end when the peer takes nothing for ``read_timeout`` seconds. Errors: ``OSError``."""
    listener = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
    )
    # Connections inherit it. A peer with a closed window still answers keep-alive probes, which find only dead ones.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(read_timeout * 1000))
    return listener


async def serve(
    app: web.Application,
    addresses: Sequence[tuple[str, int]],
    stopping: asyncio.Event,
    ready: Callable[[], None],
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve at all ``addresses`` until ``stopping`` is set, then answer what is under way and return.

    Polls that wait are answered at once then, and load balancers have ``policy.drain`` seconds to notice.

    ready: called once connections are accepted. Errors: ``StoreError``, ``ExplorerError`` when the address is taken.
    """
    services = app[SERVICES]
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(app, shutdown_timeout=_DRAIN)
    listeners: list[asyncio.Server] = []
    try:
        await runner.setup()
        connection = partial(
            LimitedConnection,
            cast(web.Server, runner.server),
            services.limits,
            loop=loop,
            access_log_class=RequestLog,
            logger=_discarded(),
            keepalive_timeout=services.policy.idle_timeout,
            # No client compresses, and a little that is compressed can be very much.
            auto_decompress=False,
        )
        for host, port in addresses:
            try:
                listener = _listener(host, port, services.policy.read_timeout)
            except OSError as error:
                raise ExplorerError(f"cannot listen on {host} port {port}: {error.strerror}") from error
            listeners.append(
                await loop.create_server(connection, sock=listener, ssl=tls, backlog=_ACCEPTED_IN_ONE_TURN)
            )
            listener.listen(_BACKLOG)  # asyncio takes one number for both
            _log.info("serving", host=host, port=port, tls=tls is not None)
        ready()
        await stopping.wait()
        services.long_polls.close()
        await asyncio.sleep(services.policy.drain)
    finally:
        for server in listeners:
            server.close()
        await runner.cleanup()
