"""Which open connection is evicted for a new one when there are too many: one of the network that has most. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from tfgateway.fair_shares import FairShares

_IPV4_SIZE = 4
_IPV4_PREFIXES = (3,)
"""Bytes: the /24."""
_IPV6_PREFIXES = (6, 7, 8)
"""Bytes, the largest network first: /48, /56 and /64. One customer has one of them, and may have all."""


class EvictableConnection(Hashable, Protocol):
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


class Connections(Generic[_C]):
    """At most ``limit`` open connections, by the networks of their clients.

    One that waits for its next query is evicted first, then one that has not asked yet, of each the one that waits
    longest; then one that is being answered.
    """

    def __init__(self, limit: int) -> None:
        self._shares: FairShares[_C] = FairShares(limit, _rank)

    def __len__(self) -> int:
        return self._shares.total

    def add(self, connection: _C) -> None:
        """Take one more."""
        self._shares.add(connection, _networks(connection.address), 1)

    def discard(self, connection: _C) -> None:
        """Remove one; again is harmless."""
        self._shares.remove(connection)

    def of(self, address: bytes) -> int:
        """How many the client's smallest network has, which is one host's: its IPv4 address or its /64."""
        networks = _networks(address)
        if len(address) == _IPV4_SIZE:
            return sum(connection.address == address for connection in self._shares.holders(networks))
        return self._shares.amount(networks)

    def make_room(self) -> list[_C]:
        """Forget as many as leave room for another one, and name them: they have to be closed."""
        return self._shares.evict(room=1)


def _rank(connection: EvictableConnection) -> tuple[bool, bool, float]:
    until = connection.idle_until
    return until is None, not connection.answered, until or 0.0


def _networks(address: bytes) -> tuple[bytes, ...]:
    prefixes = _IPV4_PREFIXES if len(address) == _IPV4_SIZE else _IPV6_PREFIXES
    return tuple(address[:size] for size in prefixes)
