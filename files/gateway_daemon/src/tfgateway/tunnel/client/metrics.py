"""The metrics of a tunnel client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tfgateway.tunnel.client.model import Phase, RemoteStatus

_LABELS = ("tunnel", "gateway")
_COUNTERS = {
    "sessions": ("sessions", "How often it was connected"),
    "visitors": ("visitors", "Visitors so far"),
    "failed": ("visitors_failed", "Visitors for which the local service could not be reached, or that were too many"),
    "received": ("received_bytes", "Bytes from visitors"),
    "sent": ("sent_bytes", "Bytes to visitors"),
    "replaced": ("replaced", "How often another client has taken the secret"),
}
_PREFIX = "tfgateway_tunnel_client_"


class ClientCollector(Collector):
    """Of all tunnels of the client: as many label values as its file has."""

    def __init__(self, statuses: Callable[[], Sequence[RemoteStatus]]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        statuses = self._statuses()
        connected = GaugeMetricFamily(f"{_PREFIX}connected", "1: visitors can come", labels=_LABELS)
        active = GaugeMetricFamily(f"{_PREFIX}visitors_active", "Visitors now", labels=_LABELS)
        last = GaugeMetricFamily(
            f"{_PREFIX}last_visit_timestamp_seconds", "When the last visitor came; 0: none has", labels=_LABELS
        )
        away = GaugeMetricFamily(
            f"{_PREFIX}round_trip_seconds", "To the gateway and back; 0: not known", labels=_LABELS
        )
        for one in statuses:
            last.add_metric((one.name, one.remote), one.last_visit)
            away.add_metric((one.name, one.remote), one.round_trip)
            connected.add_metric((one.name, one.remote), one.phase is Phase.CONNECTED)
            active.add_metric((one.name, one.remote), one.active)
        yield from (connected, active, last, away)
        for field, (name, text) in _COUNTERS.items():
            counter = CounterMetricFamily(_PREFIX + name, text, labels=_LABELS)
            for one in statuses:
                counter.add_metric((one.name, one.remote), getattr(one, field))
            yield counter
