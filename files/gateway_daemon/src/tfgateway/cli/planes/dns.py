"""``tfgateway dns``: the data plane for names."""

from __future__ import annotations

import click

from tfgateway.cli.planes.common import run
from tfgateway.plane import Endpoint, Plane
from tfgateway.settings import Settings


def _endpoints(settings: Settings) -> list[Endpoint]:
    return [Endpoint("dns", kind, address) for address in settings.dns.listen for kind in ("udp", "tcp")]


_PLANE = Plane(
    name="dns",
    serve="tfgateway.dns.server.plane:serve",
    endpoints=_endpoints,
    workers=lambda settings: settings.dns.workers,
    drain=lambda settings: settings.dns.tcp_idle,
    metrics=lambda settings: settings.dns.metrics,
    least_workers=2,  # 32 MB, and 220 MB for each million of names: little for no lost query when one dies
)


@click.command("dns")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Answer DNS queries, over UDP and TCP, for the zones that redis holds.

    SIGHUP, or better `tfgateway reload dns`, changes configuration and release without losing a query.
    """
    run(ctx, _PLANE)
