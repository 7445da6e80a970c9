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


def turns(directory: Path, name: str, *, failing: str = "") -> list[list[str]]:
    """Hosts that worked at the same time, in a play that takes all at once; gw1 and gw2 are a group, and gw4 to gw6."""
    (play,) = yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text())
    (directory / "vars").mkdir()
    (directory / "vars" / "upgrade.yml").write_text((ROOT / "playbooks" / "vars" / "upgrade.yml").read_text())
    included = play["tasks"][-1]["ansible.builtin.include_tasks"]
    (directory / included).parent.mkdir(parents=True)
    work = {"name": "Work", "ansible.builtin.assert": {"that": f"inventory_hostname != '{failing}'"}}
    stop = {"name": "Stop", "ansible.builtin.fail": {"msg": "it was put back"}}
    (directory / included).write_text(yaml.safe_dump([{"name": "One", "block": [work], "rescue": [stop]}]))
    play |= {"tasks": play["tasks"][-1:], "serial": "100%"}
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    groups = {"gw1": "a", "gw2": "a", "gw4": "b", "gw5": "b", "gw6": "b"}
    hosts = {host: {"gateway_group": groups[host]} if host in groups else {} for host in HOSTS}
    inventory: dict[str, Any] = {"gateways": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}
    (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory.yml", "play.yml"]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == (2 if failing else 0), done.stdout + done.stderr
    report = json.loads(done.stdout[done.stdout.index("{\n") :])
    tasks = [task for batch in report["plays"] for task in batch["tasks"]]
    return [sorted(task["hosts"]) for task in tasks if task["task"]["name"] == "Work"]


every_roll = pytest.mark.parametrize("name", ["upgrade", "rollback"])


@every_roll
def test_one_gateway_goes_first_then_two_then_the_rest(tmp_path: Path, name: str) -> None:
    assert batches(tmp_path, name) == [HOSTS[:1], HOSTS[1:3], HOSTS[3:]]


@every_roll
def test_none_is_touched_after_one_that_failed(tmp_path: Path, name: str) -> None:
    assert batches(tmp_path, name, failing="gw2") == [HOSTS[:1], HOSTS[1:3]]


def test_an_operator_may_choose_another_order(tmp_path: Path) -> None:
    assert batches(tmp_path, "upgrade", "-e", '{"upgrade_serial": [2, "100%"]}') == [HOSTS[:2], HOSTS[2:]]


@every_roll
def test_the_members_of_a_group_go_one_after_the_other(tmp_path: Path, name: str) -> None:
    """Which of them is first, is not said."""
    found = turns(tmp_path, name)
    assert sorted(found) == [["gw1", "gw3", "gw4"], ["gw2", "gw5"], ["gw6"]]


@every_roll
def test_no_member_of_a_group_is_touched_after_one_that_failed(tmp_path: Path, name: str) -> None:
    assert turns(tmp_path, name, failing="gw1")[-1] == ["gw1", "gw3", "gw4"]
