"""NOTIFY to secondaries when a zone has changed (RFC 1996), so that they need not wait for the SOA's refresh."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple, NoReturn

import dns.asyncquery
import dns.exception
import dns.message
import dns.tsig
from structlog.typing import FilteringBoundLogger

from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.query import HEADER
from tfgateway.dns.zones.zone import Zone
from tfgateway.dns.zones.zones import Zones

_FLAGS: Final = codes.OPCODE_NOTIFY << 11 | 0x0400  # AA (§3.6)
_COLLECTED: Final = 1.0
"""Seconds for which further changes of a zone are collected into one NOTIFY."""
_ATTEMPTS: Final = 6
_FIRST_RETRY: Final = 2.0
"""Seconds until an unanswered message is sent again; the next pause is twice as long, and so on."""
_TIMEOUT: Final = 2.0
_AT_ONCE: Final = 16
"""Messages under way to one secondary."""


class Secondary(NamedTuple):
    """A secondary that gets NOTIFY messages."""

    host: str
    port: int
    key: dns.tsig.Key | None = None
    """What messages and their answers are signed with."""


class Notify:
    """Sends NOTIFY when a zone changes. One process of the node does this for all."""

    def __init__(
        self,
        zones: Zones,
        secondaries: Sequence[Secondary],
        counts: QueryCounters,
        log: FilteringBoundLogger,
        *,
        collected: float = _COLLECTED,
        first_retry: float = _FIRST_RETRY,
        timeout: float = _TIMEOUT,
    ) -> None:
        """collected, first_retry, timeout: seconds."""
        self._zones = zones
        self._queues = [_Queue(item, zones, counts, log, first_retry, timeout) for item in secondaries]
        self._collected = collected
        self._announced: dict[Name, int] = {}
        """Zone -> the serial that was announced last."""
        self._changed: set[Name] = set()
        self._wake = asyncio.Event()

    async def run(self) -> NoReturn:
        """Announce every zone once, then each that changes, until cancelled. Does nothing without secondaries."""
        if self._queues:
            self._zones.watch(self._watch)
            for zone in self._zones:
                self._watch(zone.name, None)
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                for _ in range(_AT_ONCE):
                    group.create_task(queue.run())
            while True:
                await self._wake.wait()
                await asyncio.sleep(self._collected)
                self._wake.clear()
                while self._changed:
                    self._look_at(self._changed.pop())

    def _watch(self, zone: Name, _names: Collection[Name] | None) -> None:
        self._changed.add(zone)
        self._wake.set()

    def _look_at(self, name: Name) -> None:
        zone = self._zones.get(name)
        if zone is None:
            self._announced.pop(name, None)
        elif self._announced.get(name) != zone.serial:
            self._announced[name] = zone.serial
            for queue in self._queues:
                queue.add(name)


class _Queue:
    """The zones to announce to one secondary. One that does not answer delays no other."""

    def __init__(
        self,
        secondary: Secondary,
        zones: Zones,
        counts: QueryCounters,
        log: FilteringBoundLogger,
        first_retry: float,
        timeout: float,
    ) -> None:
        self._secondary = secondary
        self._zones = zones
        self._counts = counts
        self._log = log.bind(secondary=secondary.host, port=secondary.port)
        self._first_retry = first_retry
        self._timeout = timeout
        self._waiting: dict[Name, int] = {}
        """Zone -> attempts that were in vain."""
        self._some = asyncio.Event()
        self._silent = False

    def add(self, zone: Name, attempts: int = 0) -> None:
        """Announce this zone soon; a newer change starts the attempts anew."""
        self._waiting[zone] = min(attempts, self._waiting.get(zone, attempts))
        self._some.set()

    async def run(self) -> NoReturn:
        while True:
            await self._some.wait()
            if not self._waiting:
                self._some.clear()
                continue
            name = next(iter(self._waiting))
            attempts = self._waiting.pop(name) + 1
            zone = self._zones.get(name)
            if zone is None:
                continue
            if await self._notify(zone):
                continue
            if attempts < _ATTEMPTS:
                pause = self._first_retry * 2 ** (attempts - 1)
                asyncio.get_running_loop().call_later(pause, self.add, name, attempts)
            else:
                self._counts.notifies["unanswered"] += 1
                if not self._silent:
                    self._silent = True
                    self._log.warning("secondary does not answer NOTIFY", zone=names.to_text(name))

    async def _notify(self, zone: Zone) -> bool:
        """Send one NOTIFY. True: the secondary answered, with any rcode."""
        secondary = self._secondary
        question = zone.name + struct.pack("!HH", codes.SOA, codes.CLASS_IN)
        record = b"\xc0\x0c" + zone.soa.bodies[0]
        header = HEADER.pack(secrets.randbits(16), _FLAGS, 1, 1, 0, 0)
        message = dns.message.from_wire(header + question + record)
        if secondary.key is not None:
            message.use_tsig(secondary.key)
        try:
            answer = await dns.asyncquery.udp(
                message, secondary.host, self._timeout, secondary.port, ignore_unexpected=True, ignore_errors=True
            )
        except (OSError, dns.exception.DNSException):
            return False
        if secondary.key is not None and not answer.had_tsig:
            return False  # it may be forged
        outcome = "acknowledged" if answer.rcode() == codes.NOERROR else "refused"
        self._counts.notifies[outcome] += 1
        if outcome == "refused":
            self._log.warning("secondary refuses NOTIFY", zone=names.to_text(zone.name), rcode=int(answer.rcode()))
        elif self._silent:
            self._silent = False
            self._log.info("secondary answers NOTIFY again")
        return True
