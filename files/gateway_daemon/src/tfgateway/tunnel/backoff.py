"""Backoff: how long a client waits before it tries again. Pure: randomness is passed in."""

from __future__ import annotations

from collections.abc import Callable

_CAP = 60.0


class Backoff:
    """Delays that double from ``first`` seconds up to a cap.

    Half of each is random, so that a thousand clients of one gateway do not come back in the same instant.
    """

    def __init__(self, first: float, chance: Callable[[], float]) -> None:
        """``chance``: a number from 0 to 1, another each time."""
        self._first = first
        self._chance = chance
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        delay = min(self._first * 2.0**self._failures, max(_CAP, self._first))
        self._failures = min(self._failures + 1, 30)
        return delay * (0.5 + 0.5 * self._chance())

    def reset(self) -> None:
        """It worked."""
        self._failures = 0
