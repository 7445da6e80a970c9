"""``docs/compatibility/labels.md``: what each compatibility label means, and the tests that carry it."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping

from tools.reference.markdown import table
from tools.tree import ROOT

SOURCE = ROOT / "docs" / "compatibility" / "labels.toml"
HEAD = """# Labels

The code, its tests and this documentation refer to behaviour of the original programs by a label: a letter for the
program, and a number. Each has at least one test with the label in its name.
"""
_SHOWN = 2
"""Files a label; more would not be read."""
_TEST = re.compile(r"^\s*(?:async )?def test_((?:[pecrdti]\d+_)+)\w+", re.MULTILINE)


def labels() -> dict[str, tuple[str, str]]:
    """``P-1`` -> (what the original does, what this project does)."""
    return {f"{letter}-{number}": (text[0], text[1]) for letter, number, text in _entries()}


def _entries() -> list[tuple[str, str, list[str]]]:
    parsed = tomllib.loads(SOURCE.read_text())
    return [
        (letter, number, text)
        for letter, group in parsed.items()
        for number, text in group.items()
        if number != "title"
    ]


def tests() -> Mapping[str, list[str]]:
    """Label -> files with tests that carry it in their names."""
    found: dict[str, list[str]] = defaultdict(list)
    for folder in ("tests", "molecule"):
        for path in sorted((ROOT / folder).rglob("test_*.py")):
            for prefix in _TEST.findall(path.read_text()):
                for part in prefix.strip("_").split("_"):
                    found[f"{part[0].upper()}-{part[1:]}"].append(str(path.relative_to(ROOT)))
    return found


def render() -> str:
    """The whole page."""
    groups = tomllib.loads(SOURCE.read_text())
    carried = tests()
    parts = [HEAD]
    for letter, group in groups.items():
        rows = []
        for number, text in group.items():
            if number == "title":
                continue
            named = dict.fromkeys(carried.get(f"{letter}-{number}", []))
            rows.append((f"{letter}-{number}", *text, ", ".join(f"`{file}`" for file in list(named)[:_SHOWN])))
        parts.append(f"\n## {group['title']}\n\n" + table(("Label", "The original", "Here", "Tested in"), rows))
    return "".join(parts)
