"""``gateway4to6``: an IPv6 address for a user's WireGuard peer."""

from __future__ import annotations

from tfgateway import gojson
from tfgateway.explorer.servable import key_refusal
from tfgateway.reconciler.planning.claims import Claims, FourToSix, NotNow, ReservationRefused, refuse_if
from tfgateway.reconciler.planning.inputs.reservation import Reservation, order
from tfgateway.redis_schema.keys import PEERS
from tfgateway.wireguard_key import decode_key, encode_key


def admit(claims: Claims, reservation: Reservation) -> None:
    """Refuse an invalid key, another user's key, and a second key of one user (P-18)."""
    given = claims.policy.fourtosix
    if given is None:
        raise ReservationRefused(f"type of reservation not supported: {reservation.type}: this gateway gives no IPv6")
    key = _key(reservation)
    if key == given.pool.public_key:
        raise _refusal("the key is the gateway's own")
    if any(holder.user != reservation.user for holder in claims.holders("key", encode_key(key))):
        raise _refusal("unauthorized error: the key is another user's")
    for holder in claims.holders("peer", reservation.user):
        if holder.public_key != key:
            raise _refusal(f"user {reservation.user} has another key already, by reservation {holder.id}")


def holds(_claims: Claims, _reservation: Reservation) -> bool:
    """Never: what ``admit`` refuses, ``ensure`` would refuse too."""
    return False


def ensure(claims: Claims, reservation: Reservation) -> None:
    """Plan the peer. Of conflicts that an old gateway allowed, the first user of a key and a user's newest key win."""
    _given(claims)
    key = encode_key(_key(reservation))
    for holder in claims.holders("key", key):
        if holder.user != reservation.user and order(holder.id) < order(reservation.id):
            raise _refusal("unauthorized error: the key is another user's")
    for holder in claims.holders("peer", reservation.user):
        if holder.public_key != reservation.public_key and order(holder.id) > order(reservation.id):
            raise _refusal(f"user {reservation.user} has another key by now, by reservation {holder.id}")
    claims.rows.put(PEERS, reservation.user, key.encode())


def release(claims: Claims, reservation: Reservation) -> None:
    """Remove the peer, unless another reservation of the user counts: all of them share one address."""
    if not claims.holders("peer", reservation.user):
        claims.rows.put(PEERS, reservation.user, None)


def result_data(claims: Claims, reservation: Reservation) -> bytes:
    """The configuration for the user's peer: JSON whose bytes are signed. Errors: ``NotNow``."""
    given = _given(claims)
    server = {
        "public_key": encode_key(given.pool.public_key),
        "endpoint": given.endpoint,
        "allowed_ips": ["::/0"],
    }
    return gojson.encode({"ips": [str(given.pool.address_of(reservation.user))], "peers": [server]})


def _given(claims: Claims) -> FourToSix:
    if claims.policy.fourtosix is None:
        raise NotNow("4to6 is switched off: fourtosix.endpoint is empty")
    return claims.policy.fourtosix


def _key(reservation: Reservation) -> bytes:
    text = reservation.data.get("public_key")
    key = text if isinstance(text, str) else ""
    refuse_if(key_refusal(key))
    return decode_key(key)


def _refusal(why: str) -> ReservationRefused:
    return ReservationRefused(f"cannot add 4to6 peer: {why}")
