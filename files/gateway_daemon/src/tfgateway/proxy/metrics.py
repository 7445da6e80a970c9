"""The metrics of the proxy. Counted in plain numbers, which cost little, and rendered when they are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tfgateway.proxy.protocol import Protocol
from tfgateway.telemetry.histogram import Histogram

_DIAL_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_TOTAL_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 3600)


class ProxyMetrics(Collector):
    """What the other parts of the package count."""

    def __init__(self, *, services: Callable[[], float], mirror_age: Callable[[], float]) -> None:
        """``services``: how many are known from redis; ``mirror_age``: seconds since they were known to be current."""
        self._services = services
        self._mirror_age = mirror_age
        self._sources: list[Callable[[], Iterable[Metric]]] = []
        self.ended: dict[Protocol, Counter[str]] = {protocol: Counter() for protocol in Protocol}
        """By listener and outcome."""
        self.active: Counter[Protocol] = Counter()
        self.to_target = 0
        """Bytes."""
        self.to_visitor = 0
        self.dial_times = Histogram(_DIAL_BOUNDS)
        self.total_times = Histogram(_TOTAL_BOUNDS)
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def connection_ended(
        self, listener: Protocol, outcome: str, seconds: float, to_target: int, to_visitor: int
    ) -> None:
        """Count a connection that has ended; bytes each way."""
        self.active[listener] -= 1
        self.ended[listener][outcome] += 1
        self.total_times.add(seconds)
        self.to_target += to_target
        self.to_visitor += to_visitor

    def include(self, source: Callable[[], Iterable[Metric]]) -> None:
        """Show what ``source`` gives too."""
        self._sources.append(source)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        ended = CounterMetricFamily(
            "tfgateway_proxy_connections", "Connections that have ended", labels=["listener", "outcome"]
        )
        for protocol, outcomes in self.ended.items():
            for outcome, count in outcomes.items():
                ended.add_metric([protocol, outcome], count)
        yield ended
        active = GaugeMetricFamily("tfgateway_proxy_connections_active", "Connections open now", labels=["listener"])
        for protocol in Protocol:
            active.add_metric([protocol], self.active[protocol])
        yield active
        relayed = CounterMetricFamily("tfgateway_proxy_bytes", "Bytes relayed", labels=["direction"])
        relayed.add_metric(["to_target"], self.to_target)
        relayed.add_metric(["to_visitor"], self.to_visitor)
        yield relayed
        yield self.dial_times.family("tfgateway_proxy_dial_seconds", "Time until a target accepted")
        yield self.total_times.family("tfgateway_proxy_connection_seconds", "Time from accepting to the end")
        yield GaugeMetricFamily("tfgateway_proxy_services", "Services known from redis", self._services())
        yield GaugeMetricFamily(
            "tfgateway_proxy_mirror_age_seconds",
            "Time since the services were known to be as in redis",
            self._mirror_age(),
        )
        for source in self._sources:
            yield from source()
