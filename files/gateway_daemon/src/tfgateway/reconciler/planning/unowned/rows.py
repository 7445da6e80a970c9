"""Reports rows of redis that no reservation owns; never touches them (pure; P-5, P-12, P-17, P-19)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from tfgateway.errors import SchemaError
from tfgateway.reconciler.planning.claims import OPERATOR, Claims
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.records import Records, orphans
from tfgateway.reconciler.planning.primitives import subdomain
from tfgateway.redis_schema.keys import MANAGED_DOMAINS, OWNER_FIELD, domain_of_service_key, zone_of_key
from tfgateway.redis_schema.services import decode_service
from tfgateway.telemetry.text import printable

_SHOWN = 20


def unowned_rows(claims: Claims, desired: Desired, records: Records) -> list[str]:
    """A bounded number of lines for each kind. Unneeded rows are known after a complete listing only."""
    found = [
        *_bounded(f"record {printable(name)} cannot be read: {reason}" for name, reason in records.damaged.items()),
        *_bounded(_formerly_managed(claims)),
    ]
    if desired.complete:
        found += _bounded(
            f"{printable(name)} is recorded, but the explorer {_instead(desired, name)}: "
            f"`tfgateway reconcile --release-reservation {printable(name)}` ends it"
            for name in orphans(records, desired)
        )
        found += _bounded(_zones(claims))
        found += _bounded(_names(claims))
        found += _bounded(_services(claims))
    claims.rows.undo()
    return found


def _instead(desired: Desired, name: str) -> str:
    return "does not know it" if name in desired.unknown else "knows another reservation under this id"


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    remaining = iter(lines)
    yield from islice(remaining, _SHOWN)
    more = sum(1 for _ in remaining)
    if more:
        yield f"... and {more} more of this kind"


def _formerly_managed(claims: Claims) -> Iterator[str]:
    for zone, owner in claims.zones.items().items():
        if claims.is_gateways(zone) and zone not in claims.policy.managed_domains:
            by = "" if owner == claims.policy.node_id else f" by another identity, {printable(owner)}"
            yield (
                f"{printable(zone)} is still held{by}, but no longer a managed domain of the configuration: "
                f"`tfgateway reconcile --release-domain {printable(zone)}` gives it up"
            )


def _zones(claims: Claims) -> Iterator[str]:
    for zone, owner in claims.zones.items().items():
        if owner.isdecimal() and not claims.holders("zone", zone):
            yield f"zone {printable(zone)} of user {owner} stands behind no reservation"
    for key in claims.rows.hashes():
        zone_name = zone_of_key(key.encode("utf-8", "surrogateescape"))
        if zone_name is None or claims.rows.get(key, OWNER_FIELD) is None:
            continue
        if claims.zones.get(zone_name.lower()) in (None, OPERATOR):
            yield f"zone {printable(zone_name)} has records but no owner"


def _names(claims: Claims) -> Iterator[str]:
    for name, owner in claims.rows.fields(MANAGED_DOMAINS):
        if not claims.holders("name", name.lower()) and subdomain.has_addresses(claims, name):
            yield f"{printable(name)} of user {printable(owner)} stands behind no reservation"


def _services(claims: Claims) -> Iterator[str]:
    for key in claims.rows.strings():
        domain = domain_of_service_key(key.encode("utf-8", "surrogateescape"))
        raw = claims.rows.get(key) if domain is not None else None
        if domain is None or raw is None or claims.holders("service", domain.lower()):
            continue
        try:
            user = decode_service(raw).user
        except SchemaError:
            yield f"proxy entry {printable(domain)} cannot be read"
            continue
        if user:
            yield f"proxy entry {printable(domain)} of user {printable(user)} stands behind no reservation"
