"""``reverse_proxy``: a domain whose visitors are relayed into a tunnel of its user."""

from __future__ import annotations

import binascii

from tfgateway.errors import CryptoError
from tfgateway.explorer.servable import LONGEST_SECRET, domain_refusal
from tfgateway.identity.sealing import decrypt_ecdh, unseal
from tfgateway.reconciler.planning.claims import Claims, NotNow, ReservationRefused, refuse_if
from tfgateway.reconciler.planning.inputs.reservation import Reservation
from tfgateway.reconciler.planning.primitives import services
from tfgateway.redis_schema.services import Service

_SEALED = 0
"""Workload version of secrets that need no key of the user; only old gateways have recorded such."""


def admit(claims: Claims, reservation: Reservation) -> None:
    """Refuse a name or entry of another user (P-6, P-13), and a secret that nobody could use (P-1)."""
    domain = reservation.domain
    if not domain:
        raise ReservationRefused("domain cannot be empty")
    refuse_if(domain_refusal(domain))
    secret = _secret(claims, reservation)
    if secret == _prefix(reservation):
        raise ReservationRefused("secret must follow the format 'threebotID:random'")
    if len(secret.encode()) > LONGEST_SECRET:
        raise ReservationRefused(f"secret is longer than {LONGEST_SECRET} bytes")
    services.check_free(claims, reservation)


def holds(claims: Claims, reservation: Reservation) -> bool:
    """Whether the entry of the domain has this secret."""
    try:
        secret = _secret(claims, reservation)
    except ReservationRefused:
        return False
    return services.holds(claims, reservation, Service(clientsecret=secret, user=reservation.user))


def ensure(claims: Claims, reservation: Reservation) -> None:
    """Write the entry of the domain. An existing one stays while the user's key cannot be had."""
    try:
        secret = _secret(claims, reservation)
    except (NotNow, ReservationRefused):
        there = services.present(claims, reservation)
        if there is not None and there.clientsecret:
            return
        raise
    services.write(claims, reservation, Service(clientsecret=secret, user=reservation.user))


def release(claims: Claims, reservation: Reservation) -> None:
    """Remove the entry, unless other reservations need or own it."""
    services.remove(claims, reservation)


def _secret(claims: Claims, reservation: Reservation) -> str:
    """The secret in clear, which begins with the user's tid (C-2).

    Errors: ``ReservationRefused``; ``NotNow`` until the explorer has given the user's key (P-3).
    """
    given = reservation.data.get("secret")
    if not isinstance(given, str) or not given:
        raise ReservationRefused("secret cannot be empty")
    try:
        secret = _decrypted(claims, reservation, binascii.unhexlify(given)).decode("utf-8")
    except CryptoError as error:
        raise ReservationRefused(f"failed to decrypt secret: decryption error: {error}") from None
    except UnicodeDecodeError:
        raise ReservationRefused("failed to decrypt secret: it is not text") from None
    except ValueError:
        raise ReservationRefused("failed to decrypt secret: it is not hex") from None
    if not secret:
        raise ReservationRefused("secret cannot be empty")
    if not secret.startswith(_prefix(reservation)):
        raise ReservationRefused("secret must follow the format 'threebotID:random'")
    return secret


def _decrypted(claims: Claims, reservation: Reservation, cipher: bytes) -> bytes:
    seed = claims.policy.identity.seed
    if reservation.version == _SEALED:
        return unseal(cipher, seed)
    key = claims.user_key(reservation.user)
    if key is None:
        raise ReservationRefused(
            f"failed to decrypt secret: failed to retrieve user {reservation.user} public key: the explorer has none"
        )
    return decrypt_ecdh(cipher, seed, key)


def _prefix(reservation: Reservation) -> str:
    return f"{reservation.user}:"
