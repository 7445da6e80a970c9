"""One zone in memory: which names exist, where it is cut, what a name leads to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.rrsets import Packed, RRset, for_denial, pack, unpack, with_serial

_DIGEST_SIZE: Final = 16
_SMALLEST: Final = 14
"""Bytes up to which there is one record at most: a head and an IPv4 address."""
_TYPE_A: Final = codes.A.to_bytes(2, "big")
_DIGEST_MASK: Final = 2 ** (8 * _DIGEST_SIZE) - 1


class Node(NamedTuple):
    """A name of the zone with its records; it exists even if none of its elements is usable."""

    rrsets: tuple[RRset, ...]

    def get(self, kind: int) -> RRset | None:
        for rrset in self.rrsets:
            if rrset.type == kind:
                return rrset
        return None


class Cut(NamedTuple):
    """A delegation: the zone knows nothing for certain at and below ``name`` (RFC 1034 §4.2.1)."""

    name: Name
    node: Node


EMPTY: Final = Node(())
"""A name without records that exists because of the names below it (RFC 4592 §2.2.2)."""


class Nodes(Mapping[Name, Node]):
    """The nodes of a zone, made on demand from one ``bytes`` a name, which the garbage collector need not visit.

    A million of them take a third of the memory of as many nodes, and less than they would to be loaded.
    """

    __slots__ = ("_packed",)

    def __init__(self, packed: dict[Name, Packed]) -> None:
        """packed: what is changed in it changes here."""
        self._packed = packed

    def __getitem__(self, name: Name) -> Node:
        return Node(unpack(self._packed[name]))

    def get(self, name: Name, default: Any = None) -> Any:
        """The node, or the default."""
        packed = self._packed.get(name)
        return default if packed is None else Node(unpack(packed))

    def __contains__(self, name: object) -> bool:
        return name in self._packed

    def __iter__(self) -> Iterator[Name]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


class Zone:
    """Names of one zone. Changed only between two queries, never during one."""

    __slots__ = ("_digest", "below", "cuts", "denial", "name", "nodes", "packed", "serial", "wildcards")

    def __init__(self, name: Name, apex: Packed) -> None:
        """apex: has a SOA (with serial 0) and NS, as has every later one of that name."""
        self.name = name
        self.packed: dict[Name, Packed] = {}
        """What ``nodes`` are made from; this, ``below`` and ``cuts`` are to be looked at, and changed by ``apply``."""
        self.nodes = Nodes(self.packed)
        self.serial = 0
        self.below: dict[Name, int] = {}
        """Names between the apex and a name of ``nodes`` -> how many of ``nodes`` are below: empty non-terminals."""
        self.cuts: set[Name] = set()
        self.wildcards = 0
        """Names that have, or may have, the label of a wildcard in them."""
        self._digest = 0
        self.denial: RRset
        """The SOA for the authority section of NXDOMAIN and NODATA."""
        self.apply([(name, apex)])

    @property
    def digest(self) -> int:
        """128 bits of all records but the serial, whatever the order in which they came."""
        return self._digest

    def apply(self, changes: Iterable[tuple[Name, Packed | None]]) -> None:
        """Put or remove (None) names. A change of the apex needs ``stamp`` afterwards."""
        packed_names, cuts, depth = self.packed, self.cuts, len(self.name)
        for name, packed in changes:
            old = packed_names.get(name)
            if old is not None:
                self._digest -= _digest(name, old)
                cuts.discard(name)
            if packed is None:
                if old is not None:
                    del packed_names[name]
                    self.wildcards -= names.WILDCARD in name  # type: ignore[comparison-overlap]  # it is bytes
                    self._count_above(name, -1)
                continue
            packed_names[name] = packed
            self._digest += _digest(name, packed)
            if old is None:
                self.wildcards += names.WILDCARD in name  # type: ignore[comparison-overlap]  # it is bytes
            # Most names are one label below the apex: nothing is in between.
            if old is None and len(name) != name[0] + 1 + depth:
                self._count_above(name, 1)
            if (len(packed) != _SMALLEST or packed[:2] != _TYPE_A) and name != self.name and _is_cut(packed):
                cuts.add(name)
        self._digest &= _DIGEST_MASK
        self._set_soa()

    def differs(self, name: Name, packed: Packed) -> bool:
        """Is something else served for this name? packed: a SOA in it has the serial 0."""
        old = self.packed.get(name)
        return (pack(_with_serial(unpack(old), 0)) if name == self.name and old is not None else old) != packed

    def copy(self) -> Iterator[tuple[Name, Packed]]:
        """All names with what is kept of them, as they are now; for ``apply`` of another zone."""
        return zip(list(self.packed), list(self.packed.values()), strict=True)

    @property
    def soa(self) -> RRset:
        """The SOA as it is served."""
        return next(item for item in self.nodes[self.name].rrsets if item.type == codes.SOA)

    def snapshot(self) -> Iterator[tuple[Name, tuple[RRset, ...]]]:
        """All names with their records as they are now, whatever changes while they are gone through."""
        return ((name, unpack(packed)) for name, packed in self.copy())

    def stamp(self, serial: int) -> None:
        """Serve the SOA with this serial."""
        self.serial = serial
        self._set_soa()

    def locate(self, name: Name) -> Node | Cut | None:
        """What ``name`` (folded, within the zone) leads to; None: it does not exist.

        RFC 1034 §4.3.2 step 3 with RFC 4592 §3.3: label by label, names above existing ones exist, and only the
        closest encloser's wildcard is the source of synthesis (D-6, D-7). Nothing at or below a cut is looked at.
        """
        if self.cuts and (cut := self._topmost_cut(name)):
            return Cut(cut, self.nodes[cut])
        packed = self.packed.get(name)
        if packed is not None:
            return Node(unpack(packed))
        if name in self.below:
            return EMPTY
        encloser = names.parent(name)
        while encloser not in self.packed and encloser not in self.below:
            encloser = names.parent(encloser)
        source = names.wildcard(encloser)
        packed = self.packed.get(source)
        return (EMPTY if source in self.below else None) if packed is None else Node(unpack(packed))

    def _topmost_cut(self, name: Name) -> Name | None:
        found = None
        while name != self.name:
            if name in self.cuts:
                found = name
            name = names.parent(name)
        return found

    def _count_above(self, name: Name, change: int) -> None:
        if name == self.name:
            return
        while (name := names.parent(name)) != self.name:
            count = self.below.get(name, 0) + change
            if count:
                self.below[name] = count
            else:
                del self.below[name]

    def _set_soa(self) -> None:
        rrsets = _with_serial(unpack(self.packed[self.name]), self.serial)
        self.packed[self.name] = pack(rrsets)
        self.denial = next(for_denial(item) for item in rrsets if item.type == codes.SOA)


def _with_serial(rrsets: Iterable[RRset], serial: int) -> tuple[RRset, ...]:
    return tuple(with_serial(item, serial) if item.type == codes.SOA else item for item in rrsets)


def _is_cut(packed: Packed) -> bool:
    return any(rrset.type == codes.NS for rrset in unpack(packed))


def _digest(name: Name, packed: Packed) -> int:
    """Digest of the records of one name; those of a zone are added up, so that a change costs only its own name."""
    records: bytes = packed
    if len(packed) > _SMALLEST:
        records = b"".join(body for rrset in _with_serial(unpack(packed), 0) for body in sorted(rrset.bodies))
    return int.from_bytes(hashlib.blake2b(name + records, digest_size=_DIGEST_SIZE).digest(), "big")
