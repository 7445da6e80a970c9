"""``docs/reference/plugins.md``: modules, filters, lookups and the inventory plugin, from their own documentation."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.reference.ansible import paragraphs, rows
from tools.reference.markdown import table
from tools.tree import ROOT

KINDS = {"modules": "Modules", "inventory": "Inventory plugins", "filter": "Filters", "lookup": "Lookups"}
OWN = "tfgrid.gateway."
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
        yield f"\n### `tfgrid.gateway.{path.stem}`\n\n{documentation['short_description']}.\n"
        yield f"\n{paragraphs(documentation.get('description') or [])}\n"
        found = list(rows(_options(documentation)))
        if found:
            yield "\n" + table(("Option", "Type", "Default", "Meaning"), found)


def _options(documentation: Mapping[str, Any]) -> dict[str, Any]:
    """Its own, and those of the fragments of this collection that it extends."""
    options = dict(documentation.get("options") or {})
    for fragment in documentation.get("extends_documentation_fragment") or ():
        if fragment.startswith(OWN):
            file, _, part = fragment.removeprefix(OWN).partition(".")
            texts = runpy.run_path(str(ROOT / "plugins" / "doc_fragments" / f"{file}.py"))["ModuleDocFragment"]
            options |= yaml.safe_load(getattr(texts, part.upper() or "DOCUMENTATION")).get("options") or {}
    return options


def _documented(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted([*folder.glob("*.py"), *folder.glob("*.yml")]):
        if path.suffix == ".yml":
            yield path, yaml.safe_load(path.read_text())["DOCUMENTATION"]
        elif found := _DOCUMENTATION.search(path.read_text()):
            yield path, yaml.safe_load(found.group(1))
