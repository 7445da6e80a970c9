"""Ansible itself, run on this machine: what a role computes and says is asked of the role, not of a copy of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Run:
    """What a playbook did: ``tasks`` by name, each the result of every host; ``stats`` by host."""

    code: int
    tasks: dict[str, dict[str, Any]]
    stats: dict[str, dict[str, int]]
    output: str

    def message(self, task: str, host: str) -> str:
        """The text with which ``task`` failed on ``host``."""
        result = self.tasks[task][host]
        assert result["failed"], result
        message = result["msg"]
        return "\n".join(message) if isinstance(message, list) else str(message)


Playbook = Callable[..., Run]
Values = dict[str, dict[str, Any]]
Evaluate = Callable[[str, Mapping[str, str], Mapping[str, Mapping[str, Any]]], Values]


@pytest.fixture(scope="session")
def playbook(tmp_path_factory: pytest.TempPathFactory) -> Playbook:
    """``playbook(tasks, hosts, *options, variables={}, path=first on PATH)``: on the group ``gateways``, no facts."""
    collections = tmp_path_factory.mktemp("collections")
    link = collections / "ansible_collections" / "tfgrid" / "gateway"
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }

    def run(
        tasks: Sequence[Mapping[str, Any]],
        hosts: Mapping[str, Any],
        *options: str,
        variables: Mapping[str, Any] | None = None,
        path: Path | None = None,
    ) -> Run:
        directory = tmp_path_factory.mktemp("playbook")
        play = {"name": "Test", "hosts": "gateways", "gather_facts": False, "tasks": list(tasks)}
        (directory / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
        inventory = {"gateways": {"hosts": dict(hosts), "vars": dict(variables or {})}}
        (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory.yml", *options, "play.yml"]
        search = os.pathsep.join([*([str(path)] if path else []), os.environ["PATH"]])
        done = subprocess.run(
            command, cwd=directory, env=environment | {"PATH": search}, capture_output=True, text=True
        )
        try:
            report = json.loads(done.stdout[done.stdout.index("{\n") :])
        except ValueError:
            pytest.fail(f"no report of ansible-playbook: {done.stdout}{done.stderr}")
        tasks_done = report["plays"][0]["tasks"] if report["plays"] else []
        return Run(
            done.returncode,
            {task["task"]["name"].partition(" : ")[2] or task["task"]["name"]: task["hosts"] for task in tasks_done},
            report["stats"],
            done.stdout + done.stderr,
        )

    return run


@pytest.fixture(scope="session")
def evaluate(playbook: Playbook) -> Evaluate:
    """``evaluate(role, {name: expression}, cases)``: a role's variables for hosts that differ in what its tasks saw.

    A case may hold variables, the registered results among them, and ``facts`` instead of ``ansible_facts``.
    """

    def run(name: str, expressions: Mapping[str, str], cases: Mapping[str, Mapping[str, Any]]) -> Values:
        # Its variables, not its tasks. Those are left out by a tag: a task that `when` leaves out registers a result.
        loaded = {"name": f"tfgrid.gateway.{name}", "public": True, "apply": {"tags": "left_out"}}
        values = ", ".join(f"'{key}': {expression}" for key, expression in expressions.items())
        tasks = [
            {"ansible.builtin.include_role": loaded},
            {
                "name": "Evaluate",
                "ansible.builtin.debug": {"msg": f"{{{{ {{ {values} }} }}}}"},
                "vars": {"ansible_facts": "{{ facts | default({}) }}"},
            },
        ]
        done = playbook(tasks, cases, "--skip-tags=left_out")
        assert done.code == 0, done.output
        return {host: result["msg"] for host, result in done.tasks["Evaluate"].items()}

    return run
