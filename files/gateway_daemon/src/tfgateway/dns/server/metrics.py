"""Prometheus metrics of the DNS plane, computed when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.rate_limit import KIND_NAMES
from tfgateway.dns.wire import codes
from tfgateway.dns.zones.zones import Zones

_PREFIX = "tfgateway_dns"


class DnsCollector(Collector):
    """Collects the metrics of the plane for the registry of a worker."""

    def __init__(
        self,
        counts: QueryCounters,
        zones: Zones,
        *,
        mirror_age: Callable[[], float],
        damaged: Callable[[], int],
        tcp_connections: Callable[[], int],
        rate_limited: Callable[[], Mapping[tuple[int, str], int]],
    ) -> None:
        """mirror_age: seconds since the zones were known to be what redis holds; rate_limited: ``RateLimiter.over``."""
        self._counts = counts
        self._zones = zones
        self._mirror_age = mirror_age
        self._damaged = damaged
        self._tcp_connections = tcp_connections
        self._rate_limited = rate_limited

    def collect(self) -> Iterator[Metric]:
        """All families of the plane."""
        queries = CounterMetricFamily(
            f"{_PREFIX}_queries", "Queries that got a reply.", labels=["transport", "type", "rcode"]
        )
        for (transport, kind, rcode), count in sorted(self._counts.queries.items()):
            queries.add_metric([transport, codes.TYPE_NAMES.get(kind, "other"), codes.RCODE_NAMES[rcode]], count)
        yield queries
        drops = CounterMetricFamily(
            f"{_PREFIX}_drops", "Messages and connections without a reply.", labels=["transport", "reason"]
        )
        for (transport, reason), count in sorted(self._counts.drops.items()):
            drops.add_metric([transport, reason], count)
        yield drops
        for name, text, counter in (
            ("cookies", "Queries with a DNS cookie.", self._counts.cookies),
            ("signed_queries", "Queries with a TSIG record.", self._counts.tsig),
            ("transfers", "Queries for a whole zone.", self._counts.transfers),
            ("updates", "DNS updates by response code.", self._counts.updates),
            ("notifies", "Changes of a zone that a secondary was told of.", self._counts.notifies),
        ):
            family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=["outcome"])
            for outcome, count in sorted(counter.items()):
                family.add_metric([outcome], count)
            yield family
        yield self._counts.latency.family(
            f"{_PREFIX}_latency_seconds",
            "UDP queries by the time from taking them from the socket to handing over their replies.",
        )
        limited = CounterMetricFamily(
            f"{_PREFIX}_rate_limited", "Responses over their network's limit.", labels=["kind", "outcome"]
        )
        for (number, outcome), count in sorted(self._rate_limited().items()):
            limited.add_metric([KIND_NAMES[number], outcome], count)
        yield limited
        yield CounterMetricFamily(
            f"{_PREFIX}_damaged_elements", "Parts of redis values that could not be used.", value=self._damaged()
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_mirror_age_seconds",
            "Seconds since the zones were known to be what redis holds.",
            value=self._mirror_age(),
        )
        yield GaugeMetricFamily(f"{_PREFIX}_zones", "Zones that are served.", value=len(self._zones))
        names = sum(len(zone.nodes) for zone in self._zones)
        yield GaugeMetricFamily(f"{_PREFIX}_names", "Names that are served, apexes included.", value=names)
        yield GaugeMetricFamily(f"{_PREFIX}_tcp_connections", "Open connections.", value=self._tcp_connections())
