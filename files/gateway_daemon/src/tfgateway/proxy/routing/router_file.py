"""Static services of an old ``router.toml``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from tfgateway.errors import ConfigError, ParseError, SchemaError
from tfgateway.proxy.parse.hosts import a_label
from tfgateway.proxy.routing.table import CATCH_ALL, Route, StaticRoutes, route_of
from tfgateway.redis_schema.services import Service
from tfgateway.routertoml import load, member, table
from tfgateway.telemetry.text import printable

_T = TypeVar("_T", str, int)


def parse_router_toml(raw: bytes, name: str) -> tuple[StaticRoutes, tuple[str, ...]]:
    """The services of the file and, one sentence each, why some were skipped; ``name`` is for the texts.

    Listen addresses and the database of the file are not read: they stand in ``gateway.toml``. Keys match in any case,
    unknown ones are ignored. Errors: ``ConfigError`` for a file that is no TOML or has no table where one must be.
    """
    try:
        services = table(table(load(raw), "server"), "services")
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    by_host: dict[str, Route] = {}
    catch_all = None
    problems = []
    # Names in lower case come first: they were served before, those with capitals never were (T-19).
    for host, members in sorted(services.items(), key=lambda item: item[0] != item[0].lower()):
        try:
            key = host.lower().removesuffix(".") if host.isascii() else a_label(host)
            route = route_of(_service(members), by_operator=True)
            if host != CATCH_ALL and key in by_host:
                raise SchemaError("the same name in lower case is there too")
        except (SchemaError, ParseError) as error:
            problems.append(f"{name}: service '{printable(host)}' skipped: {error}")
            continue
        if host == CATCH_ALL:
            catch_all = route
        else:
            by_host[key] = route
    return StaticRoutes(by_host, catch_all), tuple(problems)


def _service(members: object) -> Service:
    if not isinstance(members, dict):
        raise SchemaError("not a table")
    return Service(
        addr=_typed(members, "addr", ""),
        clientsecret=_typed(members, "clientsecret", ""),
        tlsport=_typed(members, "tlsport", 0),
        httpport=_typed(members, "httpport", 0),
        user="",
    )


def _typed(members: Mapping[str, Any], key: str, default: _T) -> _T:
    value = member(members, key)
    if value is None:
        return default
    if type(value) is not type(default):
        raise SchemaError(f"{key} is not a {'text' if isinstance(default, str) else 'whole number'}")
    return value
