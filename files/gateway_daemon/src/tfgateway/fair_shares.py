"""A limit shared by clients: when it is exceeded, the network that has most loses first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

_CANDIDATES = 256
"""Holders of one network that are compared when one is to be evicted: what a flood costs is bounded."""

Source = str | bytes
"""The network or single address that a client is counted under (``addresses.source``)."""

_H = TypeVar("_H", bound=Hashable)


class _Network(Generic[_H]):
    """A node of the tree of networks: either inner networks, or holders."""

    __slots__ = ("amount", "holders", "networks")

    def __init__(self) -> None:
        self.amount = 0
        self.networks: dict[Source, _Network[_H]] = {}
        self.holders: dict[_H, None] = {}
        """In the order in which they became idle or busy."""


@dataclass(slots=True)
class _Share:
    networks: tuple[Source, ...]
    amount: int
    busy: bool = True


class FairShares(Generic[_H]):
    """Holders (connections, polls) and their amounts (bytes, or 1 each), at most ``limit`` together.

    A holder is in a network, which may be part of a larger one: ``networks``, the largest first. What is evicted is in
    the network that has most, of those in it again in the one that has most, and so on. Of networks that have as much
    it is the one that came first.
    """

    def __init__(self, limit: int, rank: Callable[[_H], Any] | None = None) -> None:
        """rank: of the holders of one network the one with the least is evicted first.

        Without it: an idle one before a busy one, the one with most before others, and of several with as much the one
        that has been idle or busy for longest. Of very many, those are compared that have been so for longest.
        """
        self.limit = limit
        self._rank = rank or self._idle_and_large
        self._root: _Network[_H] = _Network()
        self._shares: dict[_H, _Share] = {}

    @property
    def total(self) -> int:
        """All amounts together."""
        return self._root.amount

    def add(self, holder: _H, networks: Sequence[Source], amount: int) -> None:
        """Add to a holder's amount (negative: take away). A new holder is busy; one left with nothing is removed."""
        had = self._take(holder)
        # One that was evicted while it still had something to return returns nothing.
        if (has := amount + (had.amount if had else 0)) > 0:
            self._put(holder, _Share(tuple(networks), has))

    def remove(self, holder: _H) -> None:
        """Forget a holder; harmless when it is unknown."""
        self._take(holder)

    def mark_idle(self, holder: _H) -> None:
        """Note that a holder does nothing with what it has; harmless when it is unknown."""
        self._mark(holder, busy=False)

    def mark_busy(self, holder: _H) -> None:
        """Note that a holder is in use again, or still; harmless when it is unknown."""
        self._mark(holder, busy=True)

    def amount(self, networks: Sequence[Source]) -> int:
        """What a network has."""
        network = self._find(networks)
        return network.amount if network is not None else 0

    def holders(self, networks: Sequence[Source]) -> Collection[_H]:
        """The holders in a smallest network."""
        network = self._find(networks)
        return network.holders if network is not None else ()

    def has_most(self, networks: Sequence[Source]) -> bool:
        """Whether no other network has more, nor any beside it in the larger ones."""
        network: _Network[_H] | None = self._root
        for part in networks:
            beside = network.networks if network is not None else {}
            network = beside.get(part)
            if any(other.amount > (network.amount if network is not None else 0) for other in beside.values()):
                return False
        return True

    def evict(self, room: int = 0) -> list[_H]:
        """Remove holders until there is room, and return them; the caller closes them.

        room: how much must be free then.
        """
        ended: list[_H] = []
        while self.total + room > self.limit and (holder := self._next_to_evict()) is not None:
            self._take(holder)
            ended.append(holder)
        return ended

    def _next_to_evict(self) -> _H | None:
        network = self._root
        while network.networks:
            network = max(network.networks.values(), key=_amount)
        return min(islice(network.holders, _CANDIDATES), key=self._rank, default=None)

    def _idle_and_large(self, holder: _H) -> tuple[bool, int]:
        share = self._shares[holder]
        return share.busy, -share.amount

    def _mark(self, holder: _H, *, busy: bool) -> None:
        if (share := self._take(holder)) is not None:
            share.busy = busy
            self._put(holder, share)

    def _find(self, networks: Sequence[Source]) -> _Network[_H] | None:
        network = self._root
        for part in networks:
            inner = network.networks.get(part)
            if inner is None:
                return None
            network = inner
        return network

    def _put(self, holder: _H, share: _Share) -> None:
        self._shares[holder] = share
        network = self._root
        network.amount += share.amount
        for part in share.networks:
            network = network.networks.setdefault(part, _Network())
            network.amount += share.amount
        network.holders[holder] = None

    def _take(self, holder: _H) -> _Share | None:
        """Remove a holder and return its share; None when it is unknown."""
        share = self._shares.pop(holder, None)
        if share is None:
            return None
        outer = self._root
        outer.amount -= share.amount
        for part in share.networks:
            network = outer.networks[part]
            network.amount -= share.amount
            if not network.amount:
                del outer.networks[part]  # with the networks in it
            outer = network
        del outer.holders[holder]
        return share


def _amount(network: _Network[Any]) -> int:
    return network.amount
