"""Delays after failures: exponential, bounded, jittered so that a fleet does not retry in step."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Exponential back-off. first, longest: seconds. spread: picks a number between two."""

    def __init__(
        self, first: float = 1.0, longest: float = 60.0, spread: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first = first
        self._longest = longest
        self._spread = spread
        self._failures = 0

    def failed(self) -> float:
        """Seconds to wait after another failure in a row."""
        # The exponent is bounded before the power is taken: after a week away it would not fit a float.
        ceiling = min(self._first * 2.0 ** min(self._failures, 30), self._longest)
        self._failures += 1
        return self._spread(ceiling / 2, ceiling)

    def succeeded(self) -> None:
        """Start again from the shortest delay."""
        self._failures = 0
