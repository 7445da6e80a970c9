"""The reconciler as it runs: poll, look, plan, apply, report; one pass after the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from tfgateway import __version__
from tfgateway.errors import ConfigError, ExplorerError, StoreError
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Counts
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.layout.connection import connect
from tfgateway.layout.keys import RESERVATIONS
from tfgateway.reconciler import names
from tfgateway.reconciler.backoff import Backoff
from tfgateway.reconciler.board import Policy
from tfgateway.reconciler.directory import Directory
from tfgateway.reconciler.follower import Follower
from tfgateway.reconciler.lease import Holder, Lease
from tfgateway.reconciler.metrics import ReconcilerMetrics
from tfgateway.reconciler.outbox import Outbox
from tfgateway.reconciler.plan import Plan, plan
from tfgateway.reconciler.rows import Actual
from tfgateway.reconciler.store import Store
from tfgateway.reconciler.world import Records, read_records
from tfgateway.settings import Settings
from tfgateway.targets import networks, own_addresses
from tfgateway.telemetry import metrics
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")

_END_AGAIN = 0.2
"""Seconds after which a task that should have ended is told again."""


class Status(msgspec.Struct, frozen=True):
    """``tfgateway:status``: how the loop fares. Times in Unix seconds; 0: never."""

    version: str = ""
    last_poll: float = 0
    last_success: float = 0
    """When the explorer answered and the pass after it went through."""
    last_error: str = ""
    """Of the last poll or pass; empty: both went through."""
    outbox: int = 0
    held: str = ""
    """Why removals are held back; empty: they are not."""


def load_identity(settings: Settings) -> Identity:
    """The node's key pair. Errors: ``IdentityError``."""
    return Identity.from_seed(seedfile.load(Path(settings.identity.seed)).seed)


@contextlib.asynccontextmanager
async def open_redis(settings: Settings) -> AsyncIterator[Redis]:
    """The redis of the settings. Errors: ``ConfigError``."""
    redis = settings.redis
    client = connect(
        redis.url, timeout=redis.timeout, sentinels=redis.sentinels, sentinel_service=redis.sentinel_service
    )
    try:
        yield client
    finally:
        await client.aclose()


def open_explorer(settings: Settings, identity: Identity) -> ExplorerClient:
    """The explorer of the settings; an async context manager."""
    explorer = settings.explorer
    return ExplorerClient(
        explorer.url,
        identity=identity,
        key_id=identity.node_id,
        timeout=explorer.timeout,
        max_answer=explorer.max_answer,
    )


def make_policy(settings: Settings, identity: Identity) -> Policy:
    """What the settings allow. Errors: ``ConfigError`` for a managed domain that is no domain."""
    domains = tuple(domain.lower() for domain in settings.gateway.managed_domains)
    for domain in domains:
        if not names.is_valid(domain):
            raise ConfigError(f"gateway.managed_domains: '{domain}' is not a domain name (without a final dot)")
    return Policy(
        identity=identity,
        managed_domains=domains,
        allowed_targets=networks(settings.proxy.allowed_targets),
        own_addresses=own_addresses(),
        max_removal_share=settings.reconciler.max_removal_share,
        max_removal_count=settings.reconciler.max_removal_count,
    )


async def look(store: Store) -> tuple[Actual, Records]:
    """Redis as it is now, records decoded. Errors: ``StoreError``."""
    actual = await store.observe()
    return actual, read_records(actual.hashes.get(RESERVATIONS, {}).items())


