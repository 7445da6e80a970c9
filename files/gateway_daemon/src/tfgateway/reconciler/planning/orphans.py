"""What was left behind in redis and is served although nobody reserved it: removed when the settings say so (pure).

Left over by the old gateway's bugs (P-5, P-12, R-4), by a lost record, or by hands. Nothing is taken that a recorded
or wanted reservation could stand on, that an operator made (no ``__owner__``, no ``user``), or that is the gateway's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from tfgateway.errors import LayoutError
from tfgateway.reconciler.planning.claims import Board
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
    """Something that was removed on the board; its rows are the open transaction."""

    domain: str
    user: str
    """Who it was made for, as far as it says so."""
    what: str


def remove(board: Board, wanted: Collection[str]) -> Iterator[Orphan]:
    """Remove one after the other. wanted: lower-case domains of all reservations that the explorer wants served."""
    yield from _zones(board, wanted)
    yield from _names(board, wanted)
    yield from _services(board, wanted)
    yield from _fields(board)


def _zones(board: Board, wanted: Collection[str]) -> Iterator[Orphan]:
    """P-5: the hash that a removal left behind; a zone of a user who has no reservation for it."""
    for key in list(board.rows.hashes()):
        board.rows.undo()
        zone = zone_of_key(key.encode("utf-8", "surrogateescape"))
        if zone is None or _needed(board, zone.lower(), wanted):
            continue
        user = domain_delegate.recorded_owner(board, zone)
        if not user or board.zones.get(zone.lower()) not in (None, user):
            continue
        for field, _ in list(board.rows.fields(key)):
            board.rows.forget(key, field)
        board.rows.put(ZONE_OWNERS, zone, None)
        board.settle("zone", zone.lower())
        yield Orphan(zone, user, "zone of a reservation that does not exist")
    for zone, _ in list(board.rows.fields(ZONE_OWNERS)):
        board.rows.undo()
        owner = board.zones.get(zone.lower()) or ""
        if owner.isdecimal() and not _needed(board, zone.lower(), wanted):
            board.rows.put(ZONE_OWNERS, zone, None)
            board.settle("zone", zone.lower())
            yield Orphan(zone, owner, "owner of a zone without a reservation")
    board.rows.undo()


def _needed(board: Board, zone: str, wanted: Collection[str]) -> bool:
    return zone in wanted or zone in board.policy.managed_domains or bool(board.holders("zone", zone))


def _names(board: Board, wanted: Collection[str]) -> Iterator[Orphan]:
    """P-12: a claim and its addresses; other records of the name stay."""
    for name, user in list(board.rows.fields(MANAGED_DOMAINS)):
        if name.lower() in wanted or board.holders("name", name.lower()):
            continue
        subdomain.strip_addresses(board, name)
        board.rows.put(MANAGED_DOMAINS, name, None)
        board.settle("name", name.lower())
        yield Orphan(name, user.decode("utf-8", "backslashreplace"), "subdomain of a reservation that does not exist")


def _services(board: Board, wanted: Collection[str]) -> Iterator[Orphan]:
    for key in list(board.rows.strings()):
        domain = domain_of_service_key(key.encode("utf-8", "surrogateescape"))
        raw = board.rows.get(key) if domain is not None else None
        if domain is None or raw is None or domain.lower() in wanted or board.holders("service", domain.lower()):
            board.rows.undo()
            continue
        try:
            user = decode_service(raw).user
        except LayoutError:
            # Nobody can be led anywhere by it; whose it was may still be found out.
            board.rows.put(QUARANTINE, key, raw)
            board.rows.put(key, None, None)
            yield Orphan(domain, "", "proxy entry that cannot be read, put into quarantine")
            continue
        if user:
            board.rows.put(key, None, None)
            yield Orphan(domain, user, "proxy entry of a reservation that does not exist")
        board.rows.undo()


def _fields(board: Board) -> Iterator[Orphan]:
    """R-4: fields of the gateway's zones that the old DNS server cannot read, without what makes them so."""
    for key in list(board.rows.hashes()):
        zone = zone_of_key(key.encode("utf-8", "surrogateescape"))
        if zone is None or board.rows.get(zone_key(zone), OWNER_FIELD) is None:
            board.rows.undo()
            continue
        for field, raw in list(board.rows.fields(key)):
            before = decode_records(raw)[1]
            if not before:
                continue
            mended = edit_addresses(raw, remove=(), add=())
            if mended is None or len(decode_records(mended)[1]) < len(before):
                board.rows.put(QUARANTINE, f"{key} {field}", raw)
                board.rows.put(key, field, mended)
                yield Orphan(f"{field}.{zone}", "", "record that cannot be read, put into quarantine")
        board.rows.undo()
