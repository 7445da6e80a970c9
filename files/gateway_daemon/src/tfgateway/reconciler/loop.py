"""The running reconciler: tasks that poll the explorer, make passes, deliver results and maintain the registration."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import msgspec
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from tfgateway import aio, machine, version
from tfgateway.aio import Backoff
from tfgateway.errors import ExplorerError, StoreError
from tfgateway.explorer import clocks, poll_delay
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import WorkloadCounts
from tfgateway.identity.keys import Identity
from tfgateway.ids import Gwid
from tfgateway.reconciler.cycle import Applied, Cycle, Pass
from tfgateway.reconciler.explorer_side.geoip import Locator
from tfgateway.reconciler.explorer_side.poller import Poller
from tfgateway.reconciler.explorer_side.registration import DirectoryEntry
from tfgateway.reconciler.explorer_side.session import open_explorer
from tfgateway.reconciler.explorer_side.user_keys import UserKeyCache
from tfgateway.reconciler.lease import Holder, Lease
from tfgateway.reconciler.lookups.delegations import Delegations, ParentZones
from tfgateway.reconciler.lookups.proofs import ProofResolver, name_lookups
from tfgateway.reconciler.metrics import ReconcilerMetrics
from tfgateway.reconciler.outbox import Outbox
from tfgateway.reconciler.planning.inputs.rows import Transaction
from tfgateway.reconciler.planning.model import Action, Plan
from tfgateway.reconciler.planning.render import held_reason
from tfgateway.reconciler.session import load_identity, make_policy, open_master
from tfgateway.reconciler.status import DirectoryStatus, ReconcilerStatus
from tfgateway.reconciler.store import Store
from tfgateway.reconciler.updates.updates import Updates
from tfgateway.reconciler.verdict import RowState, tally
from tfgateway.settings import Settings
from tfgateway.telemetry.logs import logger

_log = logger("reconciler")

_CONSENT = 600
"""Seconds for which an operator's consent to removals, and to the release of a domain, is valid."""
_REST = 9
"""A pass that nothing asked for waits for so many times the length of the last one: it may take a tenth of the time."""
_LONGEST_LISTING = 300.0
"""Seconds after the start for which passes wait for the first listing, as long as it comes in."""
_LONGEST_PAUSE = 6
"""Poll intervals between two polls of an explorer that does not answer."""


