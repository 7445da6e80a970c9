"""``docs/reference/playbooks.md``: what an operator runs, from the playbooks' opening comments and their ``vars``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tools.reference.markdown import table
from tools.tree import ROOT

HEAD = """# Playbooks

From a checkout `ansible-playbook playbooks/NAME.yml`, from an installed collection
`ansible-playbook tfgrid.gateway.NAME`.
"""
_VARIABLE = re.compile(r"^ {4}([a-z_]+): (.*?)(?:  # (.*))?$")


def render() -> str:
    """The whole page."""
    return HEAD + "".join(map(_section, sorted((ROOT / "playbooks").glob("*.yml"))))


def _section(path: Path) -> str:
    text = path.read_text()
    parts = [f"\n## {path.stem}\n\n{_opening(text)}\n"]
    plays: list[dict[str, Any]] = yaml.safe_load(text)
    roles = [role["role"] if isinstance(role, dict) else role for play in plays for role in play.get("roles", [])]
    if roles:
        parts.append("\nRoles, in this order: " + ", ".join(f"`{role.rpartition('.')[2]}`" for role in roles) + ".\n")
    rows = _variables(text)
    if rows:
        parts.append("\n" + table(("Variable", "Default", "Meaning"), rows))
    return "".join(parts)


def _opening(text: str) -> str:
    """The comment at the top; lines that are indented in it are commands."""
    prose: list[str] = []
    commands: list[str] = []
    for line in text.splitlines()[1:]:
        if not line.startswith("#"):
            break
        (commands if line.startswith("#   ") else prose).append(line[1:].strip())
    block = "\n\n```text\n" + "\n".join(commands) + "\n```" if commands else ""
    return " ".join(prose).replace("<", "\\<") + block


def _variables(text: str) -> list[tuple[str, str, str]]:
    """Those of ``vars`` that have a comment: the others are not for operators."""
    rows = []
    inside = False
    for line in text.splitlines():
        if line.startswith("  ") and not line.startswith("    "):
            inside = line.strip() == "vars:"
        found = _VARIABLE.match(line) if inside else None
        if found is not None and found.group(3):
            rows.append((f"`{found.group(1)}`", f"`{found.group(2)}`", found.group(3)))
    return rows
