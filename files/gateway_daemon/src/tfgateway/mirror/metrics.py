"""Metric that says whether a plane follows redis; all planes have it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tfgateway.mirror.mirror import Mirror


def hold_metric(plane: str) -> str:
    """The name of the metric."""
    return f"tfgateway_{plane}_redis_implausible_seconds"


class HoldCollector(Collector):
    """Collects the metric for the registry of a worker."""

    def __init__(self, plane: str, mirror: Mirror) -> None:
        self._plane = plane
        self._mirror = mirror

    def collect(self) -> Iterator[Metric]:
        """One sample; its reason is one of ``redis_schema.marker.Mismatch``, or ``none``."""
        family = GaugeMetricFamily(
            hold_metric(self._plane),
            "Seconds since redis was last followed although it answers; 0: it is followed, or away.",
            labels=["reason"],
        )
        hold = self._mirror.hold
        family.add_metric(*(["none"], 0.0) if hold is None else ([str(hold.why)], time.monotonic() - hold.since))
        yield family
