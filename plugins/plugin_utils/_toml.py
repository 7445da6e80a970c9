# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""TOML 1.0 text of plain values. The standard library only reads TOML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def to_toml(tables: Mapping[str, Any]) -> str:
    """One document; values before tables at each level. Errors: ``TypeError`` that names the key."""
    return "\n".join(_table(tables, "")).strip() + "\n"


def _table(table: Mapping[str, Any], path: str) -> Iterator[str]:
    tables = {key: value for key, value in table.items() if _is_table(value) or _is_array(value)}
    for key, value in table.items():
        if key not in tables:
            yield f"{_key(key)} = {_value(value, _join(path, key))}"
    for key, value in tables.items():
        below = _join(path, key)
        for one in [value] if _is_table(value) else value:
            yield ""
            yield f"[{below}]" if _is_table(value) else f"[[{below}]]"
            yield from _table(one, below)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_array(value: Any) -> bool:
    """Of tables."""
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0 and all(map(_is_table, value))


def _join(path: str, key: Any) -> str:
    return f"{path}.{_key(key)}" if path else _key(key)


def _key(key: Any) -> str:
    text = str(key)
    return text if text and set(text) <= _BARE else _string(text)


def _value(value: Any, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Sequence):
        return f"[{', '.join(_value(one, path) for one in value)}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one, path)}" for key, one in value.items()) + " }"
    raise TypeError(f"{path}: a value of type {type(value).__name__} cannot be written")


def _string(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, which JSON leaves as it is."""
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")
