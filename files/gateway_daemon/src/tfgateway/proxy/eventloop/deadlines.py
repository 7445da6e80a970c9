"""Time-outs of very many things, without a timer for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Deadlines(Generic[_T]):
    """Things that may all take the same time: whatever came in first expires first, so nothing has to be sorted."""

    __slots__ = ("_until", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # A dict remembers the order of insertion: it is the order of expiry.
        self._until: dict[_T, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def start(self, thing: _T, now: float) -> None:
        """``thing`` expires ``seconds`` after ``now``, which never goes back; its earlier deadline is forgotten."""
        self._until.pop(thing, None)
        self._until[thing] = now + self.seconds

    def stop(self, thing: _T) -> None:
        """Forget the deadline of ``thing``; harmless when there is none."""
        self._until.pop(thing, None)

    def oldest(self) -> _T | None:
        """What expires next."""
        return next(iter(self._until), None)

    def expired(self, now: float) -> Iterator[_T]:
        """Take out what has expired, oldest first; the caller may start and stop others meanwhile."""
        while self._until:
            thing, until = next(iter(self._until.items()))
            if until > now:
                return
            del self._until[thing]
            yield thing
