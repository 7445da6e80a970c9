"""``tfgateway proxy``: the data plane for HTTP, TLS and tunnels."""

from __future__ import annotations

import click

from tfgateway.cli.planes.common import run
from tfgateway.plane import Endpoint, Plane
from tfgateway.settings import Settings


def _endpoints(settings: Settings) -> list[Endpoint]:
    listen = {
        "http": settings.proxy.listen_http,
        "tls": settings.proxy.listen_tls,
        "tunnels": settings.proxy.listen_tunnels,
        "tunnels_tls": settings.proxy.listen_tunnels_tls,
    }
    return [Endpoint(name, "tcp", address) for name, addresses in listen.items() for address in addresses]


_PLANE = Plane(
    name="proxy",
    serve="tfgateway.proxy.server:serve",
    loop="tfgateway.proxy.eventloop.engine:EngineLoop",
    endpoints=_endpoints,
    workers=lambda settings: settings.proxy.workers,
    drain=lambda settings: settings.proxy.drain_timeout,
    metrics=lambda settings: settings.proxy.metrics,
)


@click.command("proxy")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Relay HTTP by Host and TLS by SNI to the services that redis and the operator name.

    SIGHUP, or better `tfgateway reload proxy`, changes configuration and release without losing a connection that
    ends within proxy.drain_timeout.
    """
    run(ctx, _PLANE)
