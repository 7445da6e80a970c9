"""The metrics page names all that the daemon's collectors give, and all that this collection asks them for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools.reference import metrics
from tools.tree import ROOT

_SOURCE = ROOT / "files" / "gateway_daemon" / "src"
_MAKES = re.compile(r"(Counter|Gauge|Histogram|Info|Summary|Enum)(MetricFamily)?|(gauge|total)")
_FROM = ("prometheus_client", "tfgateway.workers.metrics.merged")
ASKS = ("playbooks", "plugins", "files/gateway_daemon/src/tfgateway/diagnosis")
NOT_METRICS = {"tfgateway_reservations"}  # a key of redis


def imported(path: Path) -> set[tuple[str, str]]:
    """(module, name) of what a file imports by name."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {(node.module or "", alias.name) for node in found for alias in node.names}


def makes_metrics(path: Path) -> bool:
    return any(module.startswith(_FROM) and _MAKES.fullmatch(name) for module, name in imported(path))


def test_every_module_that_makes_metrics_is_rendered() -> None:
    makers = {
        ".".join(path.relative_to(_SOURCE).with_suffix("").parts)
        for path in _SOURCE.rglob("*.py")
        if makes_metrics(path)
    }
    makers.remove("tfgateway.telemetry.histogram")  # which some of them use
    used = {getattr(one, "__module__", "") for one in vars(metrics).values()}
    assert len(makers) >= 9
    assert makers - used == set()


@pytest.mark.parametrize("name", metrics.SOURCES)
def test_every_metric_says_what_it_means_and_stands_once(name: str) -> None:
    found = metrics.SOURCES[name].metrics()
    assert [one.name for one in found if not one.help] == []
    assert len({one.name for one in found}) == len(found)


def test_what_the_collection_asks_for_is_there() -> None:
    asked = {
        name
        for folder in ASKS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yml")
        for name in re.findall(r"\btfgateway_[a-z0-9_]*[a-z0-9]\b", path.read_text())
    }
    assert len(asked - NOT_METRICS) >= 8
    assert asked - NOT_METRICS - metrics.sample_names() == set()


def test_a_sample_is_asked_for_by_the_name_that_is_exposed() -> None:
    names = metrics.sample_names()
    assert {"tfgateway_dns_queries_total", "tfgateway_dns_latency_seconds_bucket", "tfgateway_workers"} <= names
    assert not {"tfgateway_dns_queries", "tfgateway_dns_latency_seconds"} & names


def test_labels_of_metrics_that_were_never_counted_are_listed() -> None:
    """From wrapped instruments, families and texts alike."""
    labels = {one.name: set(one.labels) for source in metrics.SOURCES.values() for one in source.metrics()}
    assert labels["tfgateway_dns_queries_total"] == {"transport", "type", "rcode"}
    assert labels["tfgateway_tunnel_registrations_total"] == {"outcome"}
    assert labels["tfgateway_explorer_request_seconds"] == {"route"}
    assert labels["tfgateway_worker_restarts_total"] == {"plane", "reason"}
    assert labels["tfgateway_plane_up"] == {"plane"}
    assert labels["tfgateway_dns_zones"] == set()
