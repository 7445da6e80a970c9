"""Reads TOML as the old router did: keys match in any case. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from tfgateway.errors import ConfigError
from tfgateway.telemetry.text import printable


def load(raw: bytes) -> Mapping[str, Any]:
    """Parse a document. Errors: ``ConfigError``."""
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(f"not TOML: {printable(error)}") from error


def member(table: Mapping[str, Any], key: str) -> Any:
    """The value under ``key`` (lower case) in any case, the exact spelling first; None when there is none."""
    if key in table:
        return table[key]
    return next((value for name, value in table.items() if name.lower() == key), None)


def table(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table under ``key``, empty when there is none. Errors: ``ConfigError``."""
    value = member(parent, key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"'{key}' is not a table")
    return value
