"""``tfgateway dns``: the data plane for names."""

from __future__ import annotations

import sys

import click

from tfgateway.cli.context import load_settings
from tfgateway.dns import server
from tfgateway.workers import lifecycle


@click.command("dns")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Answer DNS queries, over UDP and TCP, for the zones that redis holds."""
    settings = load_settings(ctx)

    async def main(life: lifecycle.Lifecycle) -> None:
        await server.serve(settings, stopping=life.stopping, ready=life.ready, status=life.status)

    sys.exit(lifecycle.run(main))
