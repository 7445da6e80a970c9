"""The gateway's entry in the explorer's directory: registration, heartbeat, counters."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from tfgateway import version
from tfgateway.aio import Backoff
from tfgateway.errors import ExplorerError, ExplorerRefused
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Gateway, Location, WorkloadCounts
from tfgateway.explorer.signing import Pin
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.status import DirectoryStatus
from tfgateway.settings import Settings
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")

HEARTBEAT = 600.0
"""Seconds between two reports of the uptime."""
_FORGOTTEN = 404


class DirectoryEntry:
    """Keeps the entry up to date; failures never keep the gateway from serving."""

    def __init__(
        self,
        client: ExplorerClient,
        identity: Identity,
        settings: Settings,
        locate: Callable[[], Awaitable[Location]],
        reachable_at: Callable[[str], None],
        report: Callable[[DirectoryStatus], Awaitable[None]],
    ) -> None:
        """reachable_at: called with the address from which the explorer has seen this gateway register.

        report: called with what became of the entry, whenever that changes.
        """
        self._client = client
        self._identity = identity
        self._settings = settings.gateway
        self._pins = settings.explorer.pin
        self._locate = locate
        self._reachable_at = reachable_at
        self._report = report
        self._reported: DirectoryStatus | None = None
        self._counts = WorkloadCounts()
        self._sent: WorkloadCounts | None = None
        self._registered = False
        self._next_heartbeat = 0.0
        self._changed = asyncio.Event()

    def count(self, counts: WorkloadCounts) -> None:
        """Set the number of reservations of each kind."""
        if counts != self._counts:
            self._counts = counts
            self._changed.set()

    def heartbeat(self) -> None:
        """Make the heartbeat due: the explorer was away, and may have lost the gateway."""
        self._next_heartbeat = 0.0
        self._changed.set()

    async def run(self) -> None:
        """Register and report until cancelled; after a failure with exponential, jittered back-off."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        await self._became(DirectoryStatus())  # what an earlier process has written is of another registration
        while True:
            self._changed.clear()
            try:
                if loop.time() >= self._next_heartbeat:
                    self._next_heartbeat = loop.time() + HEARTBEAT
                    await self._report_uptime()
                    await self._take_pin()
                await self._report_counts()
            except ExplorerError as error:
                self._next_heartbeat = 0.0
                _log.warning("directory entry not up to date", reason=str(error))
                await self._failed(error)
                await asyncio.sleep(backoff.failed())
                continue
            backoff.succeeded()
            await self._became(DirectoryStatus("listed", pin=self._client.pin))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), max(0.0, self._next_heartbeat - loop.time()))

    async def _failed(self, error: ExplorerError) -> None:
        if isinstance(error, ExplorerRefused):
            if self._registered and error.status == _FORGOTTEN:
                # It lost its database, or is another server by now; it may refuse new workloads until we register.
                self._registered = False
                await self._became(DirectoryStatus())
            else:
                await self._became(DirectoryStatus("refused", error.message))
        elif not self._registered:
            await self._became(DirectoryStatus("unavailable", str(error)))

    async def _became(self, status: DirectoryStatus) -> None:
        if status != self._reported:
            self._reported = status
            await self._report(status)

    async def _report_uptime(self) -> None:
        if not self._registered:
            await self._client.register_gateway(self._entry(await self._locate()))
            self._registered = True
            self._sent = None
            _log.info("registered", node_id=self._identity.node_id)
            with contextlib.suppress(ExplorerError):  # a hint: gateway.public_addresses is what is relied on
                self._reachable_at((await self._client.gateway(self._identity.node_id)).address)
        await self._client.send_uptime(self._identity.node_id, uptime())

    async def _take_pin(self) -> None:
        """Take the offer of a pin; a failure is no reason to report anything again, and the offer comes again."""
        if not self._pins or self._client.pin != Pin.OFFERED:
            return
        try:
            await self._client.take_pin(self._identity.node_id)
            await self._client.send_uptime(self._identity.node_id, uptime())  # and its answer says so
        except ExplorerError as error:
            _log.warning("pin not set", reason=str(error))
        else:
            _log.info("pinned: the explorer accepts only signatures of this gateway that are good for one request")

    async def _report_counts(self) -> None:
        counts = self._counts
        if counts != self._sent:
            await self._client.send_counters(self._identity.node_id, counts)
            self._sent = counts

    def _entry(self, location: Location) -> Gateway:
        settings = self._settings
        return Gateway(
            node_id=self._identity.node_id,
            farm_id=settings.farm_id,
            os_version=version(),
            location=location,
            public_key_hex=self._identity.public_key.hex(),
            managed_domains=settings.managed_domains,
            tcp_router_port=settings.tcp_client_port,
            dns_nameserver=settings.name_servers,
            free_to_use=settings.free_to_use,
        )


def uptime(path: Path = Path("/proc/uptime")) -> int:
    """Seconds since the machine started; 0 where the kernel does not say."""
    try:
        return int(float(path.read_text("ascii").split()[0]))
    except (OSError, ValueError, IndexError):
        return 0
