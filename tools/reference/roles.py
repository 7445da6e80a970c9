"""``docs/reference/role-variables.md``: every role and its variables, from ``meta/argument_specs.yml`` and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tools.reference.markdown import from_ansible, table
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
        parts.append(f"\n## {role.name}\n\n{_description(specs['main'])}\n")
        rows = [row for spec in specs.values() for row in _rows(spec.get("options") or {}, "")]
        unique = list(dict.fromkeys(rows))
        if unique:
            parts.append("\n" + table(("Variable", "Type", "Default", "Meaning"), unique))
    return "".join(parts)


def _description(spec: Mapping[str, Any]) -> str:
    text = spec.get("description") or spec["short_description"]
    lines = [text] if isinstance(text, str) else text
    return from_ansible("\n\n".join(lines))


def _rows(options: Mapping[str, Any], above: str) -> Iterator[tuple[str, str, str, str]]:
    for name, option in options.items():
        kind = option.get("type", "str")
        if kind == "list" and "elements" in option:
            kind = f"list of {option['elements']}"
        choices = option.get("choices")
        if choices:
            kind += ": " + ", ".join(f"`{choice}`" for choice in choices)
        text = option.get("description", "")
        meaning = from_ansible(text if isinstance(text, str) else " ".join(text))
        yield f"`{above}{name}`", kind, _default(option), meaning
        yield from _rows(option.get("options") or {}, f"{above}{name}.")


def _default(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "required"
    value = option.get("default")
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{value}`"
