"""``tfgateway reload``: a running plane takes over the current configuration and release."""

from __future__ import annotations

import click

from tfgateway.workers import control_socket


@click.command("reload")
@click.argument("plane", type=click.Choice(["dns", "proxy"]))
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="Seconds to wait for the outcome; the plane goes on with it all the same.",
)
def command(plane: str, *, timeout: float) -> None:
    """Let a plane take over gateway.toml and the release that `current` points to, and wait for the outcome.

    New workers start beside the old ones and take over when all are ready. When the configuration is wrong or the
    release does not work, nothing changes, the old ones go on, and this ends with 1 and the reason. When it ends with 0
    the new ones serve; should their release have been unable to replace the supervisor as well, the outcome and the
    plane's status say why, and the next reload tries again.
    """
    click.echo(f"{plane}: {control_socket.ask(plane, timeout)}")
