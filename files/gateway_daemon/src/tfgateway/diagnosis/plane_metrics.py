"""Counters of the running DNS plane, as ``tfgateway state`` shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from tfgateway.settings import Settings
from tfgateway.telemetry import scrape

_PREFIX: Final = "tfgateway_dns_"
_COUNTED: Final = {
    f"{_PREFIX}queries_total": "queries",
    f"{_PREFIX}drops_total": "drops",
    f"{_PREFIX}rate_limited_total": "rate_limited",
    "tfgateway_worker_restarts_total": "worker_restarts",
}
_MEASURED: Final = {
    f"{_PREFIX}mirror_age_seconds": "mirror_age",
    f"{_PREFIX}zones": "zones",
    f"{_PREFIX}names": "names",
    f"{_PREFIX}latency_seconds_sum": "latency_sum",
}
_BUCKET: Final = f"{_PREFIX}latency_seconds_bucket"


@dataclass(frozen=True, slots=True)
class DnsMetrics:
    """Counters since the plane's start."""

    queries: list[dict[str, Any]]
    """Each with ``transport``, ``type``, ``rcode`` and ``count``."""
    drops: list[dict[str, Any]]
    """``transport``, ``reason``, ``count``."""
    rate_limited: list[dict[str, Any]]
    """``kind``, ``outcome``, ``count``."""
    worker_restarts: list[dict[str, Any]]
    """``reason``, ``count``."""
    mirror_age: float | None
    """Seconds since the zones were known to be what redis holds; None: they never were."""
    zones: int
    names: int
    latency: dict[str, int]
    """Upper bound in seconds, ``+Inf`` at the end -> UDP queries that took no longer."""
    latency_sum: float
    """Seconds of all of them."""


async def dns_metrics(settings: Settings) -> DnsMetrics | None:
    """The counters of the running plane; None: it does not answer, or not as ours does."""
    page = await scrape.page(settings.dns.metrics)
    try:
        return None if page is None else _read(page)
    except (ValueError, KeyError):
        return None


def _read(page: str) -> DnsMetrics:
    """Errors: ``ValueError``, ``KeyError``."""
    counted: dict[str, list[dict[str, Any]]] = {name: [] for name in _COUNTED.values()}
    measured: dict[str, float] = {}
    latency: dict[str, int] = {}
    for _, sample in scrape.samples(page):
        if name := _COUNTED.get(sample.name):
            labels = {label: value for label, value in sample.labels.items() if label != "plane"}
            counted[name].append({**labels, "count": int(sample.value)})
        elif name := _MEASURED.get(sample.name):
            measured[name] = sample.value
        elif sample.name == _BUCKET:
            latency[sample.labels["le"]] = int(sample.value)
    age = measured["mirror_age"]
    return DnsMetrics(
        **counted,
        mirror_age=age if math.isfinite(age) else None,
        zones=int(measured["zones"]),
        names=int(measured["names"]),
        latency=latency,
        latency_sum=measured["latency_sum"],
    )
