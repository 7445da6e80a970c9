"""``subdomain``: address records of one name in a managed or delegated zone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tfgateway.explorer.servable import addresses_refusal, domain_refusal, is_domain
from tfgateway.reconciler.planning.claims import Claims, ParentMissing, ReservationRefused, refuse_if
from tfgateway.reconciler.planning.inputs import names
from tfgateway.reconciler.planning.inputs.reservation import Reservation, order
from tfgateway.redis_schema.keys import APEX_FIELD, MANAGED_DOMAINS, OWNER_FIELD, zone_key
from tfgateway.redis_schema.records import RecordSet, canonical_address, decode_records, edit_addresses

_OLD_APEX_FIELD = ""


def admit(claims: Claims, reservation: Reservation) -> None:
    """Check that the name is in a zone of the user, or free in a managed domain."""
    name, user = reservation.domain, reservation.user
    refuse_if(domain_refusal(name))
    refuse_if(addresses_refusal(name, _destination(reservation)))
    claims.check_readable(name)
    zone, owner = claims.zone_of(name) or ("", "")
    if (withheld := claims.policy.withheld(name)) is not None:
        above = zone or _parent(name)
        raise _unauthorized(names.relative(name, above) or APEX_FIELD, above, withheld)
    if not zone:
        raise ParentMissing(_parent(name))
    if claims.is_operators(zone):
        raise ReservationRefused(f"{zone} is not managed by the gateway. delegate the domain first")
    label = names.relative(name, zone)
    if label == OWNER_FIELD or owner not in (user, claims.policy.node_id):
        raise _unauthorized(label, zone)
    if name in claims.policy.own_names:
        raise _unauthorized(label or APEX_FIELD, zone, "it is a name of the gateway")
    if owner == claims.policy.node_id:
        _admit_to_managed(claims, reservation, label, zone)


def _admit_to_managed(claims: Claims, reservation: Reservation, label: str, zone: str) -> None:
    """Check that nobody else has or needs the name (P-4, P-20): first come, first served."""
    name, user = reservation.domain, reservation.user
    taken = ReservationRefused(f"cannot add subdomain {label} to zone {zone}: subdomain already reserved")
    if not label:
        raise _unauthorized(APEX_FIELD, zone)
    if any(part.startswith("_") for part in label.split(".")):
        raise _unauthorized(label, zone, "names beginning with '_' are reserved")
    if claims.holders("name", name) or any(holder.user != user for holder in claims.holders("service", name)):
        raise taken
    for other, owner in [*claims.names.at_or_above(name), *claims.names.below(name)]:
        if owner != user:
            raise taken if other == name else _unauthorized(label, zone, f"{other} belongs to another user")
    # Records that nobody claims were made by hand, or are this very reservation's, whose claim was lost (P-14).
    if claims.names.get(name) is None:
        raw = claims.rows.get(zone_key(zone), label)
        if raw is not None and _held_by_hand(raw, reservation):
            raise taken


def holds(claims: Claims, reservation: Reservation) -> bool:
    """Whether the claim to the name is the user's, and the addresses are these."""
    name = reservation.domain
    zone = next(_own_zones(claims, reservation), None)
    claimed = claims.rows.get(MANAGED_DOMAINS, name) == reservation.user.encode()
    if zone is None or not claimed or claims.holders("name", name):
        return False
    raw = claims.rows.get(zone_key(zone), names.relative(name, zone) or APEX_FIELD)
    return raw is not None and set(_present(raw)) == set(_addresses(reservation))


def ensure(claims: Claims, reservation: Reservation) -> None:
    """Write the claim to the name, and the union of the addresses of all its reservations (P-11)."""
    name = reservation.domain
    zones = list(_own_zones(claims, reservation))
    if not zones:
        claims.check_readable(name)
        missing = ParentMissing(_parent(name))
        raise missing if claims.zone_of(name) is None else ReservationRefused(str(missing))
    claims.rows.put(MANAGED_DOMAINS, name, reservation.user.encode())
    wanted = _union(claims, name)
    _write(claims, zones[0], name, wanted)
    # A name that moved into a zone further down leaves nothing behind; nor does the field of the old apex (P-9).
    for zone in zones[1:]:
        _strip(claims, zone_key(zone), names.relative(name, zone), wanted)
    if zones[0] == name:
        _strip(claims, zone_key(name), _OLD_APEX_FIELD, wanted)


