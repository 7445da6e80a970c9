"""The example of every role's README: a playbook that Ansible accepts, with values that preflight accepts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tfgrid.gateway.plugins.plugin_utils import _variables

from tests.support import role_examples

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
SPECIFIED = _variables.specifications(ROOT / "roles")
every_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def uses(play: dict[str, Any]) -> list[dict[str, Any]]:
    """Roles with the variables that they are given."""
    included = [task["ansible.builtin.include_role"] for task in play.get("tasks", [])]
    return [*play.get("roles", []), *({"role": one["name"], **play["vars"]} for one in included)]


@every_role
def test_it_uses_the_role_with_variables_that_it_has(role: Path) -> None:
    (play,) = role_examples.plays(role)
    given = {name: value for one in uses(play) for name, value in one.items() if name != "role"}
    assert f"tfgrid.gateway.{role.name}" in [one["role"] for one in uses(play)]
    plain = {name: value for name, value in given.items() if "{{" not in str(value)}
    judged = plain.keys() - _variables.JUDGED_BY_PREFLIGHT
    assert judged <= SPECIFIED.keys()
    assert _variables.problems({name: plain[name] for name in judged}, SPECIFIED) == {}
    assert any(name.startswith(f"{role.name}_") for name in given)


def test_ansible_accepts_all_of_them(tmp_path: Path) -> None:
    collections = tmp_path / "ansible_collections" / "tfgrid"
    collections.mkdir(parents=True)
    (collections / "gateway").symlink_to(ROOT)
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play for role in ROLES for play in role_examples.plays(role)]))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path),
    }
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "gateways,explorer,",
        "--syntax-check",
        "play.yml",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
