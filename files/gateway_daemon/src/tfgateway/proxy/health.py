"""Health checks of the targets of static services, and the addresses of their names."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tfgateway.net.addresses import is_literal, shown
from tfgateway.net.sockets import resolve
from tfgateway.proxy.routing.static_services import StaticService
from tfgateway.proxy.upstream.balance import Member
from tfgateway.settings import CheckSettings
from tfgateway.telemetry.logs import logger

_RESOLVE_EVERY = 30.0  # seconds
_RESOLVE_SOON = 2.0  # seconds until the next try for a name that has no address
_FIRST_TIME = 5.0  # seconds that the start waits for names
_MOST_ADDRESSES = 16
_STATUS_LINE = 256  # bytes of an answer that are read at most
_SPREAD = 0.1  # of an interval, at random, so that the workers do not check all at once

_log = logger("proxy")


class Watch:
    """The tasks that check and resolve, and their metrics."""

    def __init__(self, services: Sequence[StaticService]) -> None:
        self._services = services
        self._tasks: list[asyncio.Task[None]] = []
        self._checks: dict[tuple[str, str, str], int] = {}

    async def start(self) -> None:
        """Names have their addresses afterwards, if they can be had quickly."""
        names = [member for _, member in self._members() if not is_literal(member.address)]
        if names:
            await asyncio.wait([asyncio.create_task(_resolve(member)) for member in names], timeout=_FIRST_TIME)
        for member in names:
            self._tasks.append(asyncio.create_task(_keep_resolved(member)))
        for service, member in self._members():
            if service.check is not None:
                self._tasks.append(asyncio.create_task(self._keep_checked(service, member, service.check)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def metrics(self) -> Iterator[Metric]:
        """For the metrics page."""
        up = GaugeMetricFamily("tfgateway_proxy_target_up", "1: the target works", labels=["service", "target"])
        active = GaugeMetricFamily(
            "tfgateway_proxy_target_connections_active", "Connections open now", labels=["service", "target"]
        )
        for service, member in self._members():
            labels = [service.name, label(member)]
            up.add_metric(labels, float(member.up and bool(member.addresses)))
            active.add_metric(labels, member.active)
        yield up
        yield active
        checks = CounterMetricFamily(
            "tfgateway_proxy_target_checks", "Checks of targets", labels=["service", "target", "outcome"]
        )
        for labels_of, count in self._checks.items():
            checks.add_metric(list(labels_of), count)
        yield checks

    def _members(self) -> Iterator[tuple[StaticService, Member]]:
        for service in self._services:
            for member in service.pool.members:
                yield service, member

    async def _keep_checked(self, service: StaticService, member: Member, check: CheckSettings) -> None:
        while True:
            problem = await _check(service, member, check)
            outcome = "failed" if problem else "passed"
            key = (service.name, label(member), outcome)
            self._checks[key] = self._checks.get(key, 0) + 1
            if member.observe(problem is None, time.monotonic()):
                _log.warning(
                    "target is up" if member.up else "target is down",
                    service=service.name,
                    target=label(member),
                    reason=problem or "",
                )
            await asyncio.sleep(check.interval * random.uniform(1 - _SPREAD, 1 + _SPREAD))  # noqa: S311


def label(member: Member) -> str:
    """How metrics and log name a target."""
    return shown(member.address, member.http_port or member.tls_port)


async def _check(service: StaticService, member: Member, check: CheckSettings) -> str | None:
    """None: it works; else what is wrong."""
    address = member.next_address()
    if address is None:
        return "its name has no address"
    port = check.port or member.http_port or member.tls_port
    writer = None
    try:
        async with asyncio.timeout(check.timeout):
            reader, writer = await asyncio.open_connection(address, port, limit=_STATUS_LINE)
            if check.type == "tcp":
                return None
            host = check.host or service.name
            request = f"GET {check.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tfgateway\r\nConnection: close\r\n\r\n"
            writer.write(request.encode("ascii", "replace"))
            return _judge(await reader.readline())
    except TimeoutError:
        return f"no answer in {check.timeout:g} s"
    except OSError as error:
        return error.strerror or type(error).__name__
    except ValueError:
        return "its answer is no HTTP"
    finally:
        if writer is not None:
            writer.transport.abort()


def _judge(status_line: bytes) -> str | None:
    parts = status_line.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
        return "its answer is no HTTP"
    return None if int(parts[1]) < 400 else f"it answered with status {int(parts[1])}"


async def _keep_resolved(member: Member) -> None:
    while True:
        await asyncio.sleep(_RESOLVE_EVERY if member.addresses else _RESOLVE_SOON)
        await _resolve(member)


async def _resolve(member: Member) -> None:
    """Ask the system; what was known stays when it has no answer."""
    with contextlib.suppress(OSError):
        found = await resolve(member.address, 0)
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))[:_MOST_ADDRESSES]
        if addresses and addresses != member.addresses:
            _log.info("target resolved", target=label(member), addresses=" ".join(addresses))
            member.addresses = addresses
