"""Markdown that all reference pages share."""

from __future__ import annotations

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
