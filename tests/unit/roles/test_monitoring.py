"""Metrics for node_exporter: planes joined to one file; rules and dashboard ask for what there is."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tfgateway.reconciler.verdict import Verdict
from tfgateway.settings import Settings, host_port

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles" / "monitoring" / "files"

specification = importlib.util.spec_from_file_location("textfile", FILES / "textfile.py")
assert specification is not None
assert specification.loader is not None
textfile = importlib.util.module_from_spec(specification)
specification.loader.exec_module(textfile)

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


def asked() -> set[str]:
    """Names of metrics in rules and dashboard."""
    rules = yaml.safe_load((FILES / "rules.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    expressions = [rule["expr"] for rule in rules] + [t["expr"] for panel in panels for t in panel["targets"]]
    return {name for one in expressions for name in re.findall(r"tfgateway_[a-z_]+", one)}


@pytest.mark.parametrize("name", sorted(asked()))
def test_rules_and_dashboard_ask_for_metrics_that_there_are(name: str) -> None:
    own = (FILES / "textfile.py").read_text()
    daemon = "".join(path.read_text() for path in (ROOT / "files/gateway_daemon/src").rglob("*.py"))
    short = re.sub(r"_total$", "", name)
    last = re.sub(r"^tfgateway_(reconciler|dns|fourtosix)_", "", short)
    assert f'"{short}"' in own + daemon or f'"{last}"' in daemon or f'}}_{last}"' in daemon


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
