"""The DNS plane as a whole: mirror, zones, serials and listeners, from start to an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from tfgateway.dns import configure, limitlog
from tfgateway.dns.counts import Counts
from tfgateway.dns.listeners import Listeners
from tfgateway.dns.loader import Loader
from tfgateway.dns.metrics import DnsCollector
from tfgateway.dns.notify import Notify
from tfgateway.dns.serialstore import SerialStore
from tfgateway.dns.table import DnsTable
from tfgateway.layout.connection import connect_as
from tfgateway.mirror import Mirror
from tfgateway.plane import Seat
from tfgateway.settings import Settings
from tfgateway.telemetry.logs import logger

_log = logger("dns")


async def serve(settings: Settings, seat: Seat) -> None:
    """Answer queries until ``seat.stopping`` is set.

    Nothing listens before all zones are loaded: who asks until then hears nothing and asks another server, instead of
    being told that a name does not exist. Errors: ``ConfigError``.
    """
    redis = partial(connect_as, settings.redis)
    policy, service = configure.policy(settings), configure.service(settings.dns)
    limiter = configure.limiter(settings.dns.rate_limit, seat.workers)
    secondaries = configure.secondaries(settings.dns)
    table = DnsTable()
    counts = Counts()
    store = SerialStore(redis, _log)
    loader = Loader(table, policy, store.book, _log, prefix=settings.dns.key_prefix, suffix=settings.dns.key_suffix)
    mirror = Mirror(redis, loader.selection, loader, _log)
    listeners = Listeners(table, service, limiter, settings.dns, counts, _log)
    registry = CollectorRegistry()
    registry.register(
        DnsCollector(
            counts,
            table,
            mirror_age=mirror.age,
            damaged=lambda: loader.damaged,
            tcp_connections=lambda: listeners.tcp_connections,
            rate_limited=lambda: {} if limiter is None else limiter.over,
        )
    )
    seat.publish(
        registry,
        greatest=("tfgateway_dns_mirror_age_seconds", "tfgateway_dns_zones", "tfgateway_dns_names"),
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(listeners.close)
        endless = [asyncio.create_task(work) for work in (_follow(store, mirror), store.run())]
        for task in endless:
            stack.callback(task.cancel)
        seat.status("waiting for redis")
        await _first([seat.stopping.wait(), mirror.ready.wait()], endless)
        if seat.stopping.is_set():
            return
        loader.forget_old_serials()
        await _first([seat.ready()], endless)
        await listeners.start(seat.listening)
        endless.append(asyncio.create_task(limitlog.run(limiter, _log)))
        stack.callback(endless[-1].cancel)
        if seat.slot == 0:  # one says it for all
            endless.append(asyncio.create_task(Notify(table, secondaries, counts, _log).run()))
            stack.callback(endless[-1].cancel)
        seat.status("")
        await _first([seat.stopping.wait()], endless)


async def _follow(store: SerialStore, mirror: Mirror) -> None:
    """Serials first: a zone that did not change must not get a new one."""
    await store.restore()
    await mirror.run()


async def _first(waited: list[Coroutine[Any, Any, object]], endless: list[asyncio.Task[None]]) -> None:
    """Until one of ``waited`` is done. ``endless`` tasks end only by an error in this program, which is raised."""
    tasks = [asyncio.create_task(work) for work in waited]
    try:
        done, _ = await asyncio.wait([*tasks, *endless], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
