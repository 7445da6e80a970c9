"""Looks up the records that answer a question: RFC 1034 §4.3.2. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.rrsets import RRset
from tfgateway.dns.zones.zone import Cut, Node, Zone
from tfgateway.dns.zones.zones import Zones

MAX_CHAIN: Final = 16
"""CNAME records in one answer. A resolver that gets an unfinished chain asks for its end (RFC 1034 §5.3.3)."""

Section = list[tuple[Name, RRset]]
"""(owner, records)."""


@dataclass(slots=True)
class Answer:
    """The sections and the rcode of an answer; encoding and truncation are not decided here."""

    rcode: int = codes.NOERROR
    authoritative: bool = True
    ede: int | None = None
    """Extended DNS Error (RFC 8914) that explains the rcode to a person."""
    about: Name = names.NONE
    """The name that rate limiting counts: the name if it is in the zone, else zone cut or zone; of errors: none."""
    transfer: Zone | None = None
    """Send all of this zone."""
    truncated: bool = False
    """Say nothing but: ask over TCP."""
    answer: Section = field(default_factory=list)
    authority: Section = field(default_factory=list)
    glue: Section = field(default_factory=list)
    """Additional records without which a referral is useless (RFC 9471 §3.1)."""
    additional: Section = field(default_factory=list)
    """Additional records that may be left out."""


def lookup(zones: Zones, name: Name, kind: int) -> Answer:
    """The answer to a question of class IN. kind: any type but AXFR and IXFR.

    Outside of all zones: REFUSED (D-4). A CNAME is followed through all zones that are served (D-8); its end decides
    about rcode and authority section (RFC 6604 §3), the first owner about the AA bit (RFC 1035 §4.1.1).
    """
    zone = zones.find(name, kind)
    if zone is None:
        return Answer(codes.REFUSED, authoritative=False, ede=codes.EDE_NOT_AUTHORITATIVE)
    reply = Answer(about=name if name in zone.nodes else zone.name)
    visited = {name}
    while zone is not None:
        found = zone.locate(name)
        if isinstance(found, Cut) and not (kind == codes.DS and found.name == name):
            if not reply.answer:
                reply.authoritative = False
                reply.about = found.name
            _refer(reply, zones, zone, found)
            return reply
        if isinstance(found, Cut) or (found is None and zones.leads_to_zone(name)):
            return _denied(reply, zone, codes.NOERROR)
        if found is None:
            return _denied(reply, zone, codes.NXDOMAIN)
        # ANY gets one of the RRsets (RFC 8482 §4.1).
        rrset = next(iter(found.rrsets), None) if kind == codes.ANY else found.get(kind)
        if rrset is not None:
            reply.answer.append((name, rrset))
            _add_addresses(reply, zones, zone, rrset)
            return reply
        alias = found.get(codes.CNAME)
        if alias is None:
            return _denied(reply, zone, codes.NOERROR)
        reply.answer.append((name, alias))
        name = alias.targets[0]
        if name in visited or len(reply.answer) == MAX_CHAIN:
            return reply
        visited.add(name)
        zone = zones.find(name, kind)
    return reply


def _denied(reply: Answer, zone: Zone, rcode: int) -> Answer:
    """NXDOMAIN or NODATA, with the SOA that says for how long (RFC 2308 §2)."""
    reply.rcode = rcode
    reply.authority.append((zone.name, zone.denial))
    return reply


def _refer(reply: Answer, zones: Zones, zone: Zone, cut: Cut) -> None:
    """A referral, with the addresses of those servers whose names are in this zone."""
    servers = cut.node.get(codes.NS)
    assert servers is not None  # noqa: S101 - what makes a cut
    reply.authority.append((cut.name, servers))
    for host in dict.fromkeys(servers.targets):
        # Glue stands at or below a cut, where locate() does not look, and a wildcard gives none.
        node = zone.nodes.get(host)
        if node is not None:
            section = reply.glue if names.is_within(host, cut.name) else reply.additional
            section += _addresses(host, node)
        elif zones.find(host, codes.A) is zone and isinstance(made := zone.locate(host), Node):
            reply.additional += _addresses(host, made)


def _add_addresses(reply: Answer, zones: Zones, zone: Zone, rrset: RRset) -> None:
    """The addresses of hosts that NS, MX and SRV name, as far as this very zone knows them (D-9)."""
    if rrset.type == codes.CNAME:
        return
    for host in dict.fromkeys(rrset.targets):
        if zones.find(host, codes.A) is zone:
            node = zone.locate(host)
            if isinstance(node, Node):
                reply.additional += _addresses(host, node)


def _addresses(host: Name, node: Node) -> Section:
    return [(host, rrset) for rrset in node.rrsets if rrset.type in (codes.A, codes.AAAA)]
