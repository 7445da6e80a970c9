"""A part of site.yml by its tag: the role runs whole, with what it builds on, whichever other roles are left out."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
PLAY, _SENTINELS = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
LISTED = [role["role"].removeprefix("tfgrid.gateway.") for role in PLAY["roles"]]
# The task that provides a role's facts for others, and these facts.
PROVIDED = {
    "release": "Install the release, once in a run",
    "interpreter": "Find or bring an interpreter, once in a run",
}
FACTS = {"release": r"\brelease_(?:program|path|version)\b", "interpreter": r"\binterpreter_(?:path|version)\b"}
# By another role that it includes: in a group, redis has its passwords of the identity.
BROUGHT = {("tfredis", "release"): "tfgrid.gateway.identity"}
VALIDATION = "Validating arguments against arg spec 'main'"

every_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


@functools.cache
def tasks() -> list[tuple[str, str, set[str]]]:
    """Role, name and tags of every task; no role for those that include one."""
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "site.yml", "-i", "inventory.example.yml", "--list-tasks"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    lines = re.findall(r"(?m)^      (?:tfgrid[.]gateway[.](\w+) : )?(.*?)(?: - .*)?\tTAGS: \[(.*)\]$", done.stdout)
    return [(role, name, set(tags.split(", "))) for role, name, tags in lines]


def chosen(tag: str) -> dict[str, list[str]]:
    """Names of the tasks that ``--tags`` chooses, by their role."""
    found: dict[str, list[str]] = {}
    for role, name, tags in tasks():
        if tags & {tag, "always"}:
            found.setdefault(role, []).append(name)
    return found


def texts(role: Path) -> str:
    """Its tasks, handlers, templates and variables."""
    files = [path for path in role.rglob("*") if path.suffix in {".yml", ".j2"} and path.parent.name != "meta"]
    return "\n".join(path.read_text() for path in files)


def test_every_role_of_the_playbook_has_a_tag_of_its_own_name() -> None:
    assert [role["tags"][0] for role in PLAY["roles"]] == LISTED
    assert [name for name, role in zip(LISTED, PLAY["roles"], strict=True) if "always" in role["tags"]] == ["preflight"]


@pytest.mark.parametrize("tag", LISTED)
def test_a_tag_chooses_its_role_and_nothing_of_the_others(tag: str) -> None:
    assert len(chosen(tag)[tag]) > 1
    # Arguments of all roles are checked by whatever tag, and preflight always runs.
    others = chosen(tag).keys() - {tag, "preflight", "release", ""}
    assert {name for role in others for name in chosen(tag)[role]} <= {VALIDATION}


@every_role
def test_a_role_has_no_dependencies_that_a_tag_would_leave_out(role: Path) -> None:
    """A dependency runs once in a play, and counts as run when its role was left out: its arguments were checked."""
    assert yaml.safe_load((role / "meta" / "main.yml").read_text())["dependencies"] == []


@every_role
@pytest.mark.parametrize("provider", PROVIDED)
def test_a_role_provides_itself_with_the_facts_that_it_uses(role: Path, provider: str) -> None:
    if role.name == provider or not re.search(FACTS[provider], texts(role)):
        return
    if bringer := BROUGHT.get((role.name, provider)):
        assert f"name: {bringer}\n" in texts(role)
        return
    main: list[dict[str, Any]] = yaml.safe_load((role / "tasks" / "main.yml").read_text())
    imported = [task.get("ansible.builtin.import_role") for task in main]
    assert {"name": f"tfgrid.gateway.{provider}", "tasks_from": "provide"} in imported


def test_roles_use_facts_of_others() -> None:
    users = {
        (provider, role.name) for role in ROLES for provider, facts in FACTS.items() if re.search(facts, texts(role))
    }
    assert {("release", "gateway"), ("release", "identity"), ("interpreter", "release")} <= users


@pytest.mark.parametrize("tag", ["identity", "gateway"])
def test_the_release_comes_with_what_needs_it(tag: str) -> None:
    assert chosen(tag)[""].count(PROVIDED["release"]) == 1
    assert PROVIDED["release"] not in chosen("firewall")[""]
