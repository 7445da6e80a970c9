"""The ``/metrics`` page of a plane, on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from tfgateway.net.addresses import host_port

_LAST_PAGES = 2.0
"""Seconds for responses that are under way when the page ends."""
_ACCEPTED = 0.01
"""Seconds in which asyncio has made a connection of what it has accepted, and between looks at what is open."""


async def serve(registry: CollectorRegistry, listen: str) -> web.AppRunner:
    """Serve ``registry`` at ``http://listen/metrics``; the caller cleans the runner up. Errors: ``OSError``."""

    async def render() -> bytes:
        return generate_latest(registry)

    runner = await _runner(render)
    host, port = host_port(listen)
    await web.TCPSite(runner, host, port, reuse_port=True).start()
    return runner


async def serve_page(render: Callable[[], Awaitable[bytes]], sock: socket.socket) -> web.AppRunner:
    """Serve what ``render`` makes, at a bound socket that stays the caller's; the caller cleans the runner up.

    Errors: ``OSError``.
    """
    runner = await _runner(render)
    await web.SockSite(runner, sock.dup()).start()
    return runner


async def end_page(runner: web.AppRunner) -> None:
    """Stop accepting, answer every accepted connection, whose request may not have been read yet, and clean up."""
    for site in list(runner.sites):
        await site.stop()
    loop = asyncio.get_running_loop()
    ends = loop.time() + _LAST_PAGES
    await asyncio.sleep(_ACCEPTED)
    while runner.server and runner.server.connections and loop.time() < ends:  # noqa: ASYNC110 - aiohttp has no event
        await asyncio.sleep(_ACCEPTED)
    await runner.cleanup()


async def _runner(render: Callable[[], Awaitable[bytes]]) -> web.AppRunner:
    async def page(_request: web.Request) -> web.Response:
        response = web.Response(body=await render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
        response.force_close()  # one request a connection: when none is open, all were answered
        return response

    app = web.Application()
    app.router.add_get("/metrics", page)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_LAST_PAGES)
    await runner.setup()
    return runner
