"""A field of a zone's hash to the packed records of its name. Pure; what is damaged costs itself only (D-2)."""

from __future__ import annotations

import re

from tfgateway.dns.wire import codes
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.rrsets import (
    Packed,
    RRset,
    ZonePolicy,
    address_head,
    merge,
    pack,
    render,
    render_name_servers,
    render_soa,
)
from tfgateway.net.addresses import IPV4
from tfgateway.redis_schema import resource_records
from tfgateway.redis_schema.records import RecordSet, decode_records

_NOTHING = b"{}"


# What the gateways write for one IPv4 address, byte for byte: nearly all fields, decoded ten times faster.
_ONE_ADDRESS = re.compile(rb'\{"a":\[\{"ip":"(' + IPV4.encode() + rb')","ttl":(0|[1-9][0-9]{0,8})\}\]\}')


def read(raw: bytes, policy: ZonePolicy) -> tuple[Packed, list[str]]:
    """The records of any name but the apex, and one line for each element that is not served."""
    if found := _ONE_ADDRESS.fullmatch(raw):
        ip, ttl = found.groups()
        packed = address_head(int(ttl), policy.ttl) + bytes(map(int, ip.split(b".")))
        return packed, []  # type: ignore[return-value]  # to call a NewType takes time
    records, rrsets, problems = rendered(raw, policy.ttl)
    if records.soa is not None:
        problems.append("soa: only a zone's own name (@) has one")
    kinds = {rrset.type for rrset in rrsets}
    if codes.CNAME in kinds and codes.NS in kinds:
        problems.append("a delegated name is no alias (RFC 1034 §3.6.2): its cname is not served")
        rrsets = [rrset for rrset in rrsets if rrset.type != codes.CNAME]
    elif codes.CNAME in kinds and len(kinds) > 1:
        problems.append("an alias has no other records (RFC 1034 §3.6.2): only its cname is served")
        rrsets = [rrset for rrset in rrsets if rrset.type == codes.CNAME]
    return pack(rrsets), problems


def read_apex(raw: bytes | None, zone: Name, policy: ZonePolicy) -> tuple[Packed, list[str]]:
    """The records of the zone name, ``@``; None: there is no such field. What every zone needs is synthesised (D-1).

    A cname beside SOA and NS is wrong, but was served and stands for the types that the name does not have.
    """
    records, rrsets, problems = rendered(raw if raw is not None else _NOTHING, policy.ttl)
    soa, more = render_soa(records.soa, zone, policy)
    if all(rrset.type != codes.NS for rrset in rrsets):
        rrsets.insert(0, render_name_servers(policy))
    return pack([soa, *rrsets]), [*problems, *more]


def rendered(raw: bytes, ttl: int) -> tuple[RecordSet, list[RRset], list[str]]:
    """The records of a field as stored and as RRsets, those of users among them, and one line for each that is not.

    ttl: see ``ZonePolicy``.
    """
    records, skipped = decode_records(raw)
    rrsets, problems = render(records, ttl)
    if resource_records.has_any(raw):
        added, damaged = resource_records.decode(raw)
        rrsets, more = merge(rrsets, added, ttl)
        problems += [*damaged, *more]
    return records, rrsets, [*skipped, *problems]
