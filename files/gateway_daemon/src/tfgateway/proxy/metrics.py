"""The figures of the proxy, on a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_DIAL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class ProxyMetrics:
    """What the other parts of the room count."""

    def __init__(self, *, services: Callable[[], float], mirror_age: Callable[[], float]) -> None:
        """``services``: how many are known from redis; ``mirror_age``: seconds since they were known to be current."""
        self.registry = CollectorRegistry()
        self.connections = Counter(
            "tfgateway_proxy_connections",
            "Connections that have ended",
            ["listener", "outcome"],
            registry=self.registry,
        )
        self.active = Gauge(
            "tfgateway_proxy_connections_active", "Connections open now", ["listener"], registry=self.registry
        )
        relayed = Counter("tfgateway_proxy_bytes", "Octets relayed", ["direction"], registry=self.registry)
        self.bytes_to_target = relayed.labels("to_target")
        self.bytes_to_visitor = relayed.labels("to_visitor")
        self.dial_seconds = Histogram(
            "tfgateway_proxy_dial_seconds",
            "Time until a target accepted",
            buckets=_DIAL_BUCKETS,
            registry=self.registry,
        )
        Gauge("tfgateway_proxy_services", "Services known from redis", registry=self.registry).set_function(services)
        Gauge(
            "tfgateway_proxy_mirror_age_seconds",
            "Time since the services were known to be as in redis",
            registry=self.registry,
        ).set_function(mirror_age)
        ProcessCollector(registry=self.registry)
