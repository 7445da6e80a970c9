"""What a zone can say at once about a name below its own: one RRset without names in it, NODATA, NXDOMAIN. Pure.

Read from the zones as they are at every query. Kept is only what an NXDOMAIN looks like, until anything changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, cast

from tfgateway.dns.answer import rate_limit
from tfgateway.dns.answer.answer_cache import ROOM, Answer, heads
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.respond import Transport
from tfgateway.dns.wire import codes
from tfgateway.dns.wire.names import Name
from tfgateway.dns.zones.zone import EMPTY, Cut, Node, Zone
from tfgateway.dns.zones.zones import Zones

_KINDS: Final = {
    kind.to_bytes(2, "big") + codes.CLASS_IN.to_bytes(2, "big"): kind
    for kind in codes.TYPE_NAMES
    if kind not in (codes.DS, codes.IXFR, codes.AXFR, codes.ANY)
}
"""Type and class -> type, of what needs no treatment of its own."""
_FOLDED: Final = frozenset(tail for tail in _KINDS if tail.lower() == tail.upper())
"""Those that stay what they are, and that no other becomes, when a whole question is folded."""
_TYPE_A: Final = codes.A.to_bytes(2, "big")
_ONE_A: Final = 14
"""Bytes of a packed name that has an address and nothing else."""
_MAX_LABEL: Final = 63
_MAX_NAME: Final = 255
_MAX_ACCOUNTS: Final = 10_000
_MAX_DENIALS: Final = 10_000
_ROOM: Final = ROOM - 4
"""Bytes of name and records."""
_POINTERS: Final = [(0xC000 | 12 + offset).to_bytes(2, "big") for offset in range(_MAX_NAME)]
"""By the distance from the beginning of the question (RFC 1035 §4.1.4)."""
_QUESTION: Final = _POINTERS[0]

_POSITIVE: Final = [heads(codes.AUTHORITATIVE, count, 0, 0) for count in range(ROOM // 16 + 1)]
"""By the number of records; none is shorter than 16 bytes with its pointer."""
NODATA: Final = heads(codes.AUTHORITATIVE | codes.NOERROR, 0, 1, 0)
NXDOMAIN: Final = heads(codes.AUTHORITATIVE | codes.NXDOMAIN, 0, 1, 0)
"""Headers of NXDOMAIN responses."""


class _NxdomainBuckets(dict[bytes, int]):
    """Zone -> rate limiting bucket of its NXDOMAINs, since a look-up is quicker than hashing."""

    def __missing__(self, zone: bytes) -> int:
        if len(self) >= _MAX_ACCOUNTS:
            self.clear()
        bucket = self[zone] = rate_limit.bucket(rate_limit.NXDOMAIN, zone)
        return bucket


class DirectAnswers:
    """Answers from the records of a zone, without a search for cuts, wildcards or aliases."""

    def __init__(self, zones: Zones, counts: QueryCounters, transport: Transport = "udp") -> None:
        """transport: that replies are counted for."""
        # What is looked up may turn out to be no name.
        self._zones = cast("Mapping[bytes, Zone]", zones.zones)
        self._above = zones.above
        self._nxdomain_buckets = _NxdomainBuckets()
        self._denials: dict[bytes, tuple[Zone, dict[int, Answer]]] = {}
        """What follows the first label of a folded question -> the zone, and the NXDOMAIN by that label's length."""
        zones.watch(self._changed)
        self._found = {kind: counts.cell(transport, kind, codes.NOERROR) for kind in _KINDS.values()}
        self._missing = {kind: counts.cell(transport, kind, codes.NXDOMAIN) for kind in _KINDS.values()}

    def denied(self, question: bytes) -> Answer | None:
        """NXDOMAIN for a question that is like one that got it before; None: take the slow path. question: folded."""
        length = question[0] if question else 0
        kept = self._denials.get(question[length + 1 :])
        if kept is None:
            return None
        zone, answers = kept
        name = question[:-4]
        if name in zone.packed or name in zone.below or name in self._zones or name in self._above:
            return None
        return answers.get(length)

    def answer(self, name: Name, tail: bytes) -> Answer | None:
        """The answer; None: take the slow path, the question may even be malformed.

        name: folded bytes that should be a name; tail: those that should be type and class.
        """
        kind = _KINDS.get(tail)
        size = len(name)
        if kind is None or not 1 < size <= _MAX_NAME or name in self._zones:
            return None
        length = name[0]
        above = name[length + 1 :]
        zone = self._zones.get(above)
        if not 0 < length <= _MAX_LABEL:
            return None
        deep = zone is None
        while zone is None:
            if not above or not 0 < above[0] <= _MAX_LABEL:
                return None
            above = above[above[0] + 1 :]
            zone = self._zones.get(above)
        node: Node | Cut | None
        packed = zone.packed.get(name)
        if packed is None:
            if not (deep or zone.cuts or zone.wildcards or name in zone.below or name in self._above):
                records = _POINTERS[length + 1] + zone.denial.bodies[0]
                if size + len(records) > _ROOM:
                    return None
                denial = NXDOMAIN, records, self._missing[kind], self._nxdomain_buckets[above]
                if not deep and tail in _FOLDED:
                    if len(self._denials) >= _MAX_DENIALS:
                        self._denials.clear()
                    self._denials.setdefault(above + tail, (zone, {}))[1][length] = denial
                return denial
            node = zone.locate(name)
            about = above  # as in lookup
        else:
            about = name
            if len(packed) == _ONE_A and packed[:2] == _TYPE_A and not zone.cuts:
                if kind == codes.A:
                    return (
                        _POSITIVE[1],
                        _QUESTION + packed,
                        self._found[kind],
                        rate_limit.bucket(rate_limit.POSITIVE, name),
                    )
                node = EMPTY
            else:
                node = zone.locate(name)
        if node is None:
            if name in self._above:
                return None
            made, cell, bucket = NXDOMAIN, self._missing[kind], self._nxdomain_buckets[above]
        else:
            made, cell, bucket = NODATA, self._found[kind], rate_limit.bucket(rate_limit.NODATA, about)
        if isinstance(node, Cut):
            return None
        for rrset in () if node is None else node.rrsets:
            if rrset.type == kind:
                if rrset.targets:
                    return None
                records = _QUESTION + _QUESTION.join(rrset.bodies)
                if size + len(records) > _ROOM:
                    return None
                return (
                    _POSITIVE[len(rrset.bodies)],
                    records,
                    self._found[kind],
                    rate_limit.bucket(rate_limit.POSITIVE, about),
                )
            if rrset.type == codes.CNAME:
                return None
        records = _POINTERS[size - len(above)] + zone.denial.bodies[0]
        if size + len(records) > _ROOM:
            return None
        return made, records, cell, bucket

    def _changed(self, _zone: Name, _names: Collection[Name] | None) -> None:
        """Forget what was learnt of a changed zone; a ``Watcher`` of the zones."""
        self._denials.clear()
