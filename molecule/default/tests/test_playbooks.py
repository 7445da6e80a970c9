"""Operating playbooks: status, reconcile with its report, backup, restore onto a fresh machine, remove."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from testbed import playbook, reservations
from testbed.containers import fleet, podman
from testbed.containers.fleet import Fleet, Node
from testbed.paths import VENV_BIN
from tests.support import artefact
from tests.support.artefact import Installed
from tests.support.operator import Operator
from tests.support.visits import dig


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """From a tarball, and read-only."""
    directory = tmp_path_factory.mktemp("collection")
    made = artefact.install(artefact.build(directory), directory)
    before = made.contents()
    yield made
    assert made.contents() == before


@pytest.fixture
def operator(installed: Installed, molecule_fleet: Fleet, tmp_path: Path) -> Operator:
    return Operator(installed, molecule_fleet.directory / "inventory.yml", tmp_path)


@pytest.fixture
def without_reconciler(molecule_fleet: Fleet) -> Iterator[Node]:
    """The first node, whose drift nobody else repairs."""
    node = molecule_fleet.nodes[0]
    podman.run("exec", node.name, "systemctl", "stop", "tfgateway")
    yield node
    podman.run("exec", node.name, "systemctl", "start", "tfgateway")


@pytest.mark.usefixtures("served")
def test_status_is_a_line_a_gateway(operator: Operator, molecule_fleet: Fleet) -> None:
    lines = [line.strip(' ",') for line in operator.done("status").splitlines()]
    for node in molecule_fleet.nodes:
        (line,) = [line for line in lines if line.split()[:2] == [node.name, "ok"]]
        assert " 4/4 " in line
    assert any(f"{len(molecule_fleet.nodes)} gateways: {len(molecule_fleet.nodes)} ok; " in line for line in lines)


@pytest.mark.usefixtures("served")
def test_a_gateway_that_is_down_is_a_line_too_and_fails_the_run(operator: Operator, molecule_fleet: Fleet) -> None:
    inventory = yaml.safe_load(operator.inventory.read_text())
    inventory["gateways"]["hosts"]["tf-gateway-lost"] = {"ansible_host": molecule_fleet.address(250)}
    operator.inventory = operator.directory / "inventory.yml"
    operator.inventory.write_text(yaml.safe_dump(inventory))
    ended = operator.run("status", "--timeout=3")
    assert ended.returncode != 0
    assert "2 ok, 1 down" in ended.stdout
    assert "tf-gateway-lost: unreachable: " in ended.stdout


@pytest.mark.parametrize("tags", ["gateway", "identity", "sshd,firewall"])
def test_a_part_of_the_playbook_runs_by_its_tag(operator: Operator, molecule_fleet: Fleet, tags: str) -> None:
    """Role gateway has its release from role identity, which is left out here."""
    said = operator.done("site", f"--tags={tags}")
    recaps = [recap for line in said.splitlines() if (recap := playbook.parse_recap(line))]
    assert {recap.host: recap.changed for recap in recaps} == {node.name: 0 for node in molecule_fleet.nodes}, said


@pytest.mark.usefixtures("served")
def test_drift_is_reported_and_then_repaired(operator: Operator, without_reconciler: Node) -> None:
    zone = reservations.managed_domain(without_reconciler)
    podman.run("exec", without_reconciler.name, "redis-cli", "del", f"{zone}.")
    looked = operator.run("reconcile", reconcile_report=str(operator.directory))
    assert looked.returncode != 0
    report = json.loads((operator.directory / "report.json").read_text())
    node = next(node for node in report["nodes"] if node["name"] == without_reconciler.name)
    assert node["status"] == "attention"
    assert node["verdicts"]["missing"] == 1
    assert any(f"www.{zone}" in step for step in node["drift"])
    assert podman.run("exec", without_reconciler.name, "redis-cli", "exists", f"{zone}.").strip() == "0"
    operator.run("reconcile", reconcile_report=str(operator.directory), reconcile_repair=True)
    report = json.loads((operator.directory / "report.json").read_text())
    node = next(node for node in report["nodes"] if node["name"] == without_reconciler.name)
    assert node["repaired"]
    assert set(node["verdicts"]) == {"in_sync"}
    assert node["reasons"] == ["does not answer: reconciler"]
    page = (operator.directory / "report.html").read_text()
    assert all(name in page for name in (without_reconciler.name, node["node_id"], "in sync"))


class Fresh:
    """A machine in the place of a gateway that is lost: its name in the inventory, another address, nothing on it."""

    def __init__(self, installed: Installed, wanted: Fleet, directory: Path) -> None:
        self.lost = wanted.nodes[0]
        self.node = Node(name=f"{wanted.prefix}-fresh", host=13)
        self.address = wanted.address(13)
        fleet.start_nodes(msgspec.structs.replace(wanted, nodes=(self.node,)))
        inventory = yaml.safe_load((wanted.directory / "inventory.yml").read_text())
        host = inventory["gateways"]["hosts"][self.lost.name] | {"ansible_host": self.address}
        del host["identity_words"]  # they may be lost: the backup has the identity
        inventory["gateways"]["hosts"] = {self.lost.name: host}
        known_hosts = f"-o UserKnownHostsFile={directory}/known_hosts -o IdentitiesOnly=yes"
        inventory["gateways"]["vars"]["ansible_ssh_common_args"] = known_hosts
        path = directory / "inventory.yml"
        path.write_text(yaml.safe_dump(inventory))
        path.chmod(0o600)
        self.operator = Operator(installed, path, directory)

    def run(self, *command: str) -> str:
        return podman.run("exec", self.node.name, *command)


@pytest.fixture(scope="module")
def fresh(installed: Installed, molecule_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    made = Fresh(installed, molecule_fleet, tmp_path_factory.mktemp("fresh"))
    podman.run(
        "exec", made.lost.name, "systemctl", "stop", "tfgateway"
    )  # two of one identity would answer for each other
    yield made
    podman.run("rm", "--force", "--time=0", "--volumes", made.node.name)
    podman.run("exec", made.lost.name, "systemctl", "start", "tfgateway")


def identity(text: str) -> Any:
    return json.loads(text)["node_id"]


@pytest.mark.usefixtures("served")
def test_a_lost_gateway_comes_back_on_a_fresh_machine(fresh: Fresh, operator: Operator, molecule_fleet: Fleet) -> None:
    key = fresh.operator.directory / "operator.key"
    backups = molecule_fleet.directory / "backups"  # beside the inventory
    shutil.rmtree(backups, ignore_errors=True)
    command = [str(VENV_BIN / "tfgateway"), "backup", "generate-key", "--output", str(key)]
    recipient = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    operator.done("backup", f"--limit={fresh.lost.name}", backup_recipient=recipient)
    (backup,) = backups.iterdir()
    preview = operator.run("site", "--check")
    assert preview.returncode == 0, preview.stdout + preview.stderr
    assert "WARNING" not in preview.stderr  # nor of what is deprecated
    said = fresh.operator.done("restore", "-vvv", restore_from=str(backup), restore_key=str(key))
    assert "keys of redis are back, the seed was created" in " ".join(said.split())
    command = [str(VENV_BIN / "tfgateway"), "backup", "unwrap", f"--key={key}", "--json", str(backup)]
    file_key = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["file_key"]
    for log in (said, fresh.run("journalctl", "--no-pager")):
        assert key.read_text().strip() not in log
        assert file_key not in log
    show = ("/opt/tfgateway/current/bin/tfgateway", "identity", "show", "--json")
    assert identity(fresh.run(*show)) == identity(podman.run("exec", fresh.lost.name, *show))
    assert dig(fresh.address, f"www.{reservations.managed_domain(fresh.lost)}") == ["203.0.113.5"]
    # At another address the gateway has another answer for 4to6, which the explorer is yet to acknowledge.
    deadline = time.monotonic() + 60
    while not (state := json.loads(fresh.run("tfgateway", "state", "--json")))["in_sync"]:
        assert time.monotonic() < deadline, json.dumps(state)
    assert len(state["reservations"]) > 0
    assert fresh.run("sh", "-c", "ls -d /var/tmp/tfgateway-* /opt/tfgateway-* 2> /dev/null; true") == ""


def test_remove_asks_for_the_names_and_leaves_ssh_data_and_seed(fresh: Fresh) -> None:
    refused = fresh.operator.run("remove", remove_confirm="somebody-else")
    assert refused.returncode != 0
    assert "Nothing was removed" in refused.stdout
    assert fresh.run("systemctl", "is-active", "tfgateway-dns").strip() == "active"
    # As on a node with a certificate for tunnels, and with a redis that was brought.
    fresh.run("ufw", "allow", "18443/tcp")
    fresh.run("ln", "-s", "/opt/tfgateway/redis/0123456789ab/bin/redis-cli", "/usr/local/bin/redis-cli")
    fresh.operator.done("remove", remove_confirm=fresh.lost.name)
    left = fresh.run(
        "sh", "-c", "ls /etc/systemd/system /opt /usr/local/bin; ufw show added; ip -o link; ss -Hlntu; true"
    )
    for gone in ("tfgateway", "tfredis", "redis-cli", "allow 53", "allow 443", "allow 18443", "wg-", ":53 "):
        assert gone not in left
    assert "allow 34022/tcp" in left
    assert ":34022 " in left
    assert fresh.run("stat", "-c", "%s", "/etc/identity.seed", "/var/lib/tfredis")
    again = fresh.operator.done("remove", remove_confirm=fresh.lost.name)
    assert "changed=0 " in again
