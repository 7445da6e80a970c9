"""Reads the server part of an old ``router.toml``; its services are read by ``proxy.routing.router_file``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfgateway.errors import ConfigError
from tfgateway.routertoml import load, member, table


@dataclass(frozen=True, slots=True)
class Router:
    """Settings of the old router."""

    tls_port: int
    http_port: int
    tunnel_port: int
    redis: str
    """``HOST:PORT``."""
    services: int
    """How many static ones."""


def parse(raw: bytes) -> Router:
    """Keys match in any case; ports that are missing are 0. Errors: ``ConfigError``."""
    server = table(load(raw), "server")
    backend = table(server, "dbbackend")
    return Router(
        tls_port=_number(server, "port"),
        http_port=_number(server, "httpport"),
        tunnel_port=_number(server, "clientsport"),
        redis=f"{member(backend, 'addr') or ''}:{_number(backend, 'port')}",
        services=len(table(server, "services")),
    )


def _number(members: Mapping[str, Any], key: str) -> int:
    value = member(members, key)
    if value is None:
        return 0
    if type(value) is not int:
        raise ConfigError(f"'{key}' is not a whole number")
    return value
