"""``tfgateway explorer``: the self-hosted explorer. Needs no ``gateway.toml``."""

from __future__ import annotations

from pathlib import Path

import click

from tfgateway.errors import ConfigError
from tfgateway.explorer.server.app import create_app, serve
from tfgateway.explorer.server.policy import Policy
from tfgateway.settings import LogSettings, host_port
from tfgateway.telemetry import logs
from tfgateway.workers import lifecycle
from tfgateway.workers.lifecycle import Lifecycle

_DEFAULTS = Policy()


@click.command("explorer")
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="ADDRESS:PORT; IPv6 in brackets.")
@click.option(
    "--database",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="SQLite file; created when absent.",
)
@click.option(
    "--accept-any", is_flag=True, help="Accept workloads that a gateway will refuse; it answers with an error result."
)
@click.option(
    "--require-key-proof",
    is_flag=True,
    help="Register only users who prove that the key is theirs, as `tfgateway reserve register` does: old clients"
    " cannot.",
)
@click.option(
    "--owner-resolver",
    default="",
    help="ADDRESS:PORT of the resolver that is asked whether a new gateway serves the __owner__ records of its"
    " managed domains [default: not checked].",
)
@click.option(
    "--clock-skew",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.clock_skew,
    show_default=True,
    help="Seconds by which the time of a signed request may differ.",
)
@click.option(
    "--max-wait",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.max_wait,
    show_default=True,
    help="Longest time in seconds that a poll is held back.",
)
def command(
    listen: str,
    database: Path,
    accept_any: bool,
    require_key_proof: bool,
    owner_resolver: str,
    clock_skew: float,
    max_wait: float,
) -> None:
    """Serve the explorer API until SIGTERM."""
    logs.configure(LogSettings())
    try:
        host, port = host_port(listen)
        if owner_resolver:
            host_port(owner_resolver)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    policy = Policy(
        validate_workloads=not accept_any,
        require_key_proof=require_key_proof,
        owner_resolver=owner_resolver,
        clock_skew=clock_skew,
        max_wait=max_wait,
    )

    async def main(life: Lifecycle) -> None:
        await serve(create_app(database, policy), host, port, life.stopping, life.ready)

    lifecycle.run(main)
