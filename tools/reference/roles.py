"""``docs/reference/role-variables.md``: every role and its variables, from ``meta/argument_specs.yml`` and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tools.reference.ansible import paragraphs, rows
from tools.reference.markdown import table
from tools.tree import ROOT

HEAD = """# Roles and their variables

`site.yml` applies the roles in the order that [playbooks](playbooks.md) shows. Every variable is checked against
these types before a role does anything.
"""


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    for role in sorted((ROOT / "roles").iterdir()):
        specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
        about = specs["main"].get("description") or specs["main"]["short_description"]
        parts.append(f"\n## {role.name}\n\n{paragraphs(about)}\n")
        defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text())
        found = [row for spec in specs.values() for row in _rows(spec.get("options") or {}, defaults)]
        unique = list(dict.fromkeys(found))
        if unique:
            parts.append("\n" + table(("Variable", "Type", "Default", "Meaning"), unique))
    return "".join(parts)


def _rows(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Rows of an entry point's options. A default that the role computes is in the description, not in its place."""
    computed = {f"`{name}`" for name, option in options.items() if name in defaults and "default" not in option}
    for name, kind, default, meaning in rows(options):
        yield name, kind, "computed" if name in computed else default, meaning
