"""What is in redis and stands behind nothing: reported, never touched (pure; P-5, P-12, P-17, P-19)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from tfgateway.errors import LayoutError
from tfgateway.reconciler.planning.claims import OPERATOR, Board
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.planning.inputs.records import Records, orphans
from tfgateway.reconciler.planning.primitives import subdomain
from tfgateway.redis_schema.keys import MANAGED_DOMAINS, OWNER_FIELD, domain_of_service_key, zone_of_key
from tfgateway.redis_schema.services import decode_service
from tfgateway.telemetry.text import printable

_SHOWN = 20


def strangers(board: Board, desired: Desired, records: Records) -> list[str]:
    """One line each, a bounded number of each kind. What nobody needs is known after a complete listing only."""
    found = [
        *_bounded(f"record {printable(name)} cannot be read: {reason}" for name, reason in records.damaged.items()),
        *_bounded(_formerly_managed(board)),
    ]
    if desired.complete:
        found += _bounded(
            f"{printable(name)} is recorded, but the explorer {_instead(desired, name)}: "
            f"`tfgateway reconcile --release-reservation {printable(name)}` ends it"
            for name in orphans(records, desired)
        )
        found += _bounded(_zones(board))
        found += _bounded(_names(board))
        found += _bounded(_services(board))
    board.rows.undo()
    return found


def _instead(desired: Desired, name: str) -> str:
    return "does not know it" if name in desired.unknown else "knows another reservation under this id"


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    remaining = iter(lines)
    yield from islice(remaining, _SHOWN)
    more = sum(1 for _ in remaining)
    if more:
        yield f"... and {more} more of this kind"


def _formerly_managed(board: Board) -> Iterator[str]:
    for zone, owner in board.zones.items().items():
        if board.is_gateways(zone) and zone not in board.policy.managed_domains:
            by = "" if owner == board.policy.node_id else f" by another identity, {printable(owner)}"
            yield (
                f"{printable(zone)} is still held{by}, but no longer a managed domain of the configuration: "
                f"`tfgateway reconcile --release-domain {printable(zone)}` gives it up"
            )


def _zones(board: Board) -> Iterator[str]:
    for zone, owner in board.zones.items().items():
        if owner.isdecimal() and not board.holders("zone", zone):
            yield f"zone {printable(zone)} of user {owner} stands behind no reservation"
    for key in board.rows.hashes():
        zone_name = zone_of_key(key.encode("utf-8", "surrogateescape"))
        if zone_name is None or board.rows.get(key, OWNER_FIELD) is None:
            continue
        if board.zones.get(zone_name.lower()) in (None, OPERATOR):
            yield f"zone {printable(zone_name)} has records but no owner"


def _names(board: Board) -> Iterator[str]:
    for name, owner in board.rows.fields(MANAGED_DOMAINS):
        if not board.holders("name", name.lower()) and subdomain.has_addresses(board, name):
            yield f"{printable(name)} of user {printable(owner)} stands behind no reservation"


def _services(board: Board) -> Iterator[str]:
    for key in board.rows.strings():
        domain = domain_of_service_key(key.encode("utf-8", "surrogateescape"))
        raw = board.rows.get(key) if domain is not None else None
        if domain is None or raw is None or board.holders("service", domain.lower()):
            continue
        try:
            user = decode_service(raw).user
        except LayoutError:
            yield f"proxy entry {printable(domain)} cannot be read"
            continue
        if user:
            yield f"proxy entry {printable(domain)} of user {printable(user)} stands behind no reservation"
