"""A bounded resource and who has how much of it: when there is too little, the source that has most gives way. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_Holder = TypeVar("_Holder", bound=Hashable)
Source = str | bytes
"""What a client counts for: ``addresses.source``."""


class Shares(Generic[_Holder]):
    """Holders (connections, polls) and their amounts (bytes, or 1 each) by source, at most ``limit`` together.

    Among those of the source with most, an idle holder gives way before a busy one, the one with most before others,
    and of several with as much the one that has been idle or busy for longest.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._sources: dict[_Holder, Source] = {}
        self._sums: dict[Source, int] = {}
        self._idle: dict[Source, dict[_Holder, int]] = {}
        self._busy: dict[Source, dict[_Holder, int]] = {}

    def add(self, holder: _Holder, source: Source, amount: int) -> None:
        """Give a holder more, or less; a new one begins as busy, one without anything is forgotten."""
        had = self._take(holder)
        # One that gave way while it still had something to return returns nothing.
        if (has := had + amount) > 0:
            self._put(holder, source, has, self._busy)

    def remove(self, holder: _Holder) -> None:
        """Forget a holder; harmless when it is unknown."""
        self._take(holder)

    def idle(self, holder: _Holder) -> None:
        """Note that a holder does nothing with what it has; harmless when it is unknown."""
        self._move(holder, self._idle)

    def busy(self, holder: _Holder) -> None:
        """Note that a holder is in use again, or still; harmless when it is unknown."""
        self._move(holder, self._busy)

    def largest(self) -> Source | None:
        """The source that has most; of those that have as much, the one that came first. None when nobody has any."""
        return max(self._sums, key=self._sums.__getitem__, default=None)

    def has_most(self, source: Source) -> bool:
        """Whether no other source has more."""
        return self._sums.get(source, 0) >= max(self._sums.values(), default=0)

    def evict(self) -> list[_Holder]:
        """Forget as many holders as are too many, and name them: they have to be ended."""
        ended: list[_Holder] = []
        while self.total > self.limit and (source := self.largest()) is not None:
            holders = self._idle.get(source) or self._busy[source]
            ended.append(max(holders, key=holders.__getitem__))
            self._take(ended[-1])
        return ended

    def _move(self, holder: _Holder, where: dict[Source, dict[_Holder, int]]) -> None:
        if (source := self._sources.get(holder)) is not None:
            self._put(holder, source, self._take(holder), where)

    def _put(self, holder: _Holder, source: Source, amount: int, where: dict[Source, dict[_Holder, int]]) -> None:
        self._sources[holder] = source
        self._sums[source] = self._sums.get(source, 0) + amount
        where.setdefault(source, {})[holder] = amount
        self.total += amount

    def _take(self, holder: _Holder) -> int:
        """Its amount, which it has no more; 0 when it is unknown."""
        source = self._sources.pop(holder, None)
        if source is None:
            return 0
        amount = 0
        for where in (self._idle, self._busy):
            if holder in (holders := where.get(source, {})):
                amount = holders.pop(holder)
                if not holders:
                    del where[source]
        self._sums[source] -= amount
        if source not in self._idle and source not in self._busy:
            del self._sums[source]
        self.total -= amount
        return amount
