"""What a zone can say at once about a name below its own: one RRset without names in it, NODATA, NXDOMAIN. Pure.

Read from the zones as they are at every query: nothing is kept, nothing can be outdated.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from tfgateway.dns import codes, rrl
from tfgateway.dns.answers import ROOM, Answer, heads
from tfgateway.dns.counts import Counts
from tfgateway.dns.table import DnsTable
from tfgateway.dns.zone import Cut

_KINDS: Final = {
    kind.to_bytes(2, "big") + codes.CLASS_IN.to_bytes(2, "big"): kind
    for kind in codes.TYPE_NAMES
    if kind not in (codes.DS, codes.IXFR, codes.AXFR, codes.ANY)
}
"""Type and class -> type, of what needs no treatment of its own."""
_MAX_LABEL: Final = 63
_MAX_NAME: Final = 255
_HEADER: Final = 12
_POINTER: Final = 0xC000
_QUESTION: Final = b"\xc0\x0c"
"""A pointer to the question's name."""

_POSITIVE: Final = [heads(codes.AUTHORITATIVE, count, 0, 0) for count in range(ROOM // 16 + 1)]
"""By the number of records; none is shorter than 16 bytes with its pointer."""
_NODATA: Final = heads(codes.AUTHORITATIVE | codes.NOERROR, 0, 1, 0)
_NXDOMAIN: Final = heads(codes.AUTHORITATIVE | codes.NXDOMAIN, 0, 1, 0)
DENIALS: Final = (_NODATA, _NXDOMAIN)
"""The heads of answers that say that there is nothing."""


@cache
def _pointer(at: int) -> bytes:
    return (_POINTER | at).to_bytes(2, "big")


class Direct:
    """Over a table's zones."""

    def __init__(self, table: DnsTable, counts: Counts) -> None:
        self._table = table
        self._zones = table.zones
        self._positive = {kind: counts.cell("udp", kind, codes.NOERROR) for kind in _KINDS.values()}
        self._nxdomain = {kind: counts.cell("udp", kind, codes.NXDOMAIN) for kind in _KINDS.values()}

    def answer(self, name: bytes, tail: bytes) -> Answer | None:
        """The answer; None: look further, the question may even be malformed.

        name: folded bytes that should be a name; tail: those that should be type and class.
        """
        kind = _KINDS.get(tail)
        if kind is None or not 1 < len(name) <= _MAX_NAME:
            return None
        zones = self._zones
        above = name
        while True:
            length = above[0]
            if not 0 < length <= _MAX_LABEL:
                return None
            above = above[length + 1 :]
            zone = zones.get(above)
            if zone is not None:
                break
            if not above:
                return None
        if name in zones:
            return None
        node = zone.locate(name)
        if node is None:
            if self._table.leads_to_zone(name):
                return None
            made, cell, account = _NXDOMAIN, self._nxdomain[kind], rrl.account(rrl.NXDOMAIN, above)
        elif isinstance(node, Cut):
            return None
        else:
            cell = self._positive[kind]
            about = name if name in zone.nodes else above  # as in lookup
            for rrset in node.rrsets:
                if rrset.type == kind:
                    if rrset.targets:
                        return None
                    records = _QUESTION + _QUESTION.join(rrset.bodies)
                    if len(name) + len(tail) + len(records) > ROOM:
                        return None
                    return _POSITIVE[len(rrset.bodies)], records, cell, rrl.account(rrl.POSITIVE, about)
                if rrset.type == codes.CNAME:
                    return None
            made, account = _NODATA, rrl.account(rrl.NODATA, about)
        records = _pointer(_HEADER + len(name) - len(above)) + zone.denial.bodies[0]
        if len(name) + len(tail) + len(records) > ROOM:
            return None
        return made, records, cell, account
