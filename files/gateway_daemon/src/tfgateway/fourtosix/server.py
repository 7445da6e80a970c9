"""The 4to6 plane: keeps the peers of the interface in step with redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from prometheus_client import CollectorRegistry

from tfgateway.aio import first_of
from tfgateway.errors import ConfigError, GatewayError
from tfgateway.fourtosix.apply import Interface
from tfgateway.fourtosix.metrics import FourToSixMetrics
from tfgateway.fourtosix.peers import wanted_peers
from tfgateway.fourtosix.pool import AddressPool
from tfgateway.identity import seedfile
from tfgateway.mirror import HoldCollector, Mirror, Selection, SnapshotWriter
from tfgateway.mirror.disk import snapshot
from tfgateway.redis_schema.connection import connect_to_replica
from tfgateway.redis_schema.keys import PEERS
from tfgateway.redis_schema.login import FOURTOSIX
from tfgateway.settings import Settings
from tfgateway.telemetry import metrics as metrics_page
from tfgateway.telemetry.logs import logger

_AGAIN = 3.0
"""Seconds after which the interface is looked at although redis has not changed: others may have changed it."""

_log = logger("fourtosix")


async def serve(
    settings: Settings,
    *,
    stopping: asyncio.Event,
    ready: Callable[[], None],
    status: Callable[[str], None],
) -> None:
    """Keep the interface in step with redis until ``stopping`` is set; then leave it as it is, tunnels included.

    ``ready`` is called once it has the peers that redis names. Errors: ``ConfigError``, ``IdentityError``;
    ``GatewayError`` when the interface cannot be made.
    """
    if not settings.fourtosix.endpoint:
        raise ConfigError("fourtosix.endpoint: set it to the HOST:PORT that peers connect to")
    plane = _Plane(settings)
    # Also before redis answers: tunnels go on, and an interface that cannot be made is reported at once.
    await plane.converge()
    async with contextlib.AsyncExitStack() as stack:
        try:
            page = await metrics_page.serve(plane.registry, settings.fourtosix.metrics)
        except OSError as error:
            raise GatewayError(f"fourtosix.metrics: cannot listen: {error.strerror}") from error
        stack.push_async_callback(page.cleanup)
        status("waiting for redis")
        endless = [asyncio.create_task(work) for work in (plane.mirror.run(), plane.run(ready, status))]
        if plane.keeper is not None:
            endless.append(asyncio.create_task(plane.keeper.run()))
        for task in endless:
            stack.callback(task.cancel)
        await first_of(stopping.wait(), beside=endless)


class _Plane:
    """The wanted peers from redis, and the interface to apply them to."""

    def __init__(self, settings: Settings) -> None:
        own = settings.fourtosix
        self._pool = AddressPool(seedfile.load(Path(settings.identity.seed)).seed, own.private_key)
        self._interface = Interface(own.interface, own.listen_port, self._pool, _log)
        self._wanted: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._trouble = ""
        redis, selection = partial(connect_to_replica, settings.redis, FOURTOSIX), Selection(match=PEERS.encode())
        file = snapshot.path_of("fourtosix")
        self.mirror = Mirror(redis, selection, self._take, _log, file=file, hold_for=settings.redis.hold_for)
        self.keeper = None if file is None else SnapshotWriter(self.mirror, redis, selection, file, _log)
        self.registry = CollectorRegistry()
        self.registry.register(HoldCollector("fourtosix", self.mirror))
        self._metrics = FourToSixMetrics(self.registry, self.mirror.age)

    async def run(self, ready: Callable[[], None], status: Callable[[str], None]) -> NoReturn:
        """Compare and repair, at every change in redis and from time to time; whatever fails is tried again."""
        known = announced = False
        while True:
            await _until(self._changed if known else self.mirror.ready, _AGAIN)
            self._changed.clear()
            known = self.mirror.ready.is_set()
            try:
                await self.converge()
            except GatewayError as error:
                self._metrics.passes_failed.inc()
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    _log.error("interface not as it should be", reason=self._trouble)
                    status(self._trouble)
                continue
            if self._trouble:
                self._trouble = ""
                status("serving")
            if known and not announced:
                announced = True
                ready()
                status("serving")

    async def converge(self) -> None:
        """One pass; before redis has named its peers, those of the interface stay. Errors: ``GatewayError``."""
        self._metrics.passes.inc()
        current = self.mirror.resyncs > 0
        self._metrics.count(await self._interface.converge(self._wanted, current=current))

    def _take(self, _key: bytes, value: object) -> None:
        self._wanted, problems = wanted_peers(value if isinstance(value, dict) else {}, self._pool)
        for problem in problems:
            _log.warning("peer skipped", reason=problem)
        self._metrics.refused.set(len(problems))
        self._changed.set()


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