class Reconciler:
    """One gateway's reconciler; whoever makes it opens and closes redis and client."""

    def __init__(self, settings: Settings, identity: Identity, redis: Redis, client: ExplorerClient) -> None:
        self._settings = settings
        self._identity = identity
        self._store = store = Store(redis)
        self._lease = Lease(redis, Holder.me(identity.node_id), settings.reconciler.lease)
        self._policy = make_policy(settings, identity)
        self.registry = CollectorRegistry()
        self._metrics = ReconcilerMetrics(self.registry)
        self._follower = Follower(client, identity.node_id, settings.reconciler.resync_interval, time.monotonic)
        self._desired = self._follower.desired
        self._outbox = Outbox(store, client, identity.node_id, self._desired)
        self._directory = Directory(client, identity, settings.gateway)
        self._problems: frozenset[str] = frozenset()
        self._status = Status(version=__version__)

    async def run(self, *, stopping: asyncio.Event, ready: Callable[[], None], status: Callable[[str], None]) -> None:
        """Reconcile until ``stopping`` is set. ``ready`` is called once the managed domains are claimed.

        The explorer may be away: what is recorded is repaired and served all the same. Errors: ``LeaseError``.
        """
        # None of them ever ends: when one fails on a bug, all end, and the service manager starts us again.
        claimed = asyncio.Event()
        tasks = [
            asyncio.create_task(work)
            for work in (
                stopping.wait(),
                self._cycles(status, ready, claimed),
                self._after(claimed, self._outbox.run),
                self._after(claimed, self._directory.run),
                self._after(claimed, self._lease.renew),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _end(tasks)
            await self._lease.release()

    async def once(self) -> Plan:
        """One poll, one pass, one attempt to deliver.

        Errors: ``ExplorerError`` (after the pass), ``StoreError``, ``LeaseError``.
        """
        await self._lease.take()
        renewing = asyncio.create_task(self._lease.renew())
        try:
            return await self._once()
        finally:
            await _end([renewing])
            await self._lease.release()

    async def _once(self) -> Plan:
        problem: ExplorerError | None = None
        try:
            await self._poll()
        except ExplorerError as error:
            problem = error
        made = await self._reconcile()
        await self._outbox.flush()
        await self._write_status()
        if problem is not None:
            raise problem
        return made

    async def preview(self) -> Plan:
        """The plan of the next pass, which changes nothing. Errors: ``ExplorerError``, ``StoreError``."""
        await self._follower.poll()
        actual, records = await look(self._store)
        await self._follower.ask_for(self._desired.unlisted([*records.entries, *records.damaged]))
        return self._plan(actual, records)

    async def _after(self, claimed: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
        """Nothing is told to the explorer before the managed domains are claimed: it looks them up (spec dns §12)."""
        await claimed.wait()
        await work()

    async def _first_pass(self, status: Callable[[str], None]) -> None:
        backoff = Backoff(longest=5.0)
        while True:
            try:
                await self._lease.take()
                await self._reconcile()
            except StoreError as error:
                status(f"waiting for redis: {error}")
                _log.warning("waiting for redis", reason=str(error))
                await asyncio.sleep(backoff.failed())
            else:
                return

    async def _cycles(self, status: Callable[[str], None], ready: Callable[[], None], claimed: asyncio.Event) -> None:
        await self._first_pass(status)
        ready()
        claimed.set()
        loop = asyncio.get_running_loop()
        interval = self._settings.explorer.poll_interval
        told = ""
        while True:
            started = loop.time()
            error = await self._cycle()
            self._status = msgspec.structs.replace(self._status, last_error=error)
            with contextlib.suppress(StoreError):
                await self._write_status()
            text = error or f"in step with the explorer, {self._status.outbox} answers wait for it"
            if text != told:
                status(text)
                told = text
            await asyncio.sleep(max(0.0, started + interval - loop.time()))

    async def _cycle(self) -> str:
        """One poll and one pass; what went wrong, if anything."""
        problem = ""
        try:
            await self._poll()
        except ExplorerError as error:
            problem = str(error)
            self._metrics.polls_failed.inc()
            _log.warning("poll failed", reason=problem)
        try:
            await self._reconcile()
        except StoreError as error:
            self._metrics.passes_failed.inc()
            _log.warning("pass ended early", reason=str(error))
            return str(error)
        if not problem:
            self._status = msgspec.structs.replace(self._status, last_success=time.time())
            self._metrics.last_success.set(self._status.last_success)
        return problem

    async def _poll(self) -> None:
        self._status = msgspec.structs.replace(self._status, last_poll=time.time())
        self._metrics.last_poll.set(self._status.last_poll)
        await self._follower.poll()

    async def _reconcile(self) -> Plan:
        """One pass. What was applied stays when it ends early. Errors: ``StoreError``, ``LeaseError``."""
        started = time.monotonic()
        await self._lease.hold()
        actual, records = await look(self._store)
        if unlisted := self._desired.unlisted([*records.entries, *records.damaged]):
            await self._follower.ask_for(unlisted)
        made = self._plan(actual, records)
        self._tell(made)
        for step in made.steps:
            failure = await self._store.apply(step.transaction, self._lease.row)
            if failure:
                # The next pass looks again and decides anew.
                self._metrics.steps_failed.labels(step.action).inc()
                _log.warning("step not done", step=str(step), reason=failure)
                continue
            self._metrics.done(step.action)
            _log.info(
                str(step.action),
                id=step.id,
                type=step.type,
                domain=step.domain,
                user=step.user,
                message=step.message,
            )
        if made.steps:
            self._outbox.wake()
        self._count(records)
        self._metrics.pass_seconds.set(time.monotonic() - started)
        return made

    def _plan(self, actual: Actual, records: Records) -> Plan:
        # Addresses of this host come and go while we run.
        policy = replace(self._policy, own_addresses=own_addresses())
        return plan(self._desired, records, actual, policy, time.time_ns())

    def _tell(self, made: Plan) -> None:
        """Trouble is logged when it begins, not again with every pass."""
        problems = frozenset(made.problems)
        for text in sorted(problems - self._problems):
            _log.warning("problem", reason=text)
        if made.held and made.held != self._status.held:
            _log.error("removals held back", reason=made.held)
        self._problems = problems
        self._status = msgspec.structs.replace(self._status, held=made.held)
        self._metrics.problems.set(len(problems))
        self._metrics.held.set(bool(made.held))

    def _count(self, records: Records) -> None:
        counts = Counter(record.type for record in records.entries.values())
        self._metrics.reservations(counts)
        self._directory.count(
            Counts(
                proxy=_uint16(counts["proxy"]),
                reverse_proxy=_uint16(counts["reverse_proxy"]),
                subdomain=_uint16(counts["subdomain"]),
                delegate_domain=_uint16(counts["domain_delegate"]),
            )
        )

    async def _write_status(self) -> None:
        self._status = msgspec.structs.replace(self._status, outbox=await self._store.outbox_length())
        self._metrics.outbox.set(self._status.outbox)
        await self._store.write_status(msgspec.json.encode(self._status))


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel until all have ended: ``asyncio.wait_for`` of Python 3.11, which redis-py uses, may swallow a cancellation
    (python/cpython#86296)."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_END_AGAIN)


def _uint16(count: int) -> int:
    """The explorer's counters have 16 bits."""
    return min(count, 65535)


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Reconciler]:
    """A reconciler made of the settings. Errors: ``ConfigError``, ``IdentityError``."""
    identity = load_identity(settings)
    async with open_redis(settings) as redis, open_explorer(settings, identity) as client:
        yield Reconciler(settings, identity, redis, client)


async def serve(
    settings: Settings, *, stopping: asyncio.Event, ready: Callable[[], None], status: Callable[[str], None]
) -> None:
    """Reconcile until ``stopping`` is set. Errors: ``ConfigError``, ``IdentityError``, ``LeaseError``."""
    async with opened(settings) as reconciler:
        try:
            page = await metrics.serve(reconciler.registry, settings.reconciler.metrics)
        except OSError as error:
            raise ConfigError(f"reconciler.metrics: cannot listen: {error.strerror}") from error
        try:
            await reconciler.run(stopping=stopping, ready=ready, status=status)
        finally:
            await page.cleanup()
