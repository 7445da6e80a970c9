"""Markdown that all reference pages share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def cell(text: object) -> str:
    """One line that stays in its cell; reStructuredText literals become Markdown's."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    return line.replace("``", "`")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with one header row."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


_MARKUP = re.compile(r"([A-Z])\(([^()]*)\)")


def from_ansible(text: str) -> str:
    """Ansible's documentation markup (``O(name)``, ``C(code)``, ``P(plugin#type)`` ...) as Markdown."""

    def replaced(match: re.Match[str]) -> str:
        kind, content = match.groups()
        if kind in "OVCE":
            return f"`{content}`"
        if kind == "P":
            return f"`{content.partition('#')[0]}`"
        if kind in "BI":
            return f"**{content}**" if kind == "B" else f"*{content}*"
        return content if kind in "MLUR" else match.group(0)

    return _MARKUP.sub(replaced, text)