def release(claims: Claims, reservation: Reservation) -> None:
    """Remove its addresses unless another reservation has them, and the claim when none is left (P-12).

    Nothing happens to a name that the user does not hold: to reserve the name and address of another user, and to
    delete that at once, must not remove the other's records.
    """
    name, user = reservation.domain, reservation.user
    if claims.names.get(name) != user:
        return
    left = _union(claims, name)
    gone = [address for address in _addresses(reservation) if address not in left]
    for zone in _own_zones(claims, reservation):
        for spelling in {name, reservation.stored_domain}:
            _strip(claims, zone_key(zone), names.relative(spelling, zone) or APEX_FIELD, gone)
        if zone == name:
            _strip(claims, zone_key(zone), _OLD_APEX_FIELD, gone)
    if not claims.holders("name", name):
        for spelling in {name, reservation.stored_domain}:
            if claims.rows.get(MANAGED_DOMAINS, spelling) == user.encode():
                claims.rows.put(MANAGED_DOMAINS, spelling, None)
        claims.reindex("name", name)


def parent_missing(claims: Claims, reservation: Reservation) -> str:
    """The domain that has to be delegated before it can be served; empty: there is a zone, or it is no subdomain."""
    name = reservation.domain
    lacks = reservation.type == "subdomain" and is_domain(name) and claims.zone_of(name) is None
    return _parent(name) if lacks else ""


def has_addresses(claims: Claims, name: str) -> bool:
    """Whether any zone above the name holds addresses for it."""
    for zone, _ in claims.zones.at_or_above(name):
        for field in {names.relative(name, zone) or APEX_FIELD, names.relative(name, zone)}:
            raw = claims.rows.get(zone_key(zone), field)
            if raw is not None and _present(raw):
                return True
    return False


def strip_addresses(claims: Claims, name: str) -> None:
    """Remove all addresses of a name, in whatever zone above it; every other record stays."""
    for zone, _ in claims.zones.at_or_above(name):
        for field in {names.relative(name, zone) or APEX_FIELD, names.relative(name, zone)}:
            raw = claims.rows.get(zone_key(zone), field)
            if raw is not None and (present := _present(raw)):
                claims.rows.put(zone_key(zone), field, edit_addresses(raw, remove=present, add=()))


def addresses_of(reservations: Sequence[Reservation]) -> list[str]:
    """The union of the addresses of reservations, in canonical form, in the order of their ids."""
    ordered = sorted(reservations, key=lambda reservation: order(reservation.id))
    return list(dict.fromkeys(address for reservation in ordered for address in _addresses(reservation)))


def _parent(name: str) -> str:
    """The usual apex of a name's zone; any parent domain would do."""
    return name.partition(".")[2]


def _union(claims: Claims, name: str) -> list[str]:
    return addresses_of(claims.holders("name", name))


def _own_zones(claims: Claims, reservation: Reservation) -> Iterator[str]:
    """Zones at or above the name that may hold its records, longest first."""
    for zone, owner in claims.zones.at_or_above(reservation.domain):
        if owner in (reservation.user, claims.policy.node_id):
            yield zone


def _write(claims: Claims, zone: str, name: str, wanted: Sequence[str]) -> None:
    key, field = zone_key(zone), names.relative(name, zone) or APEX_FIELD
    raw = claims.rows.get(key, field)
    present = _present(raw) if raw is not None else []
    if sorted(present) != sorted(wanted):
        claims.rows.put(key, field, edit_addresses(raw, remove=[*present, *wanted], add=wanted))


def _strip(claims: Claims, key: str, field: str, gone: Sequence[str]) -> None:
    raw = claims.rows.get(key, field)
    if raw is not None and not set(gone).isdisjoint(_present(raw)):
        claims.rows.put(key, field, edit_addresses(raw, remove=gone, add=()))


def _held_by_hand(raw: bytes, reservation: Reservation) -> bool:
    """Whether a field holds anything but what the reservation itself asks for."""
    present = _present(raw)
    return decode_records(raw)[0] != RecordSet() and (not present or set(present) != set(_addresses(reservation)))


def _present(raw: bytes) -> list[str]:
    records, _ = decode_records(raw)
    return [address.ip for address in (*records.a, *records.aaaa)]


def _destination(reservation: Reservation) -> list[object]:
    destination = reservation.data.get("destination")
    return destination if isinstance(destination, list) else []


def _addresses(reservation: Reservation) -> list[str]:
    """The valid addresses of a reservation; old records may hold invalid ones, which serve nothing (R-4)."""
    texts = [canonical_address(text) for text in _destination(reservation) if isinstance(text, str)]
    return [text for text in texts if text is not None]


def _unauthorized(label: str, zone: str, why: str = "") -> ReservationRefused:
    text = f"cannot add subdomain {label} to zone {zone}: unauthorized error"
    return ReservationRefused(f"{text}: {why}" if why else text)
