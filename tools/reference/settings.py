"""``docs/reference/settings.md``: every key of ``gateway.toml``, from the settings classes and their docstrings."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import inspect as types
from tfgateway.settings import Settings

from tools.reference.markdown import table

HEAD = """# Settings

The daemon reads one TOML file, `/etc/tfgateway/gateway.toml`. A key that is not listed here is an error, and
`tfgateway check-config` finds it. Role `gateway` writes the file: common settings have a
[variable of their own](role-variables.md#gateway), and `gateway_settings` takes all others, table by table:

```yaml
gateway_settings:
  dns: {tcp_idle: 5}
```
"""


@dataclass(frozen=True)
class Key:
    """One key of the file."""

    table: str
    """As in its header: ``[dns.cookies]``, or ``[[dns.transfer]]`` for an array of tables."""
    about: str
    name: str
    type: str
    default: str
    meaning: str


def all_keys() -> list[Key]:
    """All keys, table by table."""
    return list(_keys(Settings, "", array=False))


def _keys(section: type[msgspec.Struct], path: str, *, array: bool) -> Iterator[Key]:
    texts = field_docs(section)
    header = f"[[{path}]]" if array else f"[{path}]"
    about = (section.__doc__ or "").partition(":")[2].strip() or (section.__doc__ or "").partition(",")[2].strip()
    nested: list[tuple[type[msgspec.Struct], str, bool]] = []
    described = types.type_info(section)
    if not isinstance(described, types.StructType):
        raise TypeError(section)
    for field in described.fields:
        inner, is_array = _section_of(field.type)
        below = f"{path}.{field.name}" if path else field.name
        if inner is not None:
            nested.append((inner, below, is_array))
            continue
        yield Key(header, about, field.name, _type(field.type), _default(field), texts.get(field.name, ""))
    for inner, below, is_array in nested:
        yield from _keys(inner, below, array=is_array)


def _section_of(kind: types.Type) -> tuple[type[msgspec.Struct] | None, bool]:
    if isinstance(kind, types.StructType):
        return kind.cls, False
    if isinstance(kind, types.VarTupleType) and isinstance(kind.item_type, types.StructType):
        return kind.item_type.cls, True
    if isinstance(kind, types.UnionType):
        for member in kind.types:
            if isinstance(member, types.StructType):
                return member.cls, False
    return None, False


def _type(kind: types.Type) -> str:
    if isinstance(kind, types.Metadata):
        unit = (kind.extra or {}).get("unit")
        return f"{_type(kind.type)}{', ' + unit if unit else ''}"
    if isinstance(kind, types.IntType):
        return "integer" + _bounds(kind)
    if isinstance(kind, types.FloatType):
        return "number" + _bounds(kind)
    if isinstance(kind, types.BoolType):
        return "boolean"
    if isinstance(kind, types.LiteralType):
        return " or ".join(f"`{value}`" for value in sorted(map(str, kind.values)))
    if isinstance(kind, types.VarTupleType):
        return f"list of {_type(kind.item_type)}s"
    return "string"


def _bounds(kind: types.IntType | types.FloatType) -> str:
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    if low is not None and high is not None:
        return f", {low} to {high}"
    if low is not None:
        return f", {'at least' if kind.ge is not None else 'above'} {low}"
    return "" if high is None else f", at most {high}"


def _default(field: types.Field) -> str:
    if field.required:
        return "required"
    value: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None or value == "" or value == ():
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def field_docs(section: type) -> dict[str, str]:
    """The string below each field of a settings class, or below each member of an enumeration."""
    module = sys.modules[section.__module__]
    tree = ast.parse(inspect.getsource(module))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == section.__name__)
    found = {}
    for field, text in pairwise(body):
        target: ast.expr | None = field.target if isinstance(field, ast.AnnAssign) else None
        if isinstance(field, ast.Assign):
            target = field.targets[0]
        if isinstance(target, ast.Name) and isinstance(text, ast.Expr):
            value = text.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[target.id] = value.value
    return found


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    everything = all_keys()
    for header in dict.fromkeys(key.table for key in everything):
        rows = [key for key in everything if key.table == header]
        about = rows[0].about
        parts.append(f"\n## `{header}`\n")
        if about:
            parts.append(f"\n{about[0].upper()}{about[1:].rstrip('.')}.\n".replace("``", "`"))
        cells = [(f"`{key.name}`", key.type, key.default, key.meaning) for key in rows]
        parts.append("\n" + table(("Key", "Type", "Default", "Meaning"), cells))
    return "".join(parts)
