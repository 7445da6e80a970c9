"""Untrusted text made safe for a log, a terminal and a table."""

from __future__ import annotations


def printable(value: object, limit: int = 200) -> str:
    """``value`` on one line: control and unprintable characters escaped, at most ``limit`` characters."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if len(text) <= limit and text.isprintable():
        return text
    cut = text[:limit]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return shown if len(text) <= limit else f"{shown}... ({len(text)} characters)"
