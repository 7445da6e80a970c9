"""State of the targets and tunnels of static services, from the proxy's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfgateway.redis_schema.tunnels import Connected, fingerprint
from tfgateway.settings import Settings
from tfgateway.telemetry import scrape

_PATIENCE = 5.0
_UP = "tfgateway_proxy_target_up"
_ACTIVE = "tfgateway_proxy_target_connections_active"


@dataclass(frozen=True, slots=True)
class TargetState:
    """One target of a static service."""

    service: str
    """The first of its names."""
    target: str
    """``ADDRESS:PORT``."""
    up: bool
    connections: int
    """Open now."""


@dataclass(frozen=True, slots=True)
class TunnelState:
    """The tunnel of a static service."""

    service: str
    """The first of its names."""
    since: int | None
    """When its client connected, seconds since 1970; None: none is connected."""
    source: str
    """The client's IP literal."""


def static_tunnels(settings: Settings, clients: Mapping[str, Connected]) -> tuple[TunnelState, ...]:
    """The tunnels of all static services; ``clients``: connected ones, by the fingerprint of their secret."""
    found = []
    for service in settings.proxy.services:
        if service.tunnel_secret:
            client = clients.get(fingerprint(service.tunnel_secret))
            since, source = client or (None, "")
            found.append(TunnelState(service.names[0], since, source))
    return tuple(found)


async def static_targets(settings: Settings) -> tuple[tuple[TargetState, ...], str]:
    """The targets of all static services, and a problem if the proxy does not answer; without services, nothing."""
    if not any(service.targets for service in settings.proxy.services):
        return (), ""
    page = await scrape.page(settings.proxy.metrics, _PATIENCE)
    try:
        if page is not None:
            return _read(page), ""
    except ValueError:
        pass
    return (), f"targets of static services: the proxy's figures at {settings.proxy.metrics} cannot be read"


def _read(page: str) -> tuple[TargetState, ...]:
    """Errors: ``ValueError``."""
    values: dict[str, dict[tuple[str, str], float]] = {_UP: {}, _ACTIVE: {}}
    for _, sample in scrape.samples(page):
        if sample.name in values:
            values[sample.name][sample.labels["service"], sample.labels["target"]] = sample.value
    return tuple(
        TargetState(*key, up=bool(up), connections=int(values[_ACTIVE].get(key, 0))) for key, up in values[_UP].items()
    )
