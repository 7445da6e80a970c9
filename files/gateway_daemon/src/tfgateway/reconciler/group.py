"""How a group of gateways stands: who leads, which redis is the master, how far this member's own is behind it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter as Tally
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from redis.asyncio import Redis

from tfgateway.errors import StoreError
from tfgateway.reconciler.lease import read_holder
from tfgateway.reconciler.metrics import ReconcilerMetrics
from tfgateway.reconciler.session import open_master, open_replica
from tfgateway.redis_schema.connection import ask_sentinels, store_errors
from tfgateway.redis_schema.keys import LEASE
from tfgateway.settings import Settings

_EVERY = 5.0
"""Seconds between two looks for the metrics."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group as one of its members sees it."""

    leader: str
    """Host whose reconciler holds the lease; empty: none does, or this member's redis cannot say."""
    master: str
    """``ADDRESS:PORT`` of the redis that most Sentinels name as the master; empty: there is no majority."""
    role: str
    """Of this member's redis: ``master``, ``replica``; empty: it does not answer."""
    lag: float | None
    """Seconds since it last received something of the master; 0: it is the master; None: it is not connected to it."""
    replicas: int | None
    """How many are connected to it; None: it is not the master."""
    sentinels: int
    """How many there are."""
    agreeing: int
    """How many of them name this master."""

    @property
    def problems(self) -> list[str]:
        """What an operator should see to, one line each."""
        found = []
        if not self.master:
            found.append(
                f"group: no master: {self.agreeing} of {self.sentinels} Sentinels name the same; nothing is written, "
                "the planes serve what they know"
            )
        elif self.agreeing < self.sentinels:
            found.append(
                f"group: {self.sentinels - self.agreeing} of {self.sentinels} Sentinels do not name the master "
                f"{self.master}, or do not answer: see to that one before the next one fails"
            )
        if self.role == "replica" and self.lag is None:
            found.append("group: this member's redis is not connected to the master; it serves what it knew before")
        if self.replicas == 0:
            found.append("group: no replica is connected to the master: another failure would lose what is only there")
        if self.role and self.lag is not None and not self.leader:
            found.append("group: no reconciler holds the lease")
        return found

    def as_data(self) -> dict[str, Any]:
        """Plain values, as in JSON."""
        return asdict(self)


async def group_state(settings: Settings) -> GroupState | None:
    """Look once; None: this gateway is in no group. Errors: ``ConfigError``."""
    if not settings.redis.replica:
        return None
    async with open_master(settings) as master, open_replica(settings) as own:
        named, (role, lag, replicas), leader = await asyncio.gather(ask_sentinels(master), _own(own), _leader(own))
    votes = Tally(address for address in named if address is not None)
    (host, port), agreeing = votes.most_common(1)[0] if votes else (("", 0), 0)
    has_majority = 2 * agreeing > len(named)
    return GroupState(
        leader=leader,
        master=f"{host}:{port}" if has_majority else "",
        role=role,
        lag=lag,
        replicas=replicas,
        sentinels=len(named),
        agreeing=agreeing,
    )


async def watch(settings: Settings, metrics: ReconcilerMetrics) -> NoReturn:
    """Keep the metrics of the group up to date, until cancelled. Errors: ``ConfigError``."""
    while True:
        state = await group_state(settings)
        if state is not None:
            metrics.replica_lag.set(math.inf if state.lag is None else state.lag)
            metrics.sentinels.set(state.sentinels)
            metrics.sentinels_agreeing.set(state.agreeing)
        await asyncio.sleep(_EVERY)


async def _own(redis: Redis) -> tuple[str, float | None, int | None]:
    """Role, lag and replicas of this member's redis."""
    try:
        with store_errors():
            found: Any = await redis.info("replication")
    except StoreError:
        return "", None, None
    if found.get("role") == "master":
        return "master", 0.0, int(found.get("connected_slaves", 0))
    up = found.get("master_link_status") == "up"
    return "replica", max(0.0, float(found.get("master_last_io_seconds_ago", 0))) if up else None, None


async def _leader(redis: Redis) -> str:
    with contextlib.suppress(StoreError), store_errors():
        found: Any = await redis.get(LEASE)
        holder = read_holder(found or b"")
        return "" if holder is None else holder.host
    return ""
