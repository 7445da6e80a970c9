"""Orphans: rows that are served although nobody reserved them; removed when the settings say so (pure).

Left over by the old gateway's bugs (P-5, P-12, R-4), by a lost record, or by hands. Nothing is taken that a recorded
or wanted reservation could stand on, that an operator made (no ``__owner__``, no ``user``), or that is the gateway's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from tfgateway.errors import SchemaError
from tfgateway.reconciler.planning.claims import Claims
from tfgateway.reconciler.planning.primitives import domain_delegate, subdomain
from tfgateway.redis_schema.keys import (
    MANAGED_DOMAINS,
    OWNER_FIELD,
    QUARANTINE,
    ZONE_OWNERS,
    domain_of_service_key,
    zone_key,
    zone_of_key,
)
from tfgateway.redis_schema.records import decode_records, edit_addresses
from tfgateway.redis_schema.services import decode_service


class Orphan(NamedTuple):
    """Something whose claims were removed; its rows are the open transaction."""

    domain: str
    user: str
    """The user that it was made for, as far as it says so."""
    what: str


def remove(claims: Claims, wanted: Collection[str]) -> Iterator[Orphan]:
    """Remove one after the other. wanted: lower-case domains of all reservations that the explorer wants served."""
    yield from _zones(claims, wanted)
    yield from _names(claims, wanted)
    yield from _services(claims, wanted)
    yield from _fields(claims)


def _zones(claims: Claims, wanted: Collection[str]) -> Iterator[Orphan]:
    """Remove zones that a removal left behind, or whose user has no reservation for them (P-5)."""
    for key in list(claims.rows.hashes()):
        claims.rows.undo()
        zone = zone_of_key(key.encode("utf-8", "surrogateescape"))
        if zone is None or _needed(claims, zone.lower(), wanted):
            continue
        user = domain_delegate.recorded_owner(claims, zone)
        if not user or claims.zones.get(zone.lower()) not in (None, user):
            continue
        for field, _ in list(claims.rows.fields(key)):
            claims.rows.forget(key, field)
        claims.rows.put(ZONE_OWNERS, zone, None)
        claims.reindex("zone", zone.lower())
        yield Orphan(zone, user, "zone of a reservation that does not exist")
    for zone, _ in list(claims.rows.fields(ZONE_OWNERS)):
        claims.rows.undo()
        owner = claims.zones.get(zone.lower()) or ""
        if owner.isdecimal() and not _needed(claims, zone.lower(), wanted):
            claims.rows.put(ZONE_OWNERS, zone, None)
            claims.reindex("zone", zone.lower())
            yield Orphan(zone, owner, "owner of a zone without a reservation")
    claims.rows.undo()


def _needed(claims: Claims, zone: str, wanted: Collection[str]) -> bool:
    return zone in wanted or zone in claims.policy.managed_domains or bool(claims.holders("zone", zone))


def _names(claims: Claims, wanted: Collection[str]) -> Iterator[Orphan]:
    """Remove claims and addresses of names (P-12); other records of the name stay."""
    for name, user in list(claims.rows.fields(MANAGED_DOMAINS)):
        if name.lower() in wanted or claims.holders("name", name.lower()):
            continue
        subdomain.strip_addresses(claims, name)
        claims.rows.put(MANAGED_DOMAINS, name, None)
        claims.reindex("name", name.lower())
        yield Orphan(name, user.decode("utf-8", "backslashreplace"), "subdomain of a reservation that does not exist")


def _services(claims: Claims, wanted: Collection[str]) -> Iterator[Orphan]:
    for key in list(claims.rows.strings()):
        domain = domain_of_service_key(key.encode("utf-8", "surrogateescape"))
        raw = claims.rows.get(key) if domain is not None else None
        if domain is None or raw is None or domain.lower() in wanted or claims.holders("service", domain.lower()):
            claims.rows.undo()
            continue
        try:
            user = decode_service(raw).user
        except SchemaError:
            # It serves nothing; its owner may still be found out.
            claims.rows.put(QUARANTINE, key, raw)
            claims.rows.put(key, None, None)
            yield Orphan(domain, "", "proxy entry that cannot be read, put into quarantine")
            continue
        if user:
            claims.rows.put(key, None, None)
            yield Orphan(domain, user, "proxy entry of a reservation that does not exist")
        claims.rows.undo()


def _fields(claims: Claims) -> Iterator[Orphan]:
    """Correct fields of the gateway's zones that the old DNS server cannot read (R-4)."""
    for key in list(claims.rows.hashes()):
        zone = zone_of_key(key.encode("utf-8", "surrogateescape"))
        if zone is None or claims.rows.get(zone_key(zone), OWNER_FIELD) is None:
            claims.rows.undo()
            continue
        for field, raw in list(claims.rows.fields(key)):
            before = decode_records(raw)[1]
            if not before:
                continue
            mended = edit_addresses(raw, remove=(), add=())
            if mended is None or len(decode_records(mended)[1]) < len(before):
                claims.rows.put(QUARANTINE, f"{key} {field}", raw)
                claims.rows.put(key, field, mended)
                yield Orphan(f"{field}.{zone}", "", "record that cannot be read, put into quarantine")
        claims.rows.undo()
