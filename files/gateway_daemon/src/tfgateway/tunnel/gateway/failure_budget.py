"""The failure budget of a source: how often it may come without a known secret (T-4). Pure: the clock is passed in."""

from __future__ import annotations

from collections import OrderedDict

from tfgateway.net import addresses

_MAX_SOURCES = 10_000


class FailureBudget:
    """A budget of failures for each source: an IPv4 address, or an IPv6 /64, which belongs to one customer."""

    def __init__(self, *, burst: int, per_second: float) -> None:
        """``burst`` failures at once, and ``per_second`` more as time goes by."""
        self._burst = float(burst)
        self._per_second = per_second
        self._spent: OrderedDict[str | bytes, tuple[float, float]] = OrderedDict()
        """Source -> (failures that count, at this time); the oldest are forgotten first."""

    def exhausted(self, address: str, now: float) -> bool:
        """Whether it failed so often that only a known secret helps it now."""
        return self._failures(addresses.source(address), now) + 1 > self._burst

    def failed(self, address: str, now: float) -> None:
        """Count one failure."""
        source = addresses.source(address)
        self._spent[source] = (self._failures(source, now) + 1, now)
        self._spent.move_to_end(source)
        if len(self._spent) > _MAX_SOURCES:
            self._spent.popitem(last=False)

    def _failures(self, source: str | bytes, now: float) -> float:
        failures, then = self._spent.get(source, (0.0, now))
        return max(0.0, failures - (now - then) * self._per_second)
