"""Who counts as alive, also right after the clock was set."""

from __future__ import annotations

import time

import pytest
from prometheus_client import CollectorRegistry
from tfgateway.fourtosix.metrics import FourToSixMetrics
from tfgateway.fourtosix.peers import Present


@pytest.mark.parametrize(("ago", "alive"), [(0, 1), (170, 1), (190, 0), (7200, 0), (-7200, 0)])
def test_a_peer_is_alive_for_three_minutes_after_it_shook_hands(ago: int, alive: int) -> None:
    registry = CollectorRegistry()
    FourToSixMetrics(registry, lambda: 0.0).count({"peer": Present(frozenset(), 0, int(time.time()) - ago)})
    assert registry.get_sample_value("tfgateway_fourtosix_peers_alive") == alive
