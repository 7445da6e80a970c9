"""``docs/reference/plugins.md``: modules, filters and the inventory plugin, from their own documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.reference.markdown import from_ansible, table
from tools.tree import ROOT

KINDS = {"modules": "Modules", "inventory": "Inventory plugins", "filter": "Filters"}
HEAD = """# Plugins

`ansible-doc tfgrid.gateway.NAME` shows the same on a terminal.
"""
_DOCUMENTATION = re.compile(r"""^DOCUMENTATION = r?(?:'''|\"\"\")\n(.*?)^(?:'''|\"\"\")""", re.MULTILINE | re.DOTALL)


def render() -> str:
    """The whole page."""
    return HEAD + "".join(part for kind, title in KINDS.items() for part in _kind(kind, title))


def _kind(kind: str, title: str) -> Iterator[str]:
    yield f"\n## {title}\n"
    for path, documentation in _documented(ROOT / "plugins" / kind):
        text = documentation.get("description") or []
        lines = [text] if isinstance(text, str) else text
        yield f"\n### `tfgrid.gateway.{path.stem}`\n\n{documentation['short_description']}.\n"
        yield "".join(f"\n{from_ansible(line)}\n" for line in lines)
        rows = [(f"`{name}`", _type(one), _default(one), _meaning(one)) for name, one in _options(documentation)]
        if rows:
            yield "\n" + table(("Option", "Type", "Default", "Meaning"), rows)


def _documented(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted([*folder.glob("*.py"), *folder.glob("*.yml")]):
        if path.suffix == ".yml":
            yield path, yaml.safe_load(path.read_text())["DOCUMENTATION"]
        elif found := _DOCUMENTATION.search(path.read_text()):
            yield path, yaml.safe_load(found.group(1))


def _options(documentation: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return list((documentation.get("options") or {}).items())


def _type(option: Mapping[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"list of {option['elements']}" if kind == "list" and "elements" in option else kind


def _default(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "required"
    value = option.get("default")
    return "none" if value is None or value in ("", [], {}) else f"`{value}`"


def _meaning(option: Mapping[str, Any]) -> str:
    text = option.get("description", "")
    return from_ansible(text if isinstance(text, str) else " ".join(text))
