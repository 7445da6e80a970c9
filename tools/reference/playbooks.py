"""``docs/reference/playbooks.md``: what an operator runs, from the playbooks' opening comments and their ``vars``.

A playbook reads an operator's variable through an internal one, ``_a_name: "{{ a_name | default(...) }}"``, since its
own ``vars`` would be stronger than an inventory. The comment beside or above it says what it means.
"""

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
_VARIABLE = re.compile(r"^ {0,4}_[a-z_]+: (.*?)(?:  # (.*))?$")
_ASKED = re.compile(r"\b([a-z]+_\w*) \| default\(")


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
    texts = [text, *((path.parent / file).read_text() for play in plays for file in play.get("vars_files", []))]
    prompts = [prompt for play in plays for prompt in play.get("vars_prompt", [])]
    rows = [(f"`{prompt['name']}`", "asked for", f"{prompt['prompt']}.") for prompt in prompts]
    rows += [row for one in texts for row in _variables(one)]
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
    """Those of ``vars``, or of a file of variables, that have a comment: the others are not for operators."""
    rows = []
    above: list[str] = []
    for line in text.splitlines():
        found = _VARIABLE.match(line)
        asked = _ASKED.search(found[1]) if found else None
        meaning = found[2] or " ".join(above) if found else ""
        if found and asked and meaning:
            rows.append((f"`{asked[1]}`", f"`{_argument(found[1], asked.end())}`", meaning))
        comment = line.strip().removeprefix("# ") if line.strip().startswith("#") else ""
        above = [*above, comment] if comment else []
    return rows


def _argument(text: str, start: int) -> str:
    """From ``start`` to the parenthesis that closes what is open there."""
    depth = 1
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end]
    return text[start:]