class Reconciler:
    """One gateway's reconciler; its creator opens and closes redis and client."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        redis: Redis,
        client: ExplorerClient,
        released: frozenset[str] = frozenset(),
        released_reservations: Mapping[Gwid, str] = MappingProxyType({}),
    ) -> None:
        self._interval = settings.explorer.poll_interval
        # Held back for less than the interval, a poll that found nothing would come again sooner than without ``wait``.
        self._wait = max(settings.explorer.long_poll, self._interval) if settings.explorer.long_poll else 0
        self._client = client
        self._store = store = Store(redis)
        self._lease = Lease(redis, Holder.me(identity.node_id), settings.lease)
        self._in_group = bool(settings.redis.replica)
        self.registry = CollectorRegistry()
        self.metrics = ReconcilerMetrics(self.registry)
        self._poller = Poller(client, identity.node_id, settings.reconciler.resync_interval, time.monotonic)
        desired = self._poller.desired
        policy = replace(
            make_policy(settings, identity), released=released, released_reservations=released_reservations
        )
        self._delegations = Delegations(settings.gateway.name_servers, ParentZones().name_servers)
        self._names = name_lookups(ProofResolver())
        self._outbox = Outbox(store, client, identity.node_id, desired)
        user_keys = UserKeyCache(client)
        self._updates = Updates(settings, identity, store, user_keys, self._write)
        self._cycle = Cycle(
            policy,
            store,
            desired,
            self._poller.ask_for,
            user_keys,
            self.metrics,
            self._applied,
            self._delegations,
            self._names,
            self._updates,
        )
        locate = Locator(settings.gateway, store).location
        self._directory = DirectoryEntry(
            client, identity, settings, locate, self._cycle.reachable_at, self._entry_became
        )
        self._wake = asyncio.Event()
        self._poll_error = "the explorer was not asked yet"
        self._last: Pass | None = None
        self._next_tally = 0.0
        self._status = ReconcilerStatus(version=version())

    async def run(self, *, stopping: asyncio.Event, ready: Callable[[], None], status: Callable[[str], None]) -> None:
        """Reconcile until ``stopping`` is set. ``ready`` is called once the managed domains are claimed.

        In a group it is called at once, and this process stands by while another member's holds the lease. The
        explorer may be away: what is recorded is repaired and served all the same. Errors: ``LeaseError``.
        """
        # None of them ever ends: when one fails on a bug, all end, and the service manager starts us again.
        claimed = asyncio.Event()
        try:
            await aio.together(
                stopping.wait(),
                self._make_passes(status, ready, claimed),
                self._after(claimed, self._follow),
                self._after(claimed, self._outbox.run),
                self._after(claimed, self._directory.run),
                self._after(claimed, self._lease.renew),
                self._after(claimed, self._delegations.run),
                self._after(claimed, self._names.run),
                self._after(claimed, self._updates.run),
            )
        finally:
            await self._lease.release()

    async def once(self, *, allow_removals: bool = False) -> Plan:
        """One poll, one pass, one attempt to deliver.

        Errors: ``ExplorerError`` (after the pass), ``StoreError``, ``LeaseError``.
        """
        await self._lease.take()
        renewing = asyncio.create_task(self._lease.renew())
        try:
            return await self._once(allow_removals=allow_removals)
        finally:
            await aio.end([renewing])
            await self._lease.release()

    async def preview(self, *, allow_removals: bool = False) -> Plan:
        """The plan of the next pass, which changes nothing. Errors: ``ExplorerError``, ``StoreError``."""
        await self._poller.poll()
        return await self._cycle.preview(allow_removals=allow_removals)

    async def permit(self) -> Plan:
        """Allow the running reconciler, for some minutes, exactly what it does not remove now without consent.

        The plan that says what that is. Errors: ``ExplorerError``, ``StoreError``.
        """
        made = await self.preview()
        if made.held_digest:
            await self._store.give_consent(made.held_digest, _CONSENT)
        return made

    async def release(self, domains: frozenset[str], reservations: Mapping[Gwid, str]) -> None:
        """Have the running reconciler give up the claims to these domains, and end these reservations.

        reservations: with the reasons. Errors: ``StoreError``.
        """
        if domains:
            await self._store.release(domains, _CONSENT)
        if reservations:
            await self._store.release_reservations(reservations, _CONSENT)

    async def _once(self, *, allow_removals: bool) -> Plan:
        problem: ExplorerError | None = None
        try:
            await self._poll(0)
        except ExplorerError as error:
            problem = error
        try:
            made = await self._pass(allow_removals=allow_removals, keep_steps=True)
        finally:
            await self._outbox.flush()
        await self._write_status()
        if problem is not None:
            raise problem
        return made.plan

    async def _after(self, claimed: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
        """Publish nothing before the managed domains are claimed: the explorer looks them up."""
        await claimed.wait()
        await work()

    async def _follow(self) -> None:
        """Poll the explorer until cancelled; changes are planned for at once."""
        backoff = Backoff(self._interval, _LONGEST_PAUSE * self._interval)
        away = False
        while True:
            started = time.monotonic()
            before = self._poll_error
            found_new = False
            try:
                # Its return should be noticed at once.
                found_new = await self._poll(0 if away else self._wait)
            except ExplorerError as error:
                _log.warning("poll failed", reason=str(error))
                pause = backoff.failed()
                away = True
            else:
                backoff.succeeded()
                if away:
                    self._directory.heartbeat()
                    self._outbox.wake()
                    away = False
                chance = random.random()  # noqa: S311 - only spreads the polls of a fleet
                pause = poll_delay.delay(
                    time.monotonic() - started, found_new=found_new, interval=self._interval, chance=chance
                )
            if found_new or self._poll_error != before:
                self._wake.set()
            await asyncio.sleep(pause)

    async def _write(self, transactions: Sequence[Transaction]) -> list[str]:
        return await self._cycle.write(transactions, self._lease)

    async def _poll(self, wait: float) -> bool:
        """Poll once; whether there was anything new. Errors: ``ExplorerError``."""
        self._asked()
        try:
            found_new = await self._poller.poll(wait)
        except ExplorerError as error:
            self._poll_error = str(error)
            self.metrics.polls_failed.inc()
            raise
        finally:
            self._asked()
        self._poll_error = ""
        return found_new

    def _asked(self) -> None:
        ahead = self._client.clock_ahead
        clock = clocks.in_words(ahead)
        if clock and not self._status.clock:
            _log.warning("clocks differ", reason=clock)
        self.metrics.clock_ahead.set(ahead or 0)
        now = machine.now()
        self._status = msgspec.structs.replace(self._status, last_poll=now.unix, polled=now, clock=clock)
        self.metrics.last_poll.set(self._status.last_poll)

    async def _first_pass(self, status: Callable[[str], None]) -> None:
        backoff = Backoff(longest=1.0 if self._in_group else 5.0)
        while True:
            try:
                if self._in_group:
                    await self._lease.stand_by(lambda holder: self._standing_by(holder, status))
                else:
                    await self._lease.take()
                self.metrics.standby.set(0)
                self.metrics.leader.set(1)
                await self._pass()
            except StoreError as error:
                status(f"waiting for redis: {error}")
                _log.warning("waiting for redis", reason=str(error))
                await asyncio.sleep(backoff.failed())
            else:
                return

    def _standing_by(self, holder: str, status: Callable[[str], None]) -> None:
        self.metrics.standby.set(1)
        _log.info("standing by", holder=holder)
        status(f"standing by: the lease is held by {holder}")

    async def _make_passes(
        self, status: Callable[[str], None], ready: Callable[[], None], claimed: asyncio.Event
    ) -> None:
        if self._in_group:
            ready()  # a standby is ready to take over
        await self._first_pass(status)
        if not self._in_group:
            ready()
        claimed.set()
        shown = ""
        due = time.monotonic() + self._interval
        listing_deadline = time.monotonic() + _LONGEST_LISTING
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.0, due - time.monotonic()))
            if not self._wake.is_set() and self._listing_first() and time.monotonic() < listing_deadline:
                # A plan for an incomplete listing would only delay the plan for all of it.
                due = time.monotonic() + self._interval
                continue
            self._wake.clear()
            error = self._poll_error
            try:
                if time.monotonic() >= due or not await self._incremental_pass():
                    started = time.monotonic()
                    await self._pass()
                    due = started + max(self._interval, (1 + _REST) * (time.monotonic() - started))
            except StoreError as failure:
                due = time.monotonic() + self._interval
                self.metrics.passes_failed.inc()
                _log.warning("pass ended early", reason=str(failure))
                error = str(failure)
            if not error:
                now = machine.now()
                self._status = msgspec.structs.replace(self._status, last_success=now.unix, succeeded=now)
                self.metrics.last_success.set(self._status.last_success)
            self._status = msgspec.structs.replace(self._status, last_error=error)
            with contextlib.suppress(StoreError):
                await self._write_status()
            text = error or f"in step with the explorer, {self._status.outbox} answers wait for it"
            if text != shown:
                status(text)
                shown = text

    def _listing_first(self) -> bool:
        """Whether the first listing is still coming in."""
        return self._poller.arriving and not self._poller.desired.complete

    async def _incremental_pass(self) -> bool:
        """Plan for changes only; False: a full pass is needed. Errors: ``StoreError``."""
        made = await self._cycle.run_incremental(self._lease)
        if made is not None:
            self._note(made)
        return made is not None

    async def _pass(self, *, allow_removals: bool = False, keep_steps: bool = False) -> Pass:
        """Make a full pass. Errors: ``StoreError``, ``LeaseError``."""
        self._last = None  # it holds all that the last plan was made of
        made = await self._cycle.run(self._lease, allow_removals=allow_removals, keep_steps=keep_steps)
        self._status = msgspec.structs.replace(self._status, held=held_reason(made.plan.held))
        self._note(made)
        return made

    async def _entry_became(self, directory: DirectoryStatus) -> None:
        self._status = msgspec.structs.replace(self._status, directory=directory)
        self.metrics.directory_refused.set(directory.state == "refused")
        with contextlib.suppress(StoreError):
            await self._write_status()

    def _applied(self, applied: Applied) -> None:
        if applied.may_have_answers:
            self._outbox.wake()
        repaired = self._status.repaired + applied.done[Action.REPAIR]
        self._status = msgspec.structs.replace(self._status, repaired=repaired)

    def _note(self, made: Pass) -> None:
        counts = Counter(reservation.type for reservation in made.plan.left.recorded.values())
        self.metrics.reservations(counts)
        self._updates.users = frozenset(reservation.user for reservation in made.plan.left.recorded.values())
        self._last = made
        self._tally()
        self._directory.count(
            WorkloadCounts(
                proxy=_uint16(counts["proxy"]),
                reverse_proxy=_uint16(counts["reverse_proxy"]),
                subdomain=_uint16(counts["subdomain"]),
                delegate_domain=_uint16(counts["domain_delegate"]),
            )
        )

    def _tally(self) -> None:
        """Update the counts of reservations by verdict, not too often: a hundred thousand take a moment."""
        if self._last is None or time.monotonic() < self._next_tally:
            return
        started = time.monotonic()
        failed = dict.fromkeys(self._last.failed, RowState.DRIFTED)
        undecided = dict.fromkeys(self._last.plan.left.undecided, RowState.GROUNDLESS)
        self.metrics.proofs(Counter(row.by for row in self._last.plan.left.proofs.values()))
        self.metrics.verdicts(tally(self._poller.desired, self._last.plan.left, undecided | failed))
        self._next_tally = started + (1 + _REST) * (time.monotonic() - started)

    async def _write_status(self) -> None:
        self.metrics.failing.set(bool(self._status.last_error))
        self._tally()
        waiting = await self._store.outbox_length()
        self._status = msgspec.structs.replace(self._status, outbox=waiting)
        self.metrics.outbox.set(self._status.outbox)
        await self._store.write_status(msgspec.json.encode(self._status))


def _uint16(count: int) -> int:
    """Limit a number to the 16 bits of the explorer's counters."""
    return min(count, 65535)


@contextlib.asynccontextmanager
async def opened(
    settings: Settings,
    released: frozenset[str] = frozenset(),
    released_reservations: Mapping[Gwid, str] = MappingProxyType({}),
) -> AsyncIterator[Reconciler]:
    """A reconciler as configured. The other arguments: see ``Policy``. Errors: ``ConfigError``, ``IdentityError``."""
    identity = load_identity(settings)
    async with open_master(settings) as redis, open_explorer(settings, identity) as client:
        yield Reconciler(settings, identity, redis, client, released, released_reservations)
