"""Collects the facts for ``tfgateway state``: the explorer's listing, redis, and answers of the planes."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfgateway import machine, version
from tfgateway.diagnosis.plane_metrics import DnsMetrics, dns_metrics
from tfgateway.diagnosis.planes import PlaneState, plane_states
from tfgateway.diagnosis.probes import Prober
from tfgateway.diagnosis.redis_access import is_local, open_access
from tfgateway.diagnosis.static_services import TargetState, TunnelState, static_targets, static_tunnels
from tfgateway.diagnosis.updated_names import UpdatedName, updated_names
from tfgateway.errors import ExplorerError, GatewayError, StoreError
from tfgateway.explorer.models import WORKLOAD_TYPES, NextAction, Workload
from tfgateway.ids import NO_TID, Gwid
from tfgateway.reconciler.explorer_side.poller import Poller
from tfgateway.reconciler.explorer_side.session import open_explorer
from tfgateway.reconciler.explorer_side.user_keys import UserKeyCache
from tfgateway.reconciler.group import GroupState, group_state
from tfgateway.reconciler.planning import results
from tfgateway.reconciler.planning.claims import Claims, Policy, UserKeys
from tfgateway.reconciler.planning.decisions import accept_all
from tfgateway.reconciler.planning.inputs.desired import Desired, Wanted
from tfgateway.reconciler.planning.inputs.records import Records, migrated
from tfgateway.reconciler.planning.inputs.reservation import Reservation, of_workload
from tfgateway.reconciler.planning.inputs.rows import Actual, Rows
from tfgateway.reconciler.planning.primitives import proxy, services, subdomain
from tfgateway.reconciler.planning.results import OutboxEntry
from tfgateway.reconciler.planning.unowned.rows import unowned_rows
from tfgateway.reconciler.session import load_identity, look, make_policy, open_replica
from tfgateway.reconciler.status import ReconcilerStatus, decode_status
from tfgateway.reconciler.store import Store
from tfgateway.reconciler.verdict import Facts, Judged, ProbeResult, RowState, by_id, judge, row_state, summary
from tfgateway.redis_schema.keys import OUTBOX
from tfgateway.redis_schema.tunnels import Connected, fingerprint
from tfgateway.settings import Settings
from tfgateway.wireguard_key import encode_key

_SHORTEST_SILENCE = 60.0
"""Seconds without a poll that are no trouble, however short the interval is."""


@dataclass(frozen=True, slots=True)
class GatewayState:
    """All that ``tfgateway state`` shows."""

    node_id: str
    problems: tuple[str, ...]
    reservations: tuple[Judged, ...]
    status: ReconcilerStatus | None = None
    """What the reconciler wrote about itself; None: nothing, or redis cannot be asked."""
    targets: tuple[TargetState, ...] = ()
    """Of the operator's static services."""
    tunnels: tuple[TunnelState, ...] = ()
    """Of those that are reached through one."""
    dns: DnsMetrics | None = None
    """What the DNS plane counts; None: it does not answer."""
    planes: tuple[PlaneState, ...] = ()
    """Those that answer."""
    notes: tuple[str, ...] = ()
    """What an operator should know, although nothing is wrong."""
    group: GroupState | None = None
    """None: this gateway is in no group."""
    updated: tuple[UpdatedName, ...] = ()
    """Names with records by DNS updates."""

    @property
    def summary(self) -> dict[str, int]:
        """Reservations by verdict."""
        return summary(self.reservations)

    @property
    def in_sync(self) -> bool:
        """Whether nothing needs an operator's attention."""
        return not self.problems and all(one.is_done for one in self.reservations)

    def as_data(self) -> dict[str, Any]:
        """Plain values: the JSON that the Ansible module reads."""
        return {
            "node_id": self.node_id,
            "version": version(),
            "in_sync": self.in_sync,
            "summary": self.summary,
            "problems": list(self.problems),
            "reconciler": None if self.status is None else self.status.as_data(),
            "reservations": [one.as_data() for one in self.reservations],
            "targets": [dataclasses.asdict(one) for one in self.targets],
            "tunnels": [dataclasses.asdict(one) for one in self.tunnels],
            "dns": None if self.dns is None else dataclasses.asdict(self.dns),
            "planes": [dataclasses.asdict(one) for one in self.planes],
            "notes": list(self.notes),
            "group": None if self.group is None else self.group.as_data(),
            "updated": [dataclasses.asdict(one) for one in self.updated],
        }


