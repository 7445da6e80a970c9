"""The operator's static services, from ``gateway.toml`` and an old ``router.toml``, as routes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfgateway.errors import ConfigError, ParseError
from tfgateway.net.addresses import is_literal, networks
from tfgateway.proxy.parse.hosts import a_label
from tfgateway.proxy.routing.table import CATCH_ALL, Route, RouteOptions, StaticRoutes
from tfgateway.proxy.upstream.balance import Member, TargetPool
from tfgateway.settings import CheckSettings, ServiceSettings

_VERSIONS = {"off": 0, "v1": 1, "v2": 2}


@dataclass(frozen=True, slots=True)
class StaticService:
    """One service with targets, for what checks and resolves them."""

    name: str
    """Its first name."""
    pool: TargetPool
    check: CheckSettings | None


def static_services(
    settings: Sequence[ServiceSettings], others: StaticRoutes
) -> tuple[StaticRoutes, tuple[StaticService, ...]]:
    """Routes by host, ``others`` where ``settings`` say nothing; and the services that have targets.

    Errors: ``ConfigError`` for a name that is none or that two services have.
    """
    by_host: dict[str, Route] = {}
    catch_all: Route | None = None
    services = []
    for one in settings:
        route = _route(one)
        if route.pool is not None:
            services.append(StaticService(one.names[0], route.pool, one.check))
        for name in one.names:
            if name == CATCH_ALL:
                if catch_all is not None:
                    raise ConfigError("proxy.services: two services are the CATCH_ALL")
                catch_all = route
                continue
            try:
                host = a_label(name)
            except ParseError as error:
                raise ConfigError(f"proxy.services: '{name}': {error}") from error
            if host in by_host:
                raise ConfigError(f"proxy.services: two services have the name '{name}'")
            by_host[host] = route
    return StaticRoutes({**others.by_host, **by_host}, catch_all or others.catch_all), tuple(services)


def _route(one: ServiceSettings) -> Route:
    pool = None
    if one.targets:
        check = one.check or CheckSettings()
        members = [
            Member(
                target.address,
                target.http_port,
                target.tls_port,
                weight=target.weight,
                rise=check.rise,
                fall=check.fall,
                addresses=(target.address,) if is_literal(target.address) else (),
            )
            for target in one.targets
        ]
        pool = TargetPool(members, one.balance, one.slow_start)
    options = RouteOptions(pool, networks(one.allow), _VERSIONS[one.proxy_protocol])
    return Route("", 0, 0, by_operator=True, secret=one.tunnel_secret.encode(), options=options)
