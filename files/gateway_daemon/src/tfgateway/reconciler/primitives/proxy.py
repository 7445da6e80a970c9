"""A domain whose visitors are led to an address (provision-engine §7.3)."""

from __future__ import annotations

from tfgateway.errors import LayoutError
from tfgateway.layout.keys import service_key
from tfgateway.layout.services import Service, decode_service, encode_service
from tfgateway.reconciler import names
from tfgateway.reconciler.board import Board, Refusal
from tfgateway.reconciler.world import Reservation
from tfgateway.targets import denied_reason

_HIGHEST_PORT = 65535


def admit(board: Board, reservation: Reservation) -> None:
    """Refused: a name or an entry of somebody else (P-6, P-13), and a target that is denied (T-1, T-15)."""
    domain = reservation.domain
    if not names.is_valid(domain):  # CATCH_ALL is none either: it has no dot (T-9)
        raise Refusal(f"domain '{domain}' name is invalid")
    _check_target(board, reservation)
    board.check_readable(domain)
    _check_name(board, reservation)
    for holder in board.holders("service", domain):
        raise _refusal(domain, f"unauthorized error: the domain is taken by reservation {holder.id}")
    raw = board.rows.get(service_key(domain))
    # An entry without a user was made by hand, one that cannot be read may be anybody's.
    if raw is not None and _user(raw) != reservation.user:
        raise _refusal(domain, "unauthorized error")


def ensure(board: Board, reservation: Reservation) -> None:
    """The entry of the domain."""
    key = service_key(reservation.domain)
    wanted = _service(reservation)
    raw = board.rows.get(key)
    if raw is None or _decoded(raw) != wanted:
        board.rows.put(key, None, encode_service(reservation.domain, wanted))


def release(board: Board, reservation: Reservation) -> None:
    """The entry, if it is the user's and no other reservation counts for the domain (P-13)."""
    for spelling in {reservation.domain, reservation.stored_domain}:
        raw = board.rows.get(service_key(spelling))
        if raw is not None and _user(raw) == reservation.user and not board.holders("service", reservation.domain):
            board.rows.put(service_key(spelling), None, None)


def _check_target(board: Board, reservation: Reservation) -> None:
    domain, target = reservation.domain, _service(reservation)
    reason = denied_reason(target.addr, board.policy.allowed_targets, board.policy.own_addresses)
    if reason is not None:
        raise _refusal(domain, f"target '{target.addr}' is {reason}")
    for port in (target.httpport, target.tlsport):
        if not 0 <= port <= _HIGHEST_PORT:
            raise _refusal(domain, f"port {port} is not between 1 and {_HIGHEST_PORT}")
    if not target.httpport and not target.tlsport:
        raise _refusal(domain, "neither port nor port_tls is set")


def _check_name(board: Board, reservation: Reservation) -> None:
    """A name outside of all zones is anybody's; one inside belongs to its zone's user, or is free or the user's."""
    domain, user = reservation.domain, reservation.user
    zone, owner = board.zone_of(domain) or ("", user)
    if owner == user:
        return
    if owner != board.policy.node_id:
        raise _refusal(domain, f"unauthorized error: zone {zone} belongs to somebody else")
    if domain == zone:
        raise _refusal(domain, "unauthorized error: it is a managed domain")
    for held, holder in board.names.at_or_above(domain):
        if holder != user:
            raise _refusal(domain, f"unauthorized error: {held} belongs to another user")


def _service(reservation: Reservation) -> Service:
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


def _decoded(raw: bytes) -> Service | None:
    try:
        return decode_service(raw)
    except LayoutError:
        return None


def _user(raw: bytes) -> str:
    service = _decoded(raw)
    return service.user if service is not None else ""


def _refusal(domain: str, why: str) -> Refusal:
    return Refusal(f"cannot add proxy from {domain}: {why}")
