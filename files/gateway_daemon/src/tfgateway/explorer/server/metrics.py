"""Metrics of one explorer, and the middleware that updates them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tfgateway.explorer.server.storage.engines.engine import TransactionKind

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
EVICTED = ("connections", "memory", "polls")
"""The limits under which clients that have most give way."""


class ExplorerMetrics:
    """Metrics in a registry of their own."""

    def __init__(
        self, waiting: Callable[[], int], memory: Callable[[], int], calls: Callable[[TransactionKind], int]
    ) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tfgateway_explorer_requests",
            "Requests by method, route and status of the answer.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tfgateway_explorer_request_seconds",
            "Time to answer, of polls that may wait excluded.",
            ["route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._evicted = Counter(
            "tfgateway_explorer_evicted",
            "What ended early so that others are served: connections, those that need memory, polls that wait.",
            ["limit"],
            registry=self.registry,
        )
        for limit in EVICTED:
            self._evicted.labels(limit)
        Gauge(
            "tfgateway_explorer_held_bytes",
            "Memory for requests that are not answered and answers that are not taken, estimated.",
            registry=self.registry,
        ).set_function(memory)
        database = Gauge(
            "tfgateway_explorer_database_calls",
            "Calls of the database that run or wait: of many rows (scan), of few (read), changes (write).",
            ["kind"],
            registry=self.registry,
        )
        for kind in TransactionKind:
            database.labels(kind.value).set_function(partial(calls, kind))
        Gauge(
            "tfgateway_explorer_polls_waiting", "Polls that are held back until there is news.", registry=self.registry
        ).set_function(waiting)

    def evicted(self, limit: str) -> None:
        """Count one of ``EVICTED``."""
        self._evicted.labels(limit).inc()

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware that counts requests; the outermost, so that it sees the final status."""
        started = time.monotonic()
        status = 500
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            resource = request.match_info.route.resource
            # Clients choose paths and methods: only those that exist become labels.
            route, method = (resource.canonical, request.method) if resource is not None else ("unknown", "any")
            self._requests.labels(method, route, status).inc()
            if "wait" not in request.query:
                self._seconds.labels(route).observe(time.monotonic() - started)
        return response
