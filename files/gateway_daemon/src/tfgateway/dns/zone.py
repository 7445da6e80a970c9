"""One zone in memory: which names exist, where it is cut, what a name leads to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from tfgateway.dns import codes, names
from tfgateway.dns.rrsets import RRset, for_denial, with_serial

_DIGEST_SIZE: Final = 16
_DIGEST_MASK: Final = 2 ** (8 * _DIGEST_SIZE) - 1


class Node(NamedTuple):
    """A name that stands in the zone's hash; it exists even if none of its elements is usable."""

    rrsets: tuple[RRset, ...]
    fingerprint: int = 0
    """Of the stored bytes, good within this process only: did the field change?"""

    def get(self, kind: int) -> RRset | None:
        for rrset in self.rrsets:
            if rrset.type == kind:
                return rrset
        return None


class Cut(NamedTuple):
    """A delegation: the zone knows nothing for certain at and below ``name`` (RFC 1034 §4.2.1)."""

    name: bytes
    node: Node


EMPTY: Final = Node(())
"""A name without records that exists because of the names below it (RFC 4592 §2.2.2)."""


class Zone:
    """Names of one zone by their folded wire form. Changed only between two queries, never during one."""

    __slots__ = ("_below", "_cuts", "_digest", "denial", "name", "nodes", "serial")

    def __init__(self, name: bytes, apex: Node) -> None:
        """apex: has a SOA (with serial 0) and NS, as has every later node of that name."""
        self.name = name
        self.nodes: dict[bytes, Node] = {}
        self.serial = 0
        self._below: dict[bytes, int] = {}
        """Names between the apex and a name of ``nodes`` -> how many of ``nodes`` are below: empty non-terminals."""
        self._cuts: set[bytes] = set()
        self._digest = 0
        self.denial: RRset
        """The SOA for the authority section of NXDOMAIN and NODATA."""
        self.apply([(name, apex)])

    @property
    def digest(self) -> int:
        """128 bits of all records but the serial, whatever the order in which they came."""
        return self._digest

    def apply(self, changes: Iterable[tuple[bytes, Node | None]]) -> None:
        """Put or remove (None) names. A change of the apex needs ``stamp`` afterwards."""
        for name, node in changes:
            old = self.nodes.get(name)
            if old is not None:
                self._digest -= _digest(name, old)
                self._cuts.discard(name)
            if node is None:
                if old is not None:
                    del self.nodes[name]
                    self._count_above(name, -1)
                continue
            self.nodes[name] = node
            self._digest += _digest(name, node)
            if old is None:
                self._count_above(name, 1)
            if name != self.name and node.get(codes.NS) is not None:
                self._cuts.add(name)
        self._digest &= _DIGEST_MASK
        self._set_soa()

    @property
    def soa(self) -> RRset:
        """As it is served."""
        return next(item for item in self.nodes[self.name].rrsets if item.type == codes.SOA)

    def snapshot(self) -> Iterator[tuple[bytes, tuple[RRset, ...]]]:
        """All names with their records as they are now, whatever changes while they are gone through."""
        held, nodes = list(self.nodes), list(self.nodes.values())
        return ((name, node.rrsets) for name, node in zip(held, nodes, strict=True))

    def stamp(self, serial: int) -> None:
        """Serve the SOA with this serial."""
        self.serial = serial
        self._set_soa()

    def locate(self, name: bytes) -> Node | Cut | None:
        """What ``name`` (folded, within the zone) leads to; None: it does not exist.

        RFC 1034 §4.3.2 step 3 with RFC 4592 §3.3: label by label, names above existing ones exist, and only the
        closest encloser's wildcard is the source of synthesis (D-6, D-7). Nothing at or below a cut is looked at.
        """
        if self._cuts and (cut := self._topmost_cut(name)):
            return Cut(cut, self.nodes[cut])
        node = self.nodes.get(name)
        if node is not None:
            return node
        if name in self._below:
            return EMPTY
        encloser = names.parent(name)
        while encloser not in self.nodes and encloser not in self._below:
            encloser = names.parent(encloser)
        source = names.WILDCARD + encloser
        return self.nodes.get(source) or (EMPTY if source in self._below else None)

    def _topmost_cut(self, name: bytes) -> bytes | None:
        found = None
        while name != self.name:
            if name in self._cuts:
                found = name
            name = names.parent(name)
        return found

    def _count_above(self, name: bytes, change: int) -> None:
        if name == self.name:
            return
        while (name := names.parent(name)) != self.name:
            count = self._below.get(name, 0) + change
            if count:
                self._below[name] = count
            else:
                del self._below[name]

    def _set_soa(self) -> None:
        apex = self.nodes[self.name]
        rrsets = tuple(with_serial(item, self.serial) if item.type == codes.SOA else item for item in apex.rrsets)
        self.nodes[self.name] = Node(rrsets, apex.fingerprint)
        self.denial = next(for_denial(item) for item in rrsets if item.type == codes.SOA)


def _digest(name: bytes, node: Node) -> int:
    """Of the records of one name; those of a zone are added up, so that a change costs no more than itself."""
    state = hashlib.blake2b(name, digest_size=_DIGEST_SIZE)
    for rrset in node.rrsets:
        for body in sorted(with_serial(rrset, 0).bodies if rrset.type == codes.SOA else rrset.bodies):
            state.update(body)
    return int.from_bytes(state.digest(), "big")
