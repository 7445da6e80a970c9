"""Ansible's documentation format, which plugins and roles share: its markup, and options as rows of a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

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


def paragraphs(text: str | list[str]) -> str:
    """A description: one text or several."""
    return from_ansible("\n\n".join([text] if isinstance(text, str) else text))


def rows(options: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and meaning of each option; those of a dictionary follow it. above: what names begin with."""
    for name, option in options.items():
        text = option.get("description", "")
        meaning = from_ansible(text if isinstance(text, str) else " ".join(text))
        yield f"`{above}{name}`", _type(option), _default(option), meaning
        yield from rows(option.get("options") or option.get("suboptions") or {}, f"{above}{name}.")


def _type(option: Mapping[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    if kind == "list" and "elements" in option:
        kind = f"list of {option['elements']}"
    choices = ", ".join(f"`{choice}`" for choice in option.get("choices") or ())
    return f"{kind}: {choices}" if choices else kind


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
