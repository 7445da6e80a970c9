"""The DNS plane as a whole: mirror, zones, serials and listeners, from start to an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from tfgateway.aio import first_of
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.server import configure, rate_limit_log
from tfgateway.dns.server.listeners import Listeners
from tfgateway.dns.server.metrics import DnsCollector
from tfgateway.dns.server.notify import Notify
from tfgateway.dns.server.updates.handler import UpdateHandler
from tfgateway.dns.server.updates.link import ReconcilerLink
from tfgateway.dns.zones.serial_store import SerialStore
from tfgateway.dns.zones.zone_loader import ZoneLoader
from tfgateway.dns.zones.zones import Zones
from tfgateway.mirror import HoldCollector, Mirror, SnapshotWriter, hold_metric
from tfgateway.mirror.disk import snapshot
from tfgateway.plane import WorkerContext
from tfgateway.redis_schema.connection import connect_to_master, connect_to_replica
from tfgateway.redis_schema.login import DNS, DNS_SERIALS
from tfgateway.settings import Settings
from tfgateway.telemetry.logs import logger

_log = logger("dns")

_STALE_AFTER = 60.0
"""Seconds without redis after which answers say that they may be old (RFC 8914 §4.4)."""
_LOOK_AT_AGE = 1.0


async def serve(settings: Settings, worker: WorkerContext) -> None:
    """Answer queries until ``worker.stopping`` is set.

    Nothing listens before all zones are loaded: resolvers that get no answer ask another server, while an early answer
    would say that a name does not exist. Errors: ``ConfigError``.
    """
    redis = partial(connect_to_replica, settings.redis, DNS)
    policy, service = configure.policy(settings), configure.service(settings.dns)
    limiter = configure.limiter(settings.dns.rate_limit, worker.workers)
    secondaries = configure.secondaries(settings.dns)
    zones = Zones()
    counts = QueryCounters()
    store = SerialStore(partial(connect_to_master, settings.redis, DNS_SERIALS))
    loader = ZoneLoader(zones, policy, store.book, _log, prefix=settings.dns.key_prefix, suffix=settings.dns.key_suffix)
    file = snapshot.path_of("dns")
    mirror = Mirror(redis, loader.selection, loader, _log, file=file, hold_for=settings.redis.hold_for)
    link = ReconcilerLink(settings.dns.updates.socket)
    updates = UpdateHandler(zones, service, link, counts, _log) if settings.dns.updates.enabled else None
    listeners = Listeners(zones, service, limiter, settings.dns, counts, _log, workers=worker.workers, updates=updates)
    registry = CollectorRegistry()
    registry.register(
        DnsCollector(
            counts,
            zones,
            mirror_age=mirror.age,
            damaged=lambda: loader.damaged,
            tcp_connections=lambda: listeners.tcp_connections,
            rate_limited=lambda: {} if limiter is None else limiter.over,
        )
    )
    registry.register(HoldCollector("dns", mirror))
    alike = ("tfgateway_dns_mirror_age_seconds", "tfgateway_dns_zones", "tfgateway_dns_names", hold_metric("dns"))
    worker.publish(registry, greatest=alike)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(link.close)
        stack.push_async_callback(listeners.close)
        endless: list[asyncio.Task[None]] = [asyncio.create_task(work) for work in (mirror.run(), store.run())]
        for task in endless:
            stack.callback(task.cancel)
        worker.status("waiting for redis")
        await first_of(worker.stopping.wait(), mirror.ready.wait(), beside=endless)
        if worker.stopping.is_set():
            return
        loader.forget_old_serials()
        endless.append(asyncio.create_task(_watch_age(mirror, zones, settings.dns.serve_stale)))
        stack.callback(endless[-1].cancel)
        await first_of(worker.ready(), beside=endless)
        await listeners.start(worker.listening)
        later: list[Coroutine[Any, Any, None]] = [rate_limit_log.run(limiter, _log), _cover(worker, listeners)]
        if worker.slot == 0:  # one does it for all
            later.append(Notify(zones, secondaries, counts, _log).run())
            if file is not None:
                later.append(SnapshotWriter(mirror, redis, loader.selection, file, _log).run())
        for work in later:
            endless.append(asyncio.create_task(work))
            stack.callback(endless[-1].cancel)
        worker.status("")
        await first_of(worker.stopping.wait(), beside=endless)
        await listeners.close()  # while the zones are still kept up to date


async def _cover(worker: WorkerContext, listeners: Listeners) -> None:
    """Serve the sockets of other workers as long as those are silent or gone."""
    changed = asyncio.Event()
    worker.on_covering(changed.set)
    while True:
        changed.clear()
        try:
            await listeners.cover(worker.covering)
        except OSError as error:  # its own sockets are served all the same
            _log.warning("sockets of another worker not served", reason=error.strerror)
        await changed.wait()


async def _watch_age(mirror: Mirror, zones: Zones, limit: float) -> None:
    """Keep the age of the zones up to date. limit: seconds for which they are served while redis does not answer."""
    while True:
        zones.set_age(stale=mirror.age() > min(_STALE_AFTER, limit / 2), expired=mirror.away() > limit)
        await asyncio.sleep(_LOOK_AT_AGE)
