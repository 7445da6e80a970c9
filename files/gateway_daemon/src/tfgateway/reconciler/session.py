"""Opens what the commands of the reconciler need, as the settings say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from redis.asyncio import Redis

from tfgateway.errors import ConfigError
from tfgateway.explorer.servable import is_domain
from tfgateway.fourtosix.pool import AddressPool
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.net.addresses import literals, networks, own_addresses
from tfgateway.reconciler.planning.claims import FourToSix, Policy
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.records import RecordDecoder, Records
from tfgateway.reconciler.planning.inputs.rows import Actual
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.connection import connect_to_master, connect_to_replica
from tfgateway.redis_schema.login import OPERATOR, RECONCILER
from tfgateway.settings import Settings


def load_identity(settings: Settings) -> Identity:
    """The node's key pair. Errors: ``IdentityError``."""
    return Identity.from_seed(seedfile.load(Path(settings.identity.seed)).seed)


@contextlib.asynccontextmanager
async def open_master(settings: Settings) -> AsyncIterator[Redis]:
    """The redis that is written, as root's commands and the reconciler log in. Errors: ``ConfigError``."""
    client = connect_to_master(settings.redis, OPERATOR, RECONCILER)
    try:
        yield client
    finally:
        await client.aclose()


@contextlib.asynccontextmanager
async def open_replica(settings: Settings) -> AsyncIterator[Redis]:
    """As ``open_master``, but the redis that this gateway reads."""
    client = connect_to_replica(settings.redis, OPERATOR, RECONCILER)
    try:
        yield client
    finally:
        await client.aclose()


def make_policy(settings: Settings, identity: Identity) -> Policy:
    """What the settings allow. Errors: ``ConfigError`` for a managed domain that is no domain."""
    domains = tuple(domain.lower() for domain in settings.gateway.managed_domains)
    for domain in domains:
        if not is_domain(domain):
            raise ConfigError(f"gateway.managed_domains: '{domain}' is not a domain name (without a final dot)")
    given, public = settings.fourtosix, literals(settings.gateway.public_addresses)
    return Policy(
        identity=identity,
        managed_domains=domains,
        own_names=_own_names(settings),
        reserved_names=frozenset(map(str.lower, settings.gateway.reserved_names)),
        blocked_names=frozenset(map(str.lower, settings.gateway.blocked_names)),
        allowed_targets=networks(settings.proxy.allowed_targets),
        own_addresses=own_addresses(public),
        public_addresses=public,
        proof=settings.gateway.proof,
        proof_timeout=settings.gateway.proof_timeout,
        fourtosix=FourToSix(AddressPool(identity.seed, given.private_key), given.endpoint) if given.endpoint else None,
        repair_orphans=settings.reconciler.repair_orphans,
        parent_timeout=settings.reconciler.parent_timeout,
        max_removal_share=settings.reconciler.max_removal_share,
        max_removal_count=settings.reconciler.max_removal_count,
        max_reservations_per_user=settings.reconciler.max_reservations_per_user,
        max_zones_per_user=settings.reconciler.max_zones_per_user,
        max_addresses=settings.reconciler.max_addresses,
    )


def _own_names(settings: Settings) -> frozenset[str]:
    """Host names of the gateway itself; an address among them is no user's domain anyway."""
    endpoint = settings.fourtosix.endpoint.rpartition(":")[0]
    hosts = (*settings.gateway.name_servers, endpoint)
    return frozenset(host.lower().removesuffix(".") for host in hosts if host)


async def look(store: Store, desired: Desired | None = None) -> tuple[Actual, Records]:
    """Read redis, with decoded records. desired: see ``RecordDecoder``. Errors: ``StoreError``."""
    reader = RecordDecoder(desired)
    actual = await store.observe(reader)
    return actual, reader.records()
