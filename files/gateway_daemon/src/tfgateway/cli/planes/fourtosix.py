"""``tfgateway fourtosix``: IPv6 over WireGuard."""

from __future__ import annotations

import sys

import click

from tfgateway.cli.context import load_settings
from tfgateway.fourtosix import server
from tfgateway.workers import lifecycle


@click.command("fourtosix")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Give IPv6 to the WireGuard peers that redis names. Needs CAP_NET_ADMIN, wg and ip."""
    settings = load_settings(ctx)

    async def main(life: lifecycle.Lifecycle) -> None:
        await server.serve(settings, stopping=life.stopping, ready=life.ready, status=life.status)

    sys.exit(lifecycle.run(main))
