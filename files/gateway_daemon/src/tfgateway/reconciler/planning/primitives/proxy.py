"""``proxy``: a domain whose visitors are relayed to an address."""

from __future__ import annotations

from tfgateway.explorer.servable import domain_refusal, target_refusal
from tfgateway.reconciler.planning.claims import Claims, refuse_if
from tfgateway.reconciler.planning.inputs.reservation import Reservation
from tfgateway.reconciler.planning.primitives import services
from tfgateway.redis_schema.services import Service


def admit(claims: Claims, reservation: Reservation) -> None:
    """Refuse a name or entry of another user (P-6, P-13), and a target that is denied (T-1, T-15)."""
    domain = reservation.domain
    refuse_if(domain_refusal(domain))
    wanted, policy = target(reservation), claims.policy
    ports = wanted.httpport, wanted.tlsport
    refuse_if(target_refusal(domain, wanted.addr, *ports, policy.allowed_targets, policy.own_addresses))
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