@dataclass(frozen=True, slots=True)
class _Seen:
    """What could be collected; ``actual`` None: redis does not answer."""

    desired: Desired
    explorer_asked: bool
    actual: Actual | None
    records: Records
    status: ReconcilerStatus | None
    users: UserKeys
    problems: tuple[str, ...]
    tunnels: Mapping[str, Connected] | None
    """Clients that are connected, by the fingerprint of their secret; None: no worker has published any."""
    notes: tuple[str, ...]


async def collect(settings: Settings) -> GatewayState:
    """Look at everything once. Errors: ``GatewayError``: what is configured is wrong, or nobody can be asked."""
    identity = load_identity(settings)
    policy = make_policy(settings, identity)
    seen = await _gather(settings, policy)
    rows = Rows(seen.actual or Actual())
    claims = Claims(policy, rows, seen.users)
    reservations = accept_all(claims, seen.desired, seen.records)
    problems = [*seen.problems, *unowned_rows(claims, seen.desired, seen.records)]
    outbox = {one.id: one for one in results.read_outbox(dict(rows.fields(OUTBOX)))[0]}
    prober = Prober(settings, policy)

    async def one(identifier: Gwid, wanted: Wanted | None) -> Judged:
        reservation = reservations.get(identifier)
        recorded = reservation is not None
        if reservation is None:
            reservation = _described(identifier, wanted)
        state, ground = RowState.UNKNOWN, ""
        if seen.actual is not None:
            state, ground = row_state(claims, reservation, recorded=recorded)
        expected = (recorded and state is not RowState.WAITING) or (seen.actual is None and _is_deployed(wanted))
        tunnel = _tunnel(claims, reservation)
        facts = Facts(
            explorer_asked=seen.explorer_asked,
            wanted=wanted,
            recorded=recorded,
            rows=state,
            answer=await _answer(prober, claims, reservation, tunnel, seen.tunnels) if expected else None,
            waiting=outbox.get(identifier),
            damaged=seen.records.damaged.get(identifier, ""),
            ground=ground,
            client=seen.tunnels.get(tunnel) if seen.tunnels else None,
            proof=claims.proofs.status(identifier) if recorded and claims.needs_proof(reservation) else None,
        )
        return Judged(reservation, facts, *judge(facts))

    wanted_ones = _shown(seen, outbox)
    if seen.actual is None:
        # What should be served is then known from the explorer alone.
        for identifier, wanted in wanted_ones.items():
            if _is_deployed(wanted):
                claims.accept(_described(identifier, wanted))
    judged = await asyncio.gather(*(one(identifier, wanted) for identifier, wanted in wanted_ones.items()))
    (targets, trouble), figures, planes, group = await asyncio.gather(
        static_targets(settings), dns_metrics(settings), plane_states(settings), group_state(settings)
    )
    problems += group.problems if group is not None else []
    problems += [*prober.problems(), *([trouble] if trouble else [])]
    problems += [plane.problem for plane in planes if plane.problem]
    return GatewayState(
        identity.node_id,
        tuple(problems),
        tuple(by_id(judged)),
        seen.status,
        targets,
        static_tunnels(settings, seen.tunnels or {}),
        figures,
        planes,
        seen.notes,
        group,
        updated_names(seen.actual or Actual()),
    )


