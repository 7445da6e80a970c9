"""``tfgateway proxy``: the data plane for HTTP and TLS."""

from __future__ import annotations

import sys

import click

from tfgateway.cli.context import load_settings
from tfgateway.proxy import server
from tfgateway.workers import lifecycle


@click.command("proxy")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Relay HTTP by Host and TLS by SNI to the services that redis and the operator name."""
    settings = load_settings(ctx)

    async def main(life: lifecycle.Lifecycle) -> None:
        await server.serve(settings, stopping=life.stopping, ready=life.ready, status=life.status)

    sys.exit(lifecycle.run(main))
