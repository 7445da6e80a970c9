"""``tfgateway check-config``: is the settings file usable?"""

from __future__ import annotations

import click

from tfgateway.cli.context import load_settings
from tfgateway.dns.server import configure


@click.command("check-config")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check the settings file; exit code 2 and a line that names the key when it is wrong."""
    settings = load_settings(ctx)
    configure.service(settings.dns)  # with the file of secrets
    configure.secondaries(settings.dns)
    click.echo("configuration is usable")
