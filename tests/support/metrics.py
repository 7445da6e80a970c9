"""Metrics pages of running processes, in Prometheus' text format."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import LIMIT


def page(port: int, address: str = "127.0.0.1", timeout: float = LIMIT) -> str:
    """The text at ``http://ADDRESS:PORT/metrics``; timeout: seconds. Errors: ``OSError``."""
    with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=timeout) as answer:
        text: str = answer.read().decode()
    return text


def families(port: int) -> Iterable[Metric]:
    """What the page has, with types, help and samples. Errors: ``OSError``."""
    return text_string_to_metric_families(page(port))


def values(text: str) -> dict[str, float]:
    """Name, with its labels as they stand on the page (``up{plane="dns"}``) -> value."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def scrape(port: int) -> dict[str, float]:
    """``values`` of the page. Errors: ``OSError``."""
    return values(page(port))


def value(port: int, name: str, /, **labels: str) -> float:
    """One sample, whatever the order of its labels; 0: the page has none, as for labels that never occurred."""
    for family in families(port):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return 0.0
