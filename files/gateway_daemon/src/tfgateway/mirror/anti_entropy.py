"""A slow comparison of all of redis with the copy, in a bounded share of time: finds changes that were never announced.

Redis names every changed key, and after every gap all of them are read anew. What is left is what no message
names: two databases that were swapped, a push that was lost on its way, a mistake of ours.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

SHARE = 0.02
"""Of the time that may go into comparing."""
PERIOD = 20.0
"""Seconds from the beginning of one comparison to the next at least: what is compared in one second is looked at at
least once a minute."""
_KEYS_AT_ONCE = 200


class AntiEntropy:
    """One step of the comparison at a time; a step is some keys, or one big hash."""

    def __init__(
        self,
        known: Callable[[], Iterable[bytes]],
        holds: Callable[[bytes], bool],
        names: Callable[[int], Awaitable[tuple[int, list[bytes]]]],
        refresh: Callable[[Sequence[bytes]], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """known, holds: keys of the copy; names: keys of redis, from a place of the scan on; refresh: reads some."""
        self._known = known
        self._holds = holds
        self._names = names
        self._refresh = refresh
        self._clock = clock
        self._rest: list[bytes] | None = None
        """Keys of the copy that are still to be read in this round; None: it has not begun, or is past them."""
        self._cursor: int | None = None
        """Cursor of the scan for keys that the copy does not have."""
        self._began = clock()
        self.due = self._began + PERIOD
        """When the next step is to be made, by ``clock``."""
        self.rounds = 0
        """Complete comparisons so far."""

    async def step(self) -> None:
        """Compare the next part. Errors: what ``names`` and ``refresh`` raise; the round then resumes where it was."""
        started = self._clock()
        if self._rest is None and self._cursor is None:
            self._began = started
            # The names only, which are the copy's own objects: their values would be a second copy.
            self._rest = list(self._known())
        if self._rest:
            some = self._rest[-_KEYS_AT_ONCE:]
            await self._refresh(some)
            del self._rest[-len(some) :]
        else:
            self._rest = None
            self._cursor, names = await self._names(self._cursor or 0)
            await self._refresh([name for name in names if not self._holds(name)])
        now = self._clock()
        self.due = now + (now - started) * (1 / SHARE - 1)
        if self._cursor == 0:
            self._cursor = None
            self.rounds += 1
            self.due = max(self.due, self._began + PERIOD)
