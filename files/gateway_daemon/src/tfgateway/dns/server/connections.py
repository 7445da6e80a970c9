"""Which open connection gives way to a new one when there are too many: one of the network that has most. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

_IPV4_SIZE = 4
_IPV4_PREFIXES = (3,)
"""Bytes: the /24."""
_IPV6_PREFIXES = (6, 7, 8)
"""Bytes, the largest network first: /48, /56 and /64. One customer has one of them, and may have all."""


class EvictableConnection(Protocol):
    """A connection."""

    @property
    def address(self) -> bytes:
        """Of the client, packed."""

    @property
    def idle_until(self) -> float | None:
        """When it would end for want of a query: what has waited longest has the least; None: it is not idle."""

    @property
    def answered(self) -> int:
        """Queries that were answered."""


_C = TypeVar("_C", bound=EvictableConnection)


class _Network(Generic[_C]):
    """A network: the networks in it, or in the smallest ones the connections."""

    __slots__ = ("connections", "count", "networks")

    def __init__(self) -> None:
        self.count = 0
        self.networks: dict[bytes, _Network[_C]] = {}
        self.connections: dict[_C, None] = {}


class Connections(Generic[_C]):
    """Open connections by the networks of their clients."""

    def __init__(self) -> None:
        self._root: _Network[_C] = _Network()

    def __len__(self) -> int:
        return self._root.count

    def add(self, connection: _C) -> None:
        """Take one more."""
        network = self._root
        network.count += 1
        for prefix in _prefixes(connection.address):
            network = network.networks.setdefault(prefix, _Network())
            network.count += 1
        network.connections[connection] = None

    def discard(self, connection: _C) -> None:
        """Remove one; again is harmless."""
        path = [(b"", self._root)]
        for prefix in _prefixes(connection.address):
            inner = path[-1][1].networks.get(prefix)
            if inner is None:
                return
            path.append((prefix, inner))
        if connection not in path[-1][1].connections:
            return
        del path[-1][1].connections[connection]
        for _, network in path:
            network.count -= 1
        for (_, outer), (prefix, network) in itertools.pairwise(path):
            if not network.count:
                del outer.networks[prefix]
                return

    def of(self, address: bytes) -> int:
        """How many the client's smallest network has, which is one host's: its IPv4 address or its /64."""
        network: _Network[_C] | None = self._root
        for prefix in _prefixes(address):
            network = network.networks.get(prefix) if network is not None else None
        if network is None:
            return 0
        if len(address) == _IPV4_SIZE:
            return sum(connection.address == address for connection in network.connections)
        return network.count

    def next_to_evict(self) -> _C | None:
        """One of the network that has most, of the one in it that has most, and so on; None: there is none.

        One that waits for its next query goes first, then one that has not asked yet, of each the one that waits
        longest; then one that is being answered.
        """
        network = self._root
        while network.networks:
            network = max(network.networks.values(), key=_count)
        return min(network.connections, key=_order, default=None)


def _count(network: _Network[_C]) -> int:
    return network.count


def _order(connection: EvictableConnection) -> tuple[bool, bool, float]:
    until = connection.idle_until
    return until is None, not connection.answered, until or 0.0


def _prefixes(address: bytes) -> Iterator[bytes]:
    return (address[:size] for size in (_IPV4_PREFIXES if len(address) == _IPV4_SIZE else _IPV6_PREFIXES))
