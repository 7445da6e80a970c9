"""``docs/reference/metrics.md``: every metric of every process, as the collectors of the daemon give it."""

from __future__ import annotations

import importlib.util
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.server.metrics import DnsCollector
from tfgateway.dns.zones.zones import Zones
from tfgateway.explorer.server.metrics import ExplorerMetrics
from tfgateway.fourtosix.metrics import FourToSixMetrics
from tfgateway.mirror import HoldCollector, Mirror, Selection
from tfgateway.proxy.health import Watch
from tfgateway.proxy.metrics import ProxyMetrics
from tfgateway.reconciler.metrics import ReconcilerMetrics
from tfgateway.redis_schema.connection import connect_to_replica
from tfgateway.settings import RedisSettings, Settings
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.client.metrics import ClientCollector
from tfgateway.tunnel.gateway.metrics import TunnelMetrics
from tfgateway.workers.metrics.merged import FamilyCollector
from tfgateway.workers.metrics.own import own_families

from tools.reference.markdown import table
from tools.tree import ROOT

HEAD = """# Metrics

Every process answers `http://ADDRESS:PORT/metrics` in Prometheus' text format, at the address of its setting `metrics`:
on loopback, unless it is set to something else. Role [monitoring](role-variables.md#monitoring) joins the pages of a
node for the textfile collector of node_exporter, and brings alert rules and a dashboard.

DNS and proxy have one page each for all their workers: counters, histograms and gauges are sums over the workers, but
what all of them know alike, such as the age of their copy of redis, is shown once. No counter goes backwards at a
reload.
"""
_UNITS = {"seconds": "seconds", "bytes": "bytes"}
_TEXTFILE = ROOT / "roles" / "monitoring" / "files" / "textfile.py"


