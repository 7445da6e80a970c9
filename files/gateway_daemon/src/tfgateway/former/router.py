"""The server part of an old ``router.toml`` (spec tcprouter §1). Its services are ``proxy.routerfile``'s. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfgateway.errors import ConfigError
from tfgateway.telemetry.text import printable


@dataclass(frozen=True, slots=True)
class Router:
    """What the old router was told."""

    tls_port: int
    http_port: int
    tunnel_port: int
    redis: str
    """``HOST:PORT``."""
    services: int
    """How many static ones."""


def parse(raw: bytes) -> Router:
    """Keys match in any case; ports that are missing are 0. Errors: ``ConfigError``."""
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(f"not TOML: {printable(error)}") from error
    server = _table(document, "server")
    backend = _table(server, "dbbackend")
    return Router(
        tls_port=_number(server, "port"),
        http_port=_number(server, "httpport"),
        tunnel_port=_number(server, "clientsport"),
        redis=f"{_member(backend, 'addr', '')}:{_number(backend, 'port')}",
        services=len(_table(server, "services")),
    )


def _member(table: Mapping[str, Any], key: str, default: Any) -> Any:
    return next((value for name, value in table.items() if name.lower() == key), default)


def _table(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = _member(parent, key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"'{key}' is not a table")
    return value


def _number(table: Mapping[str, Any], key: str) -> int:
    value = _member(table, key, 0)
    if type(value) is not int:
        raise ConfigError(f"'{key}' is not a whole number")
    return value
