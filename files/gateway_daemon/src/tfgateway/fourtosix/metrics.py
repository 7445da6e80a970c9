"""Metrics of the 4to6 plane."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from tfgateway.fourtosix.peers import Present

_ALIVE = 180
"""Seconds: WireGuard shakes hands at least every two minutes while packets flow, and gives up after three."""


class FourToSixMetrics:
    """Names begin with ``tfgateway_fourtosix_``."""

    def __init__(self, registry: CollectorRegistry, mirror_age: Callable[[], float]) -> None:
        """mirror_age: seconds since the wanted peers were known to be what redis holds."""

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"tfgateway_fourtosix_{name}", text, registry=registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"tfgateway_fourtosix_{name}", text, registry=registry)

        self._peers = gauge("peers", "Peers that the interface has")
        self._alive = gauge("peers_alive", "Peers that shook hands in the last three minutes")
        self.refused = gauge("peers_refused", "Rows of redis that can not become a peer")
        self.passes = counter("passes", "Comparisons of the interface with what it should be")
        self.passes_failed = counter("passes_failed", "Of these, the ones that could not be completed")
        gauge("mirror_age_seconds", "Seconds since the wanted peers were known to be what redis holds").set_function(
            mirror_age
        )

    def count(self, peers: Mapping[str, Present]) -> None:
        """Set the number of peers of the interface."""
        now = time.time()
        self._peers.set(len(peers))
        self._alive.set(sum(abs(now - peer.handshake) < _ALIVE for peer in peers.values()))
