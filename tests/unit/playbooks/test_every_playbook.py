"""What all playbooks have in common: in the reference, with every variable that an operator may set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))

every_playbook = pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)


def test_what_a_run_leaves_is_told_of_each() -> None:
    guide = (ROOT / "docs" / "how-to" / "operating.md").read_text()
    table = guide.partition("## What a run leaves, and where\n")[2].partition("\n## ")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(first))) == [path.stem for path in PLAYBOOKS]


def plays(path: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(path.read_text())
    return loaded


def variables(path: Path) -> dict[str, str]:
    """Those that a playbook sets itself, those of its files of variables too."""
    found: dict[str, str] = {}
    for play in plays(path):
        found |= play.get("vars", {})
        for file in play.get("vars_files", []):
            found |= yaml.safe_load((path.parent / file).read_text())
    return found


def asked_for(path: Path) -> list[str]:
    """Variables that an operator may set: the playbook gives them a default, under an internal name."""
    prompts = [prompt["name"] for play in plays(path) for prompt in play.get("vars_prompt", [])]
    prefixes = tuple(f"{playbook.stem}_" for playbook in PLAYBOOKS)
    used = [name for value in variables(path).values() for name in re.findall(r"\b(\w+) \| default\(", str(value))]
    return prompts + [name for name in used if name.startswith(prefixes)]


@every_playbook
def test_what_it_sets_itself_is_internal_so_that_an_inventory_is_stronger(path: Path) -> None:
    assert [name for name in variables(path) if not name.startswith("_")] == []


@every_playbook
def test_the_reference_names_it_and_its_variables(path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "playbooks.md").read_text()
    section = page.partition(f"\n## {path.stem}\n")[2].partition("\n## ")[0]
    assert section
    assert [name for name in asked_for(path) if f"`{name}`" not in section] == []


def test_playbooks_ask_for_variables() -> None:
    asked = {name for path in PLAYBOOKS for name in asked_for(path)}
    assert {"backup_recipient", "reconcile_report", "upgrade_patience", "remove_confirm", "restore_key"} <= asked


def tasks(found: Any) -> Iterator[dict[str, Any]]:
    """All of a play, those inside blocks too."""
    for task in found or ():
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks(task.get(part))


@every_playbook
def test_what_a_command_reads_is_a_secret_that_no_log_shows(path: Path) -> None:
    """Modules write their arguments into the node's journal, unless they are told not to."""
    parts = ("pre_tasks", "tasks", "post_tasks")
    all_tasks = [task for play in plays(path) for part in parts for task in tasks(play.get(part))]
    reading = [task for task in all_tasks if "stdin" in task.get("ansible.builtin.command", {})]
    assert [task["name"] for task in reading if not task.get("no_log")] == []


@every_playbook
def test_it_begins_by_saying_what_it_does(path: Path) -> None:
    assert path.read_text().startswith("---\n# ")
