"""All that an operator does, with the tarball alone: an empty directory, a read-only collection, a venv of its own.

By the oldest and the newest ansible-core the whole way, by those between a preview of the fleet that they left.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from testbed import assembly, farm, inventory, playbook, reservations
from testbed.containers import fleet, podman
from testbed.containers.fleet import Node
from testbed.person import Person
from testbed.progress import Progress
from testbed.reservations import Wanted, managed_domain
from tests.support import another_release, artefact, disk, waiting
from tests.support.operator import Operator
from tests.support.visits import dig
from tools import cores, locked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="systemd in containers needs root")
FLEET = fleet.load(Path(__file__).parent / "artefact.toml")
NODES = FLEET.nodes
OLDEST, *BETWEEN, NEWEST = cores.CORES
PROGRAM = "/opt/tfgateway/current/bin/tfgateway"
BUNDLE = Path(yaml.__file__).parents[1]  # where the package `ansible` in this checkout's venv has its collections
until = partial(waiting.until, pause=0.2)


def run(node: Node, script: str) -> str:
    return podman.run("exec", node.name, "sh", "-ec", script).strip()


def recaps(said: str) -> dict[str, tuple[int, int]]:
    """By host: how many tasks changed something, and how many failed."""
    found = filter(None, map(playbook.parse_recap, said.splitlines()))
    return {recap.host: (recap.changed, recap.failed) for recap in found}


def python_of(core: str) -> str:
    """The oldest that runs both Ansible and the daemon, whose command admits nodes here."""
    return max(cores.CORES[core], "3.11")


def binaries(name: str, core: str) -> Path:
    """Of a controller with what a locked file names."""
    version = python_of(core)
    python = locked.at_hand(version)
    if python is None:
        pytest.skip(f"{name}: there is no Python {version} here")
    return locked.binaries(name, python)


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artefact.build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module", params=[OLDEST, NEWEST])
def core(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def operator(core: str, tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """With two fresh hosts, and nothing but the tarball, an inventory and an ssh key."""
    directory = tmp_path_factory.mktemp(f"core-{core}")
    installed = artefact.install(tarball, directory, binaries(f"core-{core}", core))
    before = installed.contents()
    fleet.remove(FLEET)
    progress = Progress(Console(), FLEET.directory / "logs")
    assembly.nodes(FLEET, progress)
    assembly.services(FLEET, progress)
    written = yaml.safe_load(inventory.render(FLEET, farm.ensure(FLEET)))
    for ours in ("gateway_cache", "gateway_farm_program"):  # an operator has neither this checkout's
        del written["gateways"]["vars"][ours]
    # Debian 11 has no package wireguard-go, and the kernel of a container may have no WireGuard.
    written["gateways"]["hosts"][NODES[0].name]["wireguard_enabled"] = False
    fleet_directory = directory / "fleet"
    fleet_directory.mkdir()
    path = fleet_directory / "inventory.yml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(written))
    yield Operator(installed, path, fleet_directory)
    assert installed.contents() == before
    assert {path.name for path in fleet_directory.iterdir()} <= {"inventory.yml", "operator.key", "backups", "report"}
    fleet.remove(FLEET)


def state(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(node, f"{PROGRAM} state --json || true"))
    return found


def assert_serves(node: Node) -> None:
    address, name = FLEET.address(node.host), f"www.{managed_domain(node)}"
    until(lambda: dig(address, name) == [f"203.0.113.{node.host}"], f"{name} is served")
    until(lambda: state(node)["in_sync"], f"{node.name} is in sync", log=lambda: json.dumps(state(node)))


def test_doctor_finds_nothing_wrong(operator: Operator) -> None:
    operator.done("doctor")


def test_a_host_that_is_refused_is_as_it_was(operator: Operator) -> None:
    before = {node.name: disk.changed(node.name) for node in NODES}
    refused = operator.run("site", preflight_memory=99999999)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "preflight_memory asks for 99999999" in refused.stdout
    assert recaps(refused.stdout) == {node.name: (0, 1) for node in NODES}
    assert {name: disk.changed(name) - before[name] for name in before} == {name: set() for name in before}


def test_a_preview_of_fresh_hosts_passes(operator: Operator) -> None:
    found = recaps(operator.done("site", "--check", "--diff"))
    assert {host: failed for host, (_, failed) in found.items()} == {node.name: 0 for node in NODES}
    for node in NODES:
        assert "tfgateway" not in run(node, "ls /opt /etc/systemd/system")


def test_the_fleet_is_provisioned_and_then_nothing_changes(operator: Operator) -> None:
    operator.done("site")
    assert recaps(operator.done("site")) == {node.name: (0, 0) for node in NODES}
    person = Person(FLEET, "alice")
    person.register()
    ids = reservations.registered(FLEET, person)
    group = [
        Wanted(node, "subdomain", "subdomain", f"www.{managed_domain(node)}", (f"--ip=203.0.113.{node.host}",))
        for node in NODES
    ]
    reservations.make(person, group, ids)
    for node in NODES:
        assert_serves(node)


def test_reconcile_reports_that_all_is_well(operator: Operator) -> None:
    operator.done("reconcile")
    report = json.loads((operator.directory / "report" / "report.json").read_text())
    assert [(node["name"], node["verdicts"]) for node in report["nodes"]] == [
        (node.name, {"in_sync": 1}) for node in NODES
    ]


def test_backup_upgrade_and_rollback(operator: Operator, tmp_path: Path) -> None:
    (program,) = re.findall(r'"msg": "(/.*/tfgateway)"', operator.done("controller"))
    key = operator.directory / "operator.key"
    made = subprocess.run([program, "backup", "generate-key", f"--output={key}"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    operator.done("backup", backup_recipient=made.stdout.strip())
    assert len(list((operator.directory / "backups").iterdir())) == len(NODES)

    releases = {node.name: run(node, "readlink -e /opt/tfgateway/current") for node in NODES}
    operator.done("upgrade", another_release.option(tmp_path / "next", "errors.py", "# another release"))
    for node in NODES:
        assert run(node, "readlink -e /opt/tfgateway/current") != releases[node.name]
        assert_serves(node)
    operator.done("rollback")
    assert {node.name: run(node, "readlink -e /opt/tfgateway/current") for node in NODES} == releases
    for node in NODES:
        assert_serves(node)


@pytest.mark.parametrize("core", [OLDEST], indirect=True)
@pytest.mark.parametrize("other", [*BETWEEN, NEWEST])
def test_another_core_finds_nothing_to_change(operator: Operator, other: str) -> None:
    their = binaries(f"cores/{other}", other)
    installed = dataclasses.replace(operator.installed, binaries=their, dependencies=BUNDLE)
    found = Operator(installed, operator.inventory, operator.directory).done("site", "--check", "--diff")
    assert recaps(found) == {node.name: (0, 0) for node in NODES}
    if other in BETWEEN:
        cores.keep(other, playbooks=f"Python {python_of(other)}: `site --check` of what {OLDEST} has provisioned")


def test_all_of_it_comes_back_onto_hosts_that_have_lost_it(operator: Operator, core: str) -> None:
    """The last one, after which it is recorded what this core has done."""
    show = f"{PROGRAM} identity show --json"
    ids = {node.name: json.loads(run(node, show))["node_id"] for node in NODES}
    operator.done("remove", remove_confirm=",".join(ids), remove_data=True)
    for node in NODES:
        assert run(node, "ls /etc/identity.seed /var/lib/tfredis 2> /dev/null || true") == ""
        (backup,) = (operator.directory / "backups").glob(f"{node.name}-*.backup")
        key = str(operator.directory / "operator.key")
        operator.done("restore", f"--limit={node.name}", restore_from=backup.name, restore_key=key)
    assert {node.name: json.loads(run(node, show))["node_id"] for node in NODES} == ids
    for node in NODES:
        assert_serves(node)
    done = "`doctor`, `site --check`, `site`, `reconcile`, `backup`, `upgrade`, `rollback`, `remove`, `restore`"
    cores.keep(core, playbooks=f"Python {python_of(core)}: {done}")
