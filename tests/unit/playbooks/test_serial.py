"""In which order a release goes over the fleet: the plays themselves, with another task, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
HOSTS = [f"gw{number}" for number in range(1, 7)]


def batches(directory: Path, name: str, *options: str, failing: str = "") -> list[list[str]]:
    """Hosts that were touched, in the batches of playbook ``name``."""
    (play,) = yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text())
    play["tasks"] = [{"ansible.builtin.assert": {"that": f"inventory_hostname != '{failing}'"}}]
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    inventory: dict[str, Any] = {"gateways": {"hosts": dict.fromkeys(HOSTS), "vars": {"ansible_connection": "local"}}}
    (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory.yml", *options, "play.yml"]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == (2 if failing else 0), done.stdout + done.stderr
    report = json.loads(done.stdout[done.stdout.index("{\n") :])
    return [sorted(task["hosts"]) for batch in report["plays"] for task in batch["tasks"]]


every_roll = pytest.mark.parametrize("name", ["upgrade", "rollback"])


@every_roll
def test_one_gateway_goes_first_then_two_then_the_rest(tmp_path: Path, name: str) -> None:
    assert batches(tmp_path, name) == [HOSTS[:1], HOSTS[1:3], HOSTS[3:]]


@every_roll
def test_none_is_touched_after_one_that_failed(tmp_path: Path, name: str) -> None:
    assert batches(tmp_path, name, failing="gw2") == [HOSTS[:1], HOSTS[1:3]]


def test_an_operator_may_choose_another_order(tmp_path: Path) -> None:
    assert batches(tmp_path, "upgrade", "-e", '{"upgrade_serial": [2, "100%"]}') == [HOSTS[:2], HOSTS[2:]]
