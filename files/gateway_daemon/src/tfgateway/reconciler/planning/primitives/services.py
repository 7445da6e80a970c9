"""The entry of a domain in the proxy's table: what ``proxy`` and ``reverse_proxy`` have in common."""

from __future__ import annotations

from tfgateway.errors import SchemaError
from tfgateway.reconciler.planning.claims import Claims, ReservationRefused, TakenByOthers
from tfgateway.reconciler.planning.inputs import names
from tfgateway.reconciler.planning.inputs.reservation import Reservation, order
from tfgateway.redis_schema.keys import service_key
from tfgateway.redis_schema.services import Service, decode_service, encode_service


def check_free(claims: Claims, reservation: Reservation) -> None:
    """Check that name and entry are free or the user's (P-6); one reservation has an entry (P-13)."""
    domain = reservation.domain
    claims.check_readable(domain)
    _check_name(claims, reservation)
    if holders := tuple(claims.holders("service", domain)):
        taken = refusal(reservation, f"unauthorized error: the domain is taken by reservation {holders[0].id}")
        if claims.needs_proof(reservation) and all(holder.user != reservation.user for holder in holders):
            raise TakenByOthers(str(taken), holders)
        raise taken
    raw = claims.rows.get(service_key(domain))
    # An entry without a user was made by hand, the owner of an unreadable one is unknown.
    if raw is not None and _user(raw) != reservation.user:
        raise refusal(reservation, "unauthorized error")


def holds(claims: Claims, reservation: Reservation, wanted: Service) -> bool:
    """Whether the entry of the domain is as wanted, and no other reservation has it (P-13)."""
    return present(claims, reservation) == wanted and not claims.holders("service", reservation.domain)


def write(claims: Claims, reservation: Reservation, wanted: Service) -> None:
    """Write the entry of the domain. Of several reservations from an old gateway, the newest wins."""
    if any(order(holder.id) > order(reservation.id) for holder in claims.holders("service", reservation.domain)):
        return
    key = service_key(reservation.domain)
    raw = claims.rows.get(key)
    if raw is None or _decoded(raw) != wanted:
        claims.rows.put(key, None, encode_service(reservation.domain, wanted))


def remove(claims: Claims, reservation: Reservation) -> None:
    """Remove the entry, if it is the user's and no other reservation counts for the domain (P-13)."""
    for spelling in {reservation.domain, reservation.stored_domain}:
        raw = claims.rows.get(service_key(spelling))
        if raw is not None and _user(raw) == reservation.user and not claims.holders("service", reservation.domain):
            claims.rows.put(service_key(spelling), None, None)


def present(claims: Claims, reservation: Reservation) -> Service | None:
    """The user's entry as it is in redis."""
    raw = claims.rows.get(service_key(reservation.domain))
    service = _decoded(raw) if raw is not None else None
    return service if service is not None and service.user == reservation.user else None


def refusal(reservation: Reservation, why: str) -> ReservationRefused:
    """``cannot add reverse proxy from web.example: ...``."""
    return ReservationRefused(f"cannot add {reservation.type.replace('_', ' ')} from {reservation.domain}: {why}")


def _check_name(claims: Claims, reservation: Reservation) -> None:
    """Check a name: outside of all zones it is free; inside one it must be free or the user's."""
    domain, user = reservation.domain, reservation.user
    if domain in claims.policy.own_names:
        raise refusal(reservation, "unauthorized error: it is a name of the gateway")
    if (withheld := claims.policy.withheld(domain)) is not None:
        raise refusal(reservation, f"unauthorized error: {withheld}")
    zone, owner = claims.zone_of(domain) or ("", "")
    if owner == user:
        return
    if owner not in ("", claims.policy.node_id):
        raise refusal(reservation, f"unauthorized error: zone {zone} belongs to somebody else")
    if domain == zone:
        raise refusal(reservation, "unauthorized error: it is a managed domain")
    for other, holder in claims.names.at_or_above(domain):
        # Outside of all zones only waiting reservations have a claim; other claims are about to be swept.
        if holder != user and (zone or claims.holders("name", other)):
            raise refusal(reservation, f"unauthorized error: {other} belongs to another user")
    if zone:  # outside, anybody may reserve anything: a proxy of a public suffix would keep out all below it
        for above in names.suffixes(domain.partition(".")[2]):
            if above == zone:
                break
            if any(holder.user != user for holder in claims.holders("service", above)):
                raise refusal(reservation, f"unauthorized error: {above} belongs to another user")


def _decoded(raw: bytes) -> Service | None:
    try:
        return decode_service(raw)
    except SchemaError:
        return None


def _user(raw: bytes) -> str:
    service = _decoded(raw)
    return service.user if service is not None else ""
