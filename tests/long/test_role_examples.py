"""The example of every role's README, as it stands there: it provisions a host, and changes nothing the second time."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from testbed import assembly, farm, inventory, playbook
from testbed.containers import fleet, podman
from testbed.paths import ROOT
from testbed.progress import Progress
from tests.support import role_examples

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="systemd in containers needs root")
FLEET = fleet.load(Path(__file__).parent / "roles.toml")
(NODE,) = FLEET.nodes
VENDORS = ROOT / "molecule" / "options" / "vendors.sh"
VENDOR_KEY = "file:///srv/vendors/key.asc"


@dataclass(frozen=True)
class Case:
    """A role. before: what its host has; variables: what the example names as an address of somebody's own."""

    role: str
    before: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    changes: bool = False
    """It changes something each time: a release of its own, or what was asked for."""


CASES = [  # each after those that it builds on
    Case("preflight"),
    Case("interpreter"),
    Case("release"),
    Case("prerequisites"),
    Case(
        "safeguard",
        "apt-get update -q; apt-get install -q --yes --no-install-recommends nftables; systemctl start nftables",
        changes=True,
    ),
    Case("firewall"),
    Case("sshd"),
    Case("masquerade", "ip link add eth1 type veth peer name uplink; ip link set eth1 up"),
    Case("tfredis"),
    Case("identity"),
    Case("wireguard"),
    Case("gateway", variables={"gateway_explorer_url": FLEET.explorer_url}),
    Case("monitoring"),
    Case("docker"),
    Case(
        "repository",
        variables={"repository_source": "file:///srv/vendors/docker ./", "repository_key_url": VENDOR_KEY},
    ),
    Case(
        "mongodb",
        variables={"mongodb_repository": "file:///srv/vendors/8.0 ./", "mongodb_key_url": VENDOR_KEY},
    ),
    Case("explorer"),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its inventory, in which it is a gateway and an explorer."""
    fleet.remove(FLEET)
    progress = Progress(Console(), FLEET.directory / "logs")
    assembly.nodes(FLEET, progress)
    assembly.services(FLEET, progress)
    podman.run("cp", str(VENDORS), f"{NODE.name}:/root/vendors.sh")
    podman.run("exec", NODE.name, "sh", "/root/vendors.sh")
    digest = podman.run("exec", NODE.name, "cat", "/srv/vendors/key.sha256").strip()
    written = yaml.safe_load(inventory.render(FLEET, farm.ensure(FLEET)))
    written["gateways"]["vars"] |= {"vault_mongodb_key_sha256": digest, "vault_vendor_key_sha256": digest}
    written["gateways"]["vars"]["ansible_port"] = 22
    written["explorer"] = {"hosts": {NODE.name: {}}}
    path = tmp_path_factory.mktemp("roles") / "inventory.yml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(written))
    yield path
    fleet.remove(FLEET)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.role)
def test_it_provisions_a_host(case: Case, host: Path, tmp_path: Path) -> None:
    if case.before:
        podman.run("exec", NODE.name, "bash", "-ec", case.before)
    (tmp_path / "play.yml").write_text(role_examples.text(ROOT / "roles" / case.role))
    given = f"--extra-vars={json.dumps(case.variables)}"
    changed = []
    for _ in range(2):
        done = subprocess.run(
            ["ansible-playbook", "play.yml", f"--inventory={host}", given],
            cwd=tmp_path,
            env=playbook.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (recap,) = filter(None, map(playbook.parse_recap, done.stdout.splitlines()))
        changed.append(recap.changed)
    assert bool(changed[1]) is case.changes, done.stdout


def test_there_is_one_for_each_role() -> None:
    """Old programs to replace are on the hosts of scenario cutover, which runs playbook cutover.yml: the same roles."""
    assert {case.role for case in CASES} | {"cutover"} == {path.parent.name for path in ROOT.glob("roles/*/README.md")}
    (shown,) = role_examples.plays(ROOT / "roles" / "cutover")
    (run,) = yaml.safe_load((ROOT / "playbooks" / "cutover.yml").read_text())
    assert [one["role"] for one in shown["roles"]] == [one["role"] for one in run["roles"]]
