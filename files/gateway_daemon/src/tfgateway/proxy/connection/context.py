"""State shared by all connections of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from tfgateway.net.addresses import IPNetwork
from tfgateway.proxy.connection.access_log import AccessLog
from tfgateway.proxy.eventloop.deadlines import Deadlines
from tfgateway.proxy.eventloop.engine import Engine, Expiring
from tfgateway.proxy.limits import Admission
from tfgateway.proxy.loops.guard import LoopGuard
from tfgateway.proxy.metrics import ProxyMetrics
from tfgateway.proxy.relay.pipes import Pipes
from tfgateway.proxy.routing.table import RouteTable
from tfgateway.proxy.upstream.dial import Dialler
from tfgateway.settings import ProxySettings
from tfgateway.tunnel.api import Tunnels

_LINGER_TIME = 2.0  # seconds for a refusal to leave and for the visitor to close
_CUT_WITHIN = 1.0  # seconds until those that were cut have ended
_MOST_PIPES = 32  # of 1 MiB: the kernel lets a user without privileges fill 64 MiB
_YOUNG = 1.0  # seconds
_IDLE_CHECKS = 4  # in the time of the idle time-out


class LiveConnection(Expiring, Protocol):
    """A connection that has not ended."""

    def cut(self) -> None:
        """End now: this process stops."""

    def evict(self) -> None:
        """End now: too many have not said yet what they ask for, and this is the oldest of them."""


class ProxyContext:
    """State shared by all connections of a worker; ``live`` are those that have not ended."""

    def __init__(
        self,
        settings: ProxySettings,
        *,
        engine: Engine,
        table: RouteTable,
        dialler: Dialler,
        tunnels: Tunnels,
        metrics: ProxyMetrics,
        trusted: Collection[IPNetwork],
        loop_guard: LoopGuard,
    ) -> None:
        """``trusted``: networks whose connections begin with a PROXY header."""
        self.loop_guard = loop_guard
        self.settings = settings
        self.engine = engine
        self.table = table
        self.dialler = dialler
        self.tunnels = tunnels
        self.metrics = metrics
        self.trusted = trusted
        self.access_log = AccessLog(settings.access_log) if settings.access_log else None
        self.admission = Admission(total=settings.max_connections, per_source=settings.max_connections_per_source)
        self.pipes = Pipes(_MOST_PIPES)
        self.heads: Deadlines[LiveConnection] = engine.watch_deadlines(Deadlines(settings.head_timeout))
        """Connections that have not said yet what they ask for."""
        self.dials: Deadlines[LiveConnection] = engine.watch_deadlines(Deadlines(settings.dial_timeout))
        self.idle_checks: Deadlines[LiveConnection] = engine.watch_deadlines(
            Deadlines(settings.idle_timeout / _IDLE_CHECKS)
        )
        """Relayed connections: whether they are idle is checked when these expire."""
        self.young: Deadlines[LiveConnection] = engine.watch_deadlines(Deadlines(_YOUNG))
        """Relayed connections that have just begun; most end before this expires."""
        self.lingering: Deadlines[LiveConnection] = engine.watch_deadlines(Deadlines(_LINGER_TIME))
        self.live: set[LiveConnection] = set()
        self._emptied = asyncio.Event()
        engine.add_housekeeping(self.pipes.trim)

    def leave(self, connection: LiveConnection) -> bool:
        """Remove a connection that ends. False: it was removed before."""
        live = self.live
        if connection not in live:
            return False
        live.remove(connection)
        if not live:
            self._emptied.set()
        return True

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - not an error when it is over
        """Wait up to ``timeout`` seconds until all connections have ended, then cut what is left."""
        if await self._empty_within(timeout):
            return
        late = list(self.live)
        for connection in late:
            connection.cut()
        await self._empty_within(_CUT_WITHIN)

    async def _empty_within(self, seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                while self.live:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            return False
        return True