async def _gather(settings: Settings, policy: Policy) -> _Seen:
    problems: list[str] = []
    notes: list[str] = []
    actual: Actual | None = None
    records = Records()
    status: ReconcilerStatus | None = None
    users: UserKeys = {}
    tunnels: Mapping[str, Connected] | None = None
    async with open_replica(settings) as redis, open_explorer(settings, policy.identity) as client:
        store = Store(redis)
        poller = Poller(client, policy.node_id, settings.reconciler.resync_interval, time.monotonic)
        try:
            actual, records = await look(store)
            status = decode_status(await store.status())
            tunnels = await store.tunnels()
            problems += [*actual.problems, *_loop_problems(status, settings)]
            if trouble := await store.disk_trouble():
                problems.append(trouble)
            if is_local(settings.redis.replica or settings.redis.url) and (note := await open_access(redis)):
                notes.append(note)
        except StoreError as error:
            problems.append(f"redis cannot be asked: {error}")
        try:
            await poller.poll()
            records = migrated(records, poller.desired)
            await poller.ask_for(poller.desired.unlisted([*records.entries, *records.damaged]))
            users = await UserKeyCache(client).ask(
                {record.user_id for record in records.entries.values() if record.type == "reverse_proxy"}
            )
        except ExplorerError as error:
            problems.append(f"the explorer cannot be asked: {error}")
    desired = poller.desired
    if actual is None and not desired.complete:
        raise GatewayError("; ".join(problems))
    return _Seen(desired, desired.complete, actual, records, status, users, tuple(problems), tunnels, tuple(notes))


def _loop_problems(status: ReconcilerStatus | None, settings: Settings) -> list[str]:
    """Problems that the reconciler reported in its status."""
    if status is None:
        return ["the reconciler has not written its status yet"]
    found = [f"removals are held back: {status.held}"] if status.held else []
    found += [status.clock] if status.clock else []
    if status.directory.state == "refused":
        found.append(f"the explorer refuses this gateway's entry in its directory: {status.directory.reason}")
    silence = status.since_poll(machine.now())
    interval = max(settings.explorer.poll_interval, settings.explorer.long_poll)
    if silence > max(_SHORTEST_SILENCE, 3 * interval):
        found.append(f"the reconciler has not polled for {silence:.0f} s")
    elif status.last_error:
        found.append(f"the reconciler's last pass: {status.last_error}")
    return found


def _shown(seen: _Seen, outbox: dict[Gwid, OutboxEntry]) -> dict[Gwid, Wanted | None]:
    """The reservations to show: all but those that ended and left nothing behind."""
    here = [*seen.records.entries, *seen.records.damaged, *outbox]
    here = [name for name in here if name not in seen.records.references.values()]
    there = [name for name, wanted in seen.desired.items() if wanted.next_action != NextAction.DELETED]
    return {identifier: seen.desired.get(identifier) for identifier in [*here, *there]}


def _described(identifier: Gwid, wanted: Wanted | None) -> Reservation:
    """A reservation without record, made of what the explorer says."""
    if wanted is None:
        return Reservation(identifier, NO_TID, "", {})
    if isinstance(wanted.workload, Workload):
        return of_workload(wanted.workload)
    number = wanted.workload.type
    return Reservation(identifier, NO_TID, WORKLOAD_TYPES.get(number, str(number)), {})


def _is_deployed(wanted: Wanted | None) -> bool:
    if wanted is None or wanted.result is None:
        return False
    return wanted.next_action == NextAction.DEPLOY and wanted.result.state == 1


def _tunnel(claims: Claims, reservation: Reservation) -> str:
    """The fingerprint of its tunnel's secret; empty: it has none in redis."""
    service = services.present(claims, reservation) if reservation.type == "reverse_proxy" else None
    return "" if service is None else fingerprint(service.clientsecret)


async def _answer(
    prober: Prober, claims: Claims, reservation: Reservation, tunnel: str, tunnels: Mapping[str, Connected] | None
) -> ProbeResult | None:
    """Probe the planes for a reservation; None: there is nothing to probe."""
    domain = reservation.domain
    if reservation.type == "domain_delegate":
        return await prober.zone_owner(domain, claims.policy.node_id, reservation.user)
    if reservation.type == "subdomain":
        addresses = subdomain.addresses_of(claims.holders("name", domain))
        return await prober.addresses(domain, addresses) if addresses else None
    if reservation.type == "proxy":
        return await prober.proxied(domain, proxy.target(reservation))
    if reservation.type == "reverse_proxy":
        if not await prober.proxy_runs():
            return ProbeResult.NO_PLANE
        if not tunnel or tunnels is None:
            return None
        return ProbeResult.RIGHT if tunnel in tunnels else ProbeResult.NO_CLIENT
    if reservation.type == "gateway4to6" and claims.policy.fourtosix is not None:
        address = claims.policy.fourtosix.pool.address_of(reservation.user)
        return await prober.peer(encode_key(reservation.public_key), f"{address}/128")
    return None