@dataclass(frozen=True)
class Described:
    """One metric."""

    name: str
    """As in ``# HELP`` and ``# TYPE``: a counter's ends with ``_total``."""
    type: str
    labels: tuple[str, ...]
    help: str

    @property
    def unit(self) -> str:
        """By the last part of the name, as Prometheus names metrics."""
        return _UNITS.get(self.name.removesuffix("_total").rpartition("_")[2], "")

    @property
    def samples(self) -> frozenset[str]:
        """Names that an expression can ask for."""
        if self.type == "histogram":
            return frozenset(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return frozenset({self.name})


def _described(collector: Collector) -> Iterator[Described]:
    """All metrics of a collector. Of a metric without samples, only the library's own objects know the labels."""
    for metric in collector.collect():
        sampled = {label for sample in metric.samples for label in sample.labels} - {"le"}
        labels = vars(collector).get("_labelnames") or vars(metric).get("_labelnames") or sorted(sampled)
        suffix = "_total" if metric.type == "counter" else ""
        yield Described(metric.name + suffix, metric.type, tuple(labels), metric.documentation)


def _of(registry: CollectorRegistry) -> list[Described]:
    """All metrics of a registry, collector by collector."""
    return [one for collector in vars(registry)["_collector_to_names"] for one in _described(collector)]


def _held(plane: str) -> list[Described]:
    redis = partial(connect_to_replica, RedisSettings())
    mirror = Mirror(redis, Selection(match=b"*"), lambda _key, _value: None, logger("reference"))
    return list(_described(HoldCollector(plane, mirror)))


def _reconciler() -> list[Described]:
    registry = CollectorRegistry()
    ReconcilerMetrics(registry)
    return _of(registry)


def _dns() -> list[Described]:
    collector = DnsCollector(
        QueryCounters(), Zones(), mirror_age=float, damaged=int, tcp_connections=int, rate_limited=dict
    )
    return [*_described(collector), *_held("dns")]


def _proxy() -> list[Described]:
    tunnels = CollectorRegistry()
    TunnelMetrics(tunnels)
    metrics = ProxyMetrics(services=float, mirror_age=float)
    metrics.include(Watch(()).metrics)
    return [*_of(metrics.registry), *_of(tunnels), *_held("proxy")]


def _fourtosix() -> list[Described]:
    registry = CollectorRegistry()
    FourToSixMetrics(registry, mirror_age=float)
    return [*_of(registry), *_held("fourtosix")]


def _supervisor() -> list[Described]:
    """Of the supervisor, and of the worker processes."""
    nothing = Counter({"": 0})
    own = own_families("dns", wanted=0, serving=0, draining=0, generation=0, replaced=nothing, reloads=nothing)
    processes = CollectorRegistry()
    ProcessCollector(registry=processes)
    return [*_described(FamilyCollector(own)), *_of(processes)]


def _explorer() -> list[Described]:
    return _of(ExplorerMetrics(waiting=int, memory=int, calls=lambda _kind: 0).registry)


def _tunnel_client() -> list[Described]:
    return list(_described(ClientCollector(list)))


class _Text(Collector):
    """A page as a collector."""

    def __init__(self, text: str) -> None:
        self._text = text

    def collect(self) -> Iterator[Metric]:
        return iter(text_string_to_metric_families(self._text))


def textfile() -> ModuleType:
    """The program of role monitoring."""
    specification = importlib.util.spec_from_file_location("textfile", _TEXTFILE)
    if specification is None or specification.loader is None:
        raise FileNotFoundError(_TEXTFILE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _node() -> list[Described]:
    """What the program of role monitoring adds."""
    program = textfile()
    vars(program)["PLANES"] = {"dns": 0}  # a port at which nothing can listen
    families: dict[str, tuple[Sequence[str], Sequence[str]]] = {}
    program.planes(families)
    program.add_state({"summary": {"in_sync": 0}, "problems": []}, families)
    lines = [line for comments, samples in families.values() for line in (*comments, *samples)]
    return list(_described(_Text("\n".join(lines) + "\n")))


@dataclass(frozen=True)
class Source:
    """Metrics that are served together, and where."""

    title: str
    where: str
    setting: str
    """Its address in ``Settings``; empty: it has none."""
    metrics: Callable[[], list[Described]]


SOURCES = {
    "reconciler": Source("Reconciler", "`tfgateway.service`", "reconciler.metrics", _reconciler),
    "dns": Source("DNS", "`tfgateway-dns.service`", "dns.metrics", _dns),
    "proxy": Source("Proxy and tunnels", "`tfgateway-proxy.service`", "proxy.metrics", _proxy),
    "fourtosix": Source("4to6", "`tfgateway-4to6.service`", "fourtosix.metrics", _fourtosix),
    "supervisor": Source(
        "Workers of DNS and proxy",
        "On the pages of DNS and proxy, with the label `plane` where it is listed. "
        "Those that begin with `process_` are of the worker processes.",
        "",
        _supervisor,
    ),
    "tunnel_client": Source(
        "Tunnel client", "`tfgateway tunnel --file`, with `metrics` in `tunnel.toml`.", "", _tunnel_client
    ),
    "explorer": Source(
        "Explorer",
        "`tfgateway explorer --metrics ADDRESS:PORT`, nowhere without it; with role "
        "[explorer](role-variables.md#explorer) at `explorer_metrics`.",
        "",
        _explorer,
    ),
    "node": Source(
        "Node",
        "Written by role [monitoring](role-variables.md#monitoring), beside all that begins with `tfgateway_` on the "
        "pages of the planes and the reconciler.",
        "",
        _node,
    ),
}


def sample_names() -> frozenset[str]:
    """All names that an expression can ask for."""
    return frozenset(name for source in SOURCES.values() for one in source.metrics() for name in one.samples)


def render() -> str:
    """The whole page."""
    return HEAD + "".join(map(_section, SOURCES.values()))


def _section(source: Source) -> str:
    where = source.where
    if source.setting:
        default = operator.attrgetter(source.setting)(Settings())
        where = f"{where} at setting `{source.setting}`, `{default}` unless it is set."
    rows = [
        (f"`{one.name}`", one.type, ", ".join(f"`{label}`" for label in one.labels), one.unit, _sentence(one.help))
        for one in source.metrics()
    ]
    return f"\n## {source.title}\n\n{where}\n\n" + table(("Metric", "Type", "Labels", "Unit", "Meaning"), rows)


def _sentence(text: str) -> str:
    return text.rstrip(".") + "."
