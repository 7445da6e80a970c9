"""Metrics for node_exporter: planes joined to one file; rules and dashboard ask for what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tfgateway.net.addresses import host_port
from tfgateway.reconciler.verdict import Verdict
from tfgateway.settings import Settings

from tools.reference import metrics

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles" / "monitoring" / "files"

textfile = metrics.textfile()

DNS = """# HELP python_info Python
# TYPE python_info gauge
python_info{version="3.12"} 1.0
# HELP tfgateway_workers Workers
# TYPE tfgateway_workers gauge
tfgateway_workers{plane="dns"} 2.0
# HELP tfgateway_dns_queries_total Queries
# TYPE tfgateway_dns_queries_total counter
tfgateway_dns_queries_total{rcode="NOERROR"} 7.0
"""
PROXY = """# HELP tfgateway_workers Workers
# TYPE tfgateway_workers gauge
tfgateway_workers{plane="proxy"} 1.0
"""


def text(families: dict[str, tuple[list[str], list[str]]]) -> str:
    return "\n".join(line for comments, samples in families.values() for line in (*comments, *samples)) + "\n"


def test_planes_are_joined_family_by_family() -> None:
    families: dict[str, tuple[list[str], list[str]]] = {}
    textfile.merge(DNS, families)
    textfile.merge(PROXY, families)
    parsed = {family.name: family.samples for family in text_string_to_metric_families(text(families))}
    assert [sample.labels["plane"] for sample in parsed["tfgateway_workers"]] == ["dns", "proxy"]
    assert parsed["tfgateway_dns_queries"][0].value == 7.0
    assert "python_info" not in parsed


def test_a_gateway_that_is_down_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "PLANES", {"dns": 9})
    monkeypatch.setattr(textfile, "PROGRAM", str(tmp_path / "absent"))
    textfile.main(tmp_path / "tfgateway.prom")
    written = (tmp_path / "tfgateway.prom").read_text()
    values = {f.name: f.samples[0].value for f in text_string_to_metric_families(written)}
    assert values["tfgateway_plane_up"] == 0
    assert values["tfgateway_state_ok"] == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "tfgateway.prom"]


def test_what_state_says_is_counted_by_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tfgateway"
    answer = {"summary": {"in_sync": 4, "drifted": 1}, "problems": ["the explorer is away"]}
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(textfile, "PROGRAM", str(program))
    families: dict[str, tuple[list[str], list[str]]] = {}
    textfile.state(families)
    parsed = {family.name: family.samples for family in text_string_to_metric_families(text(families))}
    found = {sample.labels["verdict"]: sample.value for sample in parsed["tfgateway_state_reservations"]}
    assert found == {"in_sync": 4, "drifted": 1}
    assert parsed["tfgateway_state_problems"][0].value == 1


def expressions() -> dict[str, str]:
    """Of rules and dashboard, by alert or panel."""
    rules = yaml.safe_load((FILES / "rules.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    of_panels = {panel["title"]: " ".join(target["expr"] for target in panel["targets"]) for panel in panels}
    return {**{rule["alert"]: rule["expr"] for rule in rules}, **of_panels}


@pytest.mark.parametrize("name", expressions())
def test_rules_and_dashboard_ask_for_metrics_that_there_are(name: str) -> None:
    """Of those that the collectors themselves give, as the reference has them."""
    known = metrics.sample_names()
    by_pattern = re.findall(r'__name__=~"([^"]+)"', expressions()[name])
    by_name = re.findall(r"\btfgateway_[a-z0-9_]+", re.sub(r"\{[^}]*\}", "", expressions()[name]))
    assert by_pattern or by_name
    for pattern in by_pattern:
        plane = re.search(r"\(([a-z|]+)\)", pattern)
        assert plane is not None
        meant = {pattern.replace(plane[0], one) for one in plane[1].split("|")}
        assert meant <= known
    assert set(by_name) <= known


def test_the_planes_listen_where_they_are_asked() -> None:
    default = Settings()
    planes = (default.reconciler, default.dns, default.proxy, default.fourtosix)
    ports = [host_port(plane.metrics)[1] for plane in planes]
    assert sorted(ports) == sorted(textfile.PLANES.values())


def test_no_alert_for_what_is_its_users_business() -> None:
    rules = yaml.safe_load((FILES / "rules.yml").read_text())["groups"][0]["rules"]
    (expression,) = [rule["expr"] for rule in rules if rule["alert"] == "GatewayNotServed"]
    pattern = re.search(r'verdict=~"([^"]+)"', expression)
    assert pattern is not None
    alarming = {str(verdict) for verdict in Verdict if re.fullmatch(pattern[1], verdict)}
    assert alarming == {"missing", "drifted", "orphaned", "unreported"}
