"""Zone transfers out (RFC 5936): a whole zone in messages of bounded size. Pure.

The zone is a snapshot of the moment of the query; its messages are made one at a time, when the one before is sent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.query import HEADER, Query
from tfgateway.dns.wire.rrsets import RRset
from tfgateway.dns.zones.zone import Zone

_MESSAGE_SIZE: Final = 16 * 1024
"""Bytes after which a message is complete: what a pointer reaches (RFC 1035 §4.1.4), and a slice of the event loop."""
_ZONE: Final = (0xC000 | HEADER.size).to_bytes(2, "big")
"""Each message repeats the question: the zone's name stands there."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A network and key that may transfer zones (D-10)."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    key: Name = names.NONE
    """Name of the TSIG key that the request has to be signed with; empty: none."""

    def admits(self, client: bytes, key: Name) -> bool:
        """Whether a client may. client: packed address; key: of a request that was verified."""
        return ipaddress.ip_address(client) in self.network and (not self.key or self.key == key)


def bodies(query: Query, zone: Zone, first_size: int) -> Iterator[tuple[int, bytes]]:
    """For each message the number of records and the body; first_size: bytes that the first one has besides.

    The SOA stands first and last; in between is all the zone holds, glue and names below cuts included (§3.5).
    """
    soa = next(_records(zone.name, zone.soa, zone))
    parts, size = [query.question, soa], first_size + len(query.question) + len(soa)
    for owner, rrsets in zone.snapshot():
        for rrset in rrsets:
            # A CNAME beside SOA and NS is served for old users; other servers would refuse the zone for it.
            if owner == zone.name and rrset.type in (codes.SOA, codes.CNAME):
                continue
            for record in _records(owner, rrset, zone):
                if size + len(record) > _MESSAGE_SIZE and len(parts) > 1:
                    yield len(parts) - 1, b"".join(parts)
                    parts, size = [query.question], len(query.question)
                parts.append(record)
                size += len(record)
    parts.append(soa)
    yield len(parts) - 1, b"".join(parts)


def _records(owner: Name, rrset: RRset, zone: Zone) -> Iterator[bytes]:
    start = owner[: len(owner) - len(zone.name)] + _ZONE
    for body in rrset.bodies:
        yield start + body
