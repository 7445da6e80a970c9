"""For load balancers and supervisors: whether the process lives, and whether it takes requests."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tfgateway.errors import StoreError
from tfgateway.explorer.server.api.services import SERVICES

_PATIENCE = 2.0
"""Seconds for the database to answer."""


async def alive(_request: web.Request) -> web.Response:
    """GET /healthz: the event loop turns; what else is wrong, a restart does not mend."""
    return web.Response(text="ok\n")


async def ready(request: web.Request) -> web.Response:
    """GET /readyz: 200, or 503 with the reason: no database, or one that takes no changes, or it is about to stop."""
    services = request.app[SERVICES]
    if services.long_polls.closed:
        return _unready("stopping")
    try:
        async with asyncio.timeout(_PATIENCE):
            await services.database.read(lambda connection: connection.execute("SELECT 1").fetchone())
    except (StoreError, TimeoutError):
        return _unready("the database does not answer")
    if problem := services.database.problem():
        return _unready(problem)
    return web.Response(text="ok\n")


def _unready(reason: str) -> web.Response:
    return web.Response(status=503, text=f"{reason}\n")


ROUTES = (web.get("/healthz", alive), web.get("/readyz", ready))
