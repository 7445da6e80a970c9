"""Who holds a name, and which records its holder may have there (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.errors import SchemaError
from tfgateway.ids import NodeId
from tfgateway.redis_schema.keys import OWNER_FIELD
from tfgateway.redis_schema.owners import decode_zone_owner
from tfgateway.settings import UpdateSettings

_IN_OWN_ZONE: Final = frozenset(
    (
        codes.A,
        codes.AAAA,
        codes.CNAME,
        codes.TXT,
        codes.MX,
        codes.SRV,
        codes.CAA,
        codes.TLSA,
        codes.SSHFP,
        codes.SVCB,
        codes.HTTPS,
        codes.PTR,
    )
)
_NOT_AT_APEX: Final = (codes.NS, codes.DS, codes.CNAME)
_AT: Final = b"\x01@"
"""As a first label below a zone: its field in redis would be that of the zone's own name."""
_OWNER_LABEL: Final = names.fold(bytes([len(OWNER_FIELD)]) + OWNER_FIELD.encode("ascii"))


class Held(NamedTuple):
    """Whose a name is."""

    zone: Name
    """That the name is in."""
    domain: Name
    """At or above the name: the reservation that the right to it comes from."""
    user: str
    """Decimal tid; empty: nobody's."""
    delegated: bool
    """Whether the whole zone is the user's."""


def text(name: Name) -> str:
    """A name as redis has it, without its final dot."""
    return names.to_text(name).decode("ascii").removesuffix(".")


def candidates(name: Name) -> list[str]:
    """The name and all above it, as fields of ``zone`` and ``managed_domains``, longest first."""
    found, at = [], name
    while at != names.ROOT:
        found.append(text(at))
        at = names.parent(at)
    return found


def held(name: Name, node_id: NodeId, zones: Mapping[str, bytes], claims: Mapping[str, bytes]) -> Held | None:
    """Whose a name is; None: it is in no zone of this gateway.

    zones, claims: fields of the hashes ``zone`` and ``managed_domains``, at least those of ``candidates``.
    """
    claim, user, at = names.NONE, "", name
    while at != names.ROOT:
        here = text(at)
        if (raw := zones.get(here)) is not None:
            owner = _owner(raw)
            if owner.isdecimal():
                return Held(at, at, owner, delegated=True)
            return Held(at, claim or at, user, delegated=False) if owner == node_id else None
        if not claim and (found := claims.get(here)) is not None and found.isdigit():
            claim, user = at, found.decode("ascii")
        at = names.parent(at)
    return None


def _owner(raw: bytes) -> str:
    try:
        return decode_zone_owner(raw)
    except SchemaError:
        return ""


class Rights:
    """Which records users may have, as the settings say."""

    def __init__(self, settings: UpdateSettings) -> None:
        self._own = _IN_OWN_ZONE | ({codes.NS, codes.DS} if settings.delegations else frozenset())
        self._managed = [_rule(item) for item in settings.managed]

    def allows(self, held: Held, name: Name, kind: int) -> bool:
        """Whether the holder of a name may have records of a type there."""
        if name.startswith(_OWNER_LABEL) or name == _AT + held.zone:
            return False
        if held.delegated:
            return kind in self._own and not (name == held.zone and kind in _NOT_AT_APEX)
        return any(kind == wanted and (not label or name.startswith(label)) for label, wanted in self._managed)


def _rule(text: str) -> tuple[bytes, int]:
    """``"_acme-challenge TXT"`` to first label in wire form (empty: any) and type."""
    label, _, kind = text.rpartition(" ")
    wire = names.fold(bytes([len(label)]) + label.encode("ascii")) if label else b""
    return wire, _TYPES[kind]


_TYPES: Final[Mapping[str, int]] = {name: kind for kind, name in codes.TYPE_NAMES.items() if kind in _IN_OWN_ZONE}
