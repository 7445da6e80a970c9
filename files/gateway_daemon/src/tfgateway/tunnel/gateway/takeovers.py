"""Clients that take a secret from each other again and again. Pure: the clock is passed in."""

from __future__ import annotations

from collections import OrderedDict

from tfgateway.tunnel.digest import Digest

_MANY = 4
_WITHIN = 300.0
"""Seconds: so often in this time is no client that reconnects."""
_MAX_TUNNELS = 10_000


class Takeovers:
    """Of one worker."""

    def __init__(self) -> None:
        self._times: OrderedDict[Digest, list[float]] = OrderedDict()

    def add(self, digest: Digest, now: float) -> bool:
        """A client was replaced by a newer one. True: it should be said that this happens too often."""
        times = [then for then in self._times.pop(digest, []) if now - then < _WITHIN]
        times.append(now)
        many = len(times) >= _MANY
        self._times[digest] = [] if many else times
        if len(self._times) > _MAX_TUNNELS:
            self._times.popitem(last=False)
        return many
