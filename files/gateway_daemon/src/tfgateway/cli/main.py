"""``tfgateway``: the entry point."""

from __future__ import annotations

from pathlib import Path

import click

from tfgateway.cli.context import LazyGroup

_COMMANDS = {
    "backup": "tfgateway.cli.backup",
    "check-config": "tfgateway.cli.check_config",
    "dns": "tfgateway.cli.planes.dns",
    "explorer": "tfgateway.cli.explorer",
    "former": "tfgateway.cli.legacy",
    "fourtosix": "tfgateway.cli.planes.fourtosix",
    "identity": "tfgateway.cli.identity",
    "info": "tfgateway.cli.planes.info",
    "proxy": "tfgateway.cli.planes.proxy",
    "reconcile": "tfgateway.cli.reconcile",
    "redis": "tfgateway.cli.redis",
    "reload": "tfgateway.cli.planes.reload",
    "reserve": "tfgateway.cli.reserve.group",
    "state": "tfgateway.cli.state",
    "tunnel": "tfgateway.cli.tunnel.command",
}


@click.group(cls=LazyGroup, modules=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, readable=False),
    envvar="TFGATEWAY_CONFIG",
    help="Settings file [default: /etc/tfgateway/gateway.toml].",
)
@click.version_option(package_name="tfgateway", prog_name="tfgateway")
def main(config: Path | None) -> None:
    """TFGateway: makes services inside a private grid reachable from the Internet.

    Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
    """
