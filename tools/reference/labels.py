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


def _programs() -> list[tuple[str, dict[str, tuple[str, str]]]]:
    """Each of the original's parts: its title, and label -> (what the original does, what this project does)."""
    return [
        (group.pop("title"), {f"{letter}-{number}": (text[0], text[1]) for number, text in group.items()})
        for letter, group in tomllib.loads(SOURCE.read_text()).items()
    ]


def labels() -> dict[str, tuple[str, str]]:
    """``P-1`` -> (what the original does, what this project does)."""
    return {label: texts for _, group in _programs() for label, texts in group.items()}


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
    carried = tests()
    parts = [HEAD]
    for title, group in _programs():
        rows = [
            (label, *texts, ", ".join(f"`{file}`" for file in list(dict.fromkeys(carried.get(label, [])))[:_SHOWN]))
            for label, texts in group.items()
        ]
        parts.append(f"\n## {title}\n\n" + table(("Label", "The original", "Here", "Tested in"), rows))
    return "".join(parts)
