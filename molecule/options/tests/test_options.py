"""Docker, mongodb and monitoring, where an operator wants them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host

from testbed.containers import fleet

FLEET = fleet.load(Path(__file__).parent.parent / "fleet.toml")


@pytest.mark.parametrize("unit", ["docker", "mongod", "prometheus-node-exporter", "tfgateway-textfile.timer"])
def test_unit_is_active_and_enabled(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled


@pytest.mark.parametrize("name", ["docker", "mongodb"])
def test_i3_i4_the_key_is_valid_for_its_repository_alone(host: Host, name: str) -> None:
    source = host.file(f"/etc/apt/sources.list.d/{name}.list").content_string
    assert f"deb [signed-by=/etc/apt/keyrings/{name}.asc] file:///srv/vendors/" in source
    assert not host.file("/etc/apt/trusted.gpg").exists
    assert "vendor" not in host.check_output("ls /etc/apt/trusted.gpg.d")


def test_i3_without_its_key_the_repository_is_refused(host: Host) -> None:
    moved = "mv /etc/apt/keyrings/docker.asc /root/docker.asc"
    refresh = "apt-get update -o Dir::Etc::sourcelist=sources.list.d/docker.list -o Dir::Etc::sourceparts=-"
    back = "mv /root/docker.asc /etc/apt/keyrings/docker.asc"
    said = host.run(f"{moved}; {refresh} 2>&1; {back}").stdout
    assert "NO_PUBKEY" in said or "not signed" in said


def test_node_exporter_hands_out_the_gateways_metrics(host: Host) -> None:
    deadline = time.monotonic() + 30
    while "tfgateway_plane_up" not in (said := host.check_output("curl -s http://127.0.0.1:9100/metrics")):
        assert time.monotonic() < deadline, host.check_output("journalctl --no-pager -u tfgateway-textfile")
        time.sleep(0.5)
    assert 'tfgateway_plane_up{plane="dns"} 0' in said  # this host is no gateway, and says so
    assert "tfgateway_state_ok 0" in said
    assert "node_textfile_scrape_error 0" in said


def test_prometheus_and_grafana_get_their_files() -> None:
    directory = FLEET.directory / "monitoring"
    (target,) = json.loads((directory / "targets.json").read_text())
    assert target["targets"] == [f"{FLEET.address(11)}:9100"]
    assert target["labels"]["gateway"] == FLEET.nodes[0].name
    assert yaml.safe_load((directory / "rules.yml").read_text())["groups"]
    assert json.loads((directory / "dashboard.json").read_text())["panels"]
