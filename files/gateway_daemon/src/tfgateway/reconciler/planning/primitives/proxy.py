"""``proxy``: a domain whose visitors are relayed to an address."""

from __future__ import annotations

from tfgateway.addresses import denied_reason
from tfgateway.reconciler.planning.claims import Claims, Refusal
from tfgateway.reconciler.planning.inputs import names
from tfgateway.reconciler.planning.inputs.reservation import Reservation
from tfgateway.reconciler.planning.primitives import services
from tfgateway.redis_schema.services import Service

_HIGHEST_PORT = 65535


def admit(claims: Claims, reservation: Reservation) -> None:
    """Refuse a name or entry of another user (P-6, P-13), and a target that is denied (T-1, T-15)."""
    domain = reservation.domain
    if not names.is_valid(domain):  # CATCH_ALL is none either: it has no dot (T-9)
        raise Refusal(f"domain '{domain}' name is invalid")
    _check_target(claims, reservation)
    services.check_free(claims, reservation)


def holds(claims: Claims, reservation: Reservation) -> bool:
    """Whether the entry of the domain is this one."""
    return services.holds(claims, reservation, target(reservation))


def ensure(claims: Claims, reservation: Reservation) -> None:
    """Write the entry of the domain."""
    services.write(claims, reservation, target(reservation))


def release(claims: Claims, reservation: Reservation) -> None:
    """Remove the entry, unless other reservations need or own it."""
    services.remove(claims, reservation)


def _check_target(claims: Claims, reservation: Reservation) -> None:
    wanted = target(reservation)
    reason = denied_reason(wanted.addr, claims.policy.allowed_targets, claims.policy.own_addresses)
    if reason is not None:
        raise services.refusal(reservation, f"target '{wanted.addr}' is {reason}")
    for port in (wanted.httpport, wanted.tlsport):
        if not 0 <= port <= _HIGHEST_PORT:
            raise services.refusal(reservation, f"port {port} is not between 1 and {_HIGHEST_PORT}")
    if not wanted.httpport and not wanted.tlsport:
        raise services.refusal(reservation, "neither port nor port_tls is set")


def target(reservation: Reservation) -> Service:
    """The target of visitors; a port that is 0 is not served."""
    data = reservation.data
    addr = data.get("addr")
    return Service(
        addr=addr if isinstance(addr, str) else "",
        tlsport=_port(data.get("port_tls")),
        httpport=_port(data.get("port")),
        user=reservation.user,
    )


def _port(value: object) -> int:
    return value if type(value) is int else 0
