"""Metrics of several processes merged into one page: sums that never decrease. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_CUMULATIVE = frozenset({"counter", "histogram", "summary"})
_ALIKE = frozenset({"process_start_time_seconds", "process_max_fds"})
"""Metrics of single processes, whose sum has no meaning."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One sample of a metric."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Family(msgspec.Struct, frozen=True):
    """A metric with all its samples."""

    name: str
    help: str
    kind: str
    samples: tuple[Sample, ...]
    greatest: bool = False
    """Merged by maximum, not by sum."""


def take(registry: CollectorRegistry, greatest: Collection[str] = ()) -> tuple[Family, ...]:
    """The current content of a registry."""
    return tuple(
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            tuple(
                Sample(sample.name, tuple(sorted(sample.labels.items())), sample.value)
                for sample in metric.samples
                if not sample.name.endswith("_created")  # when a process began is no figure of the plane
            ),
            metric.name in greatest or metric.name in _ALIKE,
        )
        for metric in registry.collect()
    )


def merge(parts: Iterable[Iterable[Family]]) -> tuple[Family, ...]:
    """The families of several processes merged into one set."""
    heads: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for part in parts:
        for family in part:
            heads[family.name] = family
            sums = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, sample.labels)
                if key not in sums:
                    sums[key] = sample.value
                elif family.greatest:
                    sums[key] = max(sums[key], sample.value)
                else:
                    sums[key] += sample.value
    return tuple(
        msgspec.structs.replace(head, samples=tuple(Sample(*key, value) for key, value in values[name].items()))
        for name, head in heads.items()
    )


def lasting(families: Iterable[Family]) -> tuple[Family, ...]:
    """The part that outlives the process: counters, not gauges."""
    return tuple(family for family in families if family.kind in _CUMULATIVE)


def gauge(name: str, text: str, plane: str, value: float) -> Family:
    """A gauge of the supervisor itself."""
    return Family(name, text, "gauge", (Sample(name, (("plane", plane),), value),))


def total(name: str, text: str, plane: str, counts: Mapping[str, int], label: str) -> Family:
    """A counter of the supervisor itself, labelled by ``label``."""
    samples = (Sample(f"{name}_total", (("plane", plane), (label, key)), count) for key, count in counts.items())
    return Family(name, text, "counter", tuple(samples))


class FamilyCollector(Collector):
    """Families as a collector for ``generate_latest``."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """All families."""
        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, dict(sample.labels), sample.value)
            yield metric
