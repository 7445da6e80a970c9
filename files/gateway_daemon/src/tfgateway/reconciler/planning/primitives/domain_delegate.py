"""``domain_delegate``: a zone that a user claims."""

from __future__ import annotations

from collections.abc import Iterator

from tfgateway import gojson
from tfgateway.errors import SchemaError
from tfgateway.explorer.servable import domain_refusal, relation
from tfgateway.reconciler.planning.claims import OPERATOR, Claims, NotNow, ProxiesBelow, ReservationRefused, refuse_if
from tfgateway.reconciler.planning.inputs import names
from tfgateway.reconciler.planning.inputs.reservation import Reservation
from tfgateway.redis_schema.keys import MANAGED_DOMAINS, OWNER_FIELD, ZONE_OWNERS, zone_key
from tfgateway.redis_schema.owners import decode_zone_owner, encode_zone_owner
from tfgateway.redis_schema.records import RecordSet, decode_records, owner_record

_SHOWN = 5


def admit(claims: Claims, reservation: Reservation) -> None:
    """Refuse what equals, is below or is above another user's zone or subdomain, or is above another's proxy (P-4).

    Refuse also what would decide about a name of the gateway itself, and what the operator withholds (P-6).
    Errors: ``ProxiesBelow`` when reserved proxies are all that is in the way.
    """
    domain = reservation.domain
    refuse_if(domain_refusal(domain))
    if (withheld := claims.policy.withheld(domain)) is not None:
        raise ReservationRefused(f"unauthorized error cannot delegate domain {domain}: {withheld}")
    for own in claims.policy.own_names:
        if domain in names.suffixes(own):
            why = f"{own}, a name of the gateway, {relation(domain, own)}"
            raise ReservationRefused(f"unauthorized error cannot delegate domain {domain}: {why}")
    claims.check_readable(domain)
    for index in (claims.zones, claims.names):
        for other, owner in [*index.at_or_above(domain), *index.below(domain)]:
            if owner != reservation.user:
                why = f"{_whose(claims, other, owner)} {relation(domain, other)}"
                raise ReservationRefused(f"unauthorized error cannot delegate domain {domain}: {why}")
    others = [(other, owner) for other, owner in claims.services_within(domain) if owner != reservation.user]
    if others:
        other, owner = others[0]
        whose = "the operator" if owner == OPERATOR else "another user"
        why = f"{other}, a proxy of {whose}, {relation(domain, other)}"
        text = f"unauthorized error cannot delegate domain {domain}: {why}"
        reserved = {name: _of_others(claims, name, reservation.user) for name, _ in others}
        if not all(reserved.values()):  # made by hand, or left behind: only the operator can end it
            raise ReservationRefused(text)
        raise ProxiesBelow(text, tuple(proxy for proxies in reserved.values() for proxy in proxies))


def holds(claims: Claims, reservation: Reservation) -> bool:
    """Whether the zone is the user's in redis, its ownership record included."""
    zone, user = reservation.domain, reservation.user
    return _owner_in_redis(claims, zone) == user and _names_user(claims.rows.get(zone_key(zone), OWNER_FIELD), user)


def ensure(claims: Claims, reservation: Reservation) -> None:
    """Write the owner of the zone and its ownership record."""
    claim(claims, reservation.domain, reservation.user)


def release(claims: Claims, reservation: Reservation) -> None:
    """Remove owner, zone if its ownership record names the user (P-5), and the subdomains in it (P-12)."""
    zone, user = reservation.domain, reservation.user
    if claims.holders("zone", zone) or zone in claims.policy.managed_domains:
        return
    for field in {zone, reservation.stored_domain}:
        if _owner_in_redis(claims, field) == user:
            claims.rows.put(ZONE_OWNERS, field, None)
    key = zone_key(zone)
    if _names_user(claims.rows.get(key, OWNER_FIELD), user):
        for field, _ in list(claims.rows.fields(key)):
            claims.rows.forget(key, field)
    # Which of the names below still have a zone is known once this one is gone.
    claims.reindex("zone", zone)
    for name, holder in [(zone, claims.names.get(zone)), *claims.names.below(zone)]:
        if holder == user and claims.zone_of(name) is None and not claims.holders("name", name):
            claims.rows.put(MANAGED_DOMAINS, name, None)
            claims.reindex("name", name)


def claim(claims: Claims, zone: str, owner: str) -> None:
    """Write the owner of a zone. owner: decimal tid, or the gateway's node id for a managed domain."""
    if _owner_in_redis(claims, zone) != owner:
        claims.rows.put(ZONE_OWNERS, zone, encode_zone_owner(owner))
    claims.rows.put(zone_key(zone), OWNER_FIELD, owner_record(claims.policy.node_id, owner))


def give_up(claims: Claims, zone: str) -> None:
    """Remove a gateway's claim to a domain that is not managed any more (P-19). Errors: ``NotNow``: it is not empty."""
    if not claims.is_gateways(zone):
        raise NotNow("it is not released: no gateway has claimed it")
    names_here = [zone] if zone in claims.names else []
    names_here += [name for name, _ in claims.names.below(zone) if (claims.zone_of(name) or ("",))[0] == zone]
    key = zone_key(zone)
    fields = {field: decode_records(raw) for field, raw in claims.rows.fields(key) if field != OWNER_FIELD}
    records = [field for field, (found, wrong) in fields.items() if found != RecordSet() or wrong]
    if names_here or records:
        raise NotNow(f"it is not released: it holds {', '.join([*names_here, *records][:_SHOWN])}")
    for name, _ in list(claims.rows.fields(ZONE_OWNERS)):
        if name.lower() == zone:
            claims.rows.put(ZONE_OWNERS, name, None)
    for field in (OWNER_FIELD, *fields):
        claims.rows.put(key, field, None)
    claims.reindex("zone", zone)


def _of_others(claims: Claims, domain: str, user: str) -> list[Reservation]:
    return [holder for holder in claims.holders("service", domain) if holder.user != user]


def _owner_in_redis(claims: Claims, zone: str) -> str | None:
    raw = claims.rows.get(ZONE_OWNERS, zone)
    try:
        return None if raw is None else decode_zone_owner(raw)
    except SchemaError:
        return None


def recorded_owner(claims: Claims, zone: str) -> str:
    """The user that a zone's ownership record names; empty: none, or it is not one that this gateway wrote."""
    for owner, identity in _named(claims.rows.get(zone_key(zone), OWNER_FIELD)):
        if identity == claims.policy.node_id and isinstance(owner, str) and owner.isdecimal():
            return owner
    return ""


def _names_user(raw: bytes | None, user: str) -> bool:
    """Whether an ownership record is of this user; a zone without one was made by an operator."""
    return any(owner == user for owner, _ in _named(raw))


def _named(raw: bytes | None) -> Iterator[tuple[object, object]]:
    """The owner and the identity in an ownership record."""
    for text in decode_records(raw)[0].txt if raw is not None else ():
        try:
            members = gojson.decode_object(text.text.encode())
        except ValueError:
            continue
        yield members.get("owner"), members.get("identity")


def _whose(claims: Claims, other: str, owner: str) -> str:
    if owner == claims.policy.node_id:
        return f"managed domain {other}"
    return f"zone {other} of the operator" if owner == OPERATOR else f"{other} of another user"
