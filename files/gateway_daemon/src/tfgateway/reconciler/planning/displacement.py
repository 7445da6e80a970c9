"""Why proxies are displaced by another user's delegation or stronger proof, and how a domain is proved (pure)."""

from __future__ import annotations

from tfgateway.identity.proof_token import record_name, record_text
from tfgateway.reconciler.planning.claims import Claims, NotNow, ProxiesBelow, ReservationRefused, TakenByOthers
from tfgateway.reconciler.planning.inputs.reservation import Reservation


def why_displaced(claims: Claims, reservation: Reservation, refusal: ProxiesBelow | TakenByOthers) -> str:
    """Why the proxies in the way of a new reservation end, for their users.

    Errors: ``ReservationRefused``: they do not end; ``NotNow`` until the explorer and DNS were asked.
    """
    domain = reservation.domain
    if isinstance(refusal, ProxiesBelow):
        if claims.is_delegated(domain):
            return f"{domain} was delegated to this gateway, as its parent zone says, for another user"
        raise ReservationRefused(
            f"{refusal}; it gives way when NS records in the parent zone of {domain} name this gateway"
        )
    waits: NotNow | None = None
    for one in (reservation, *refusal.proxies):
        try:
            claims.user_key(one.user)
        except NotNow as reason:
            waits = reason
    if waits is not None:
        raise waits
    if domain not in claims.policy.name_facts:
        claims.unknown_names.add(domain)
        raise NotNow(f"DNS was not asked yet what it proves for {domain}")
    proof, _ = claims.proof_of(reservation)
    if all(proof.strength > claims.standing(other).strength for other in refusal.proxies):
        return f"DNS proves that {domain} is to be another user's at this gateway"
    raise ReservationRefused(f"{refusal}; it gives way to a stronger proof by DNS: {_record(claims, reservation)}")


def how_to_prove(claims: Claims, reservation: Reservation) -> str:
    """Text for the user: which DNS record would prove this reservation."""
    return f"it needs a CNAME or address record that leads to this gateway, or {_record(claims, reservation)}"


def _record(claims: Claims, reservation: Reservation) -> str:
    name = record_name(reservation.domain)
    try:
        token = claims.token_of(reservation)
    except NotNow:
        token = None
    text = f'"{record_text(token)}"' if token is not None else "with what `tfgateway reserve proof` prints"
    return f"TXT {name} {text}" if name else "a name that is short enough for a TXT record at _tfgateway below it"
