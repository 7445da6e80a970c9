"""``tfgateway explorer``: the self-hosted explorer, and a copy of its database. Needs no ``gateway.toml``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from aiohttp import web
from click.core import ParameterSource
from prometheus_client import CollectorRegistry

from tfgateway.errors import ConfigError
from tfgateway.explorer.server.app import METRICS, create_app, serve
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage import pins
from tfgateway.explorer.server.storage.engines import locations
from tfgateway.explorer.server.storage.maintenance.backup import backup
from tfgateway.explorer.server.storage.maintenance.migrate import migrate
from tfgateway.explorer.server.tls import Certificate
from tfgateway.explorer.urls import PublicUrl
from tfgateway.net.addresses import host_port
from tfgateway.settings import LogSettings
from tfgateway.telemetry import logs
from tfgateway.telemetry import metrics as telemetry
from tfgateway.telemetry.text import printable
from tfgateway.workers import lifecycle
from tfgateway.workers.lifecycle import Lifecycle

_DEFAULTS = ExplorerPolicy()


_DATABASE = "TFGATEWAY_EXPLORER_DATABASE"
_FILE = click.Path(path_type=Path, dir_okay=False)
_DATABASE_OPTION = click.option(
    "--database",
    metavar="FILE|URL",
    envvar=_DATABASE,
    show_envvar=True,
    required=True,
    help="The database of the explorer, which may run.",
)
_IDS_OPTION = click.option(
    "--ids",
    type=_FILE,
    help="File in which an explorer on PostgreSQL remembers the ids that it gave out, to notice that the database was"
    " restored from a copy [default: an explorer remembers them as long as it runs]. An SQLite file has its own beside"
    " it, FILE.ids.",
)


@click.group("explorer", invoke_without_command=True)
@click.option(
    "--listen",
    multiple=True,
    default=["127.0.0.1:8080"],
    show_default=True,
    help="ADDRESS:PORT; IPv6 in brackets, of which [::] is all; repeatable.",
)
@click.option(
    "--database",
    metavar="FILE|URL",
    envvar=_DATABASE,
    show_envvar=True,
    help="SQLite file, created when absent, or postgresql://HOST[,HOST...]/NAME of a database that exists, which any"
    " number of explorers may serve. Required.",
)
@click.option(
    "--tls-certificate",
    type=_FILE,
    help="Serve HTTPS with this certificate and its chain (PEM), loaded again at SIGHUP. Without it, put a reverse"
    " proxy with TLS in front.",
)
@click.option("--tls-key", type=_FILE, help="The certificate's key (PEM, no password).")
@click.option(
    "--metrics", default="", help="ADDRESS:PORT at which /metrics is served, for loopback only [default: nowhere]."
)
@click.option(
    "--accept-any", is_flag=True, help="Accept workloads that a gateway will refuse; it answers with an error result."
)
@click.option(
    "--registration",
    type=click.Choice([mode.value for mode in RegistrationMode]),
    help="Who may register what. closed: users prove that their key is theirs, the owner of a farm signs its creation"
    " and admits each gateway (`tfgateway reserve farm`). open: as old clients need it [default: as the database was"
    " made: a new one closed, one of an older release open].",
)
@click.option(
    "--require-key-proof",
    is_flag=True,
    help="Register only users who prove that the key is theirs, as `tfgateway reserve register` does, however open"
    " registration is: old clients cannot.",
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
    "--public-url",
    default="",
    help="The URL that clients use, which their signatures cover, when a reverse proxy rewrites path or host [default:"
    " as requests arrive].",
)
@click.option(
    "--require-bound-signatures",
    is_flag=True,
    help="Accept only signatures that are good for one request, as those of this release are: old clients cannot"
    " make them.",
)
@click.option(
    "--max-wait",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.max_wait,
    show_default=True,
    help="Longest time in seconds that a poll is held back.",
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.drain,
    show_default=True,
    help="Seconds after SIGTERM in which /readyz says no and requests are still served, for a load balancer to notice.",
)
@_IDS_OPTION
@click.pass_context
def command(
    ctx: click.Context,
    listen: tuple[str, ...],
    database: str | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    metrics: str,
    owner_resolver: str,
    registration: str | None,
    accept_any: bool,
    require_key_proof: bool,
    clock_skew: float,
    public_url: str,
    require_bound_signatures: bool,
    max_wait: float,
    drain: float,
    ids: Path | None,
) -> None:
    """Serve the explorer API until SIGTERM, unless a command is given."""
    if ctx.invoked_subcommand is not None:
        return
    if database is None:
        raise click.UsageError("--database is required")
    _check_password(ctx, "database", database)
    logs.configure(LogSettings())
    addresses = [_address("--listen", address) for address in listen]
    for name, address in (("--owner-resolver", owner_resolver), ("--metrics", metrics)):
        if address:
            _address(name, address)
    policy = ExplorerPolicy(
        registration=RegistrationMode(registration) if registration else None,
        validate_workloads=not accept_any,
        require_key_proof=require_key_proof,
        owner_resolver=owner_resolver,
        clock_skew=clock_skew,
        public_url=_public_url(public_url) if public_url else None,
        require_bound_signatures=require_bound_signatures,
        max_wait=max_wait,
        drain=drain,
    )
    certificate = _certificate(tls_certificate, tls_key)
    app = create_app(locations.engine(database, ids), policy)

    async def main(life: Lifecycle) -> None:
        if certificate is not None:
            life.on_reload(certificate.reload)
        page = await _metrics_page(app[METRICS], metrics) if metrics else None
        try:
            await serve(app, addresses, life.stopping, life.ready, certificate.context if certificate else None)
        finally:
            if page is not None:
                await page.cleanup()

    lifecycle.run(main)


@command.command("acknowledge-restore")
@_DATABASE_OPTION
@_IDS_OPTION
@click.pass_context
def acknowledge_restore(ctx: click.Context, database: str, ids: Path | None) -> None:
    """Go on with a database that was restored from a copy: new ids begin far above all that were given out.

    An explorer that finds its database restored refuses to start, or to give out ids, until this was run. Stop all
    explorers of the database first.
    """
    _check_password(ctx, "database", database)
    engine = locations.engine(database, ids)
    click.echo(f"{printable(engine.name)}: epoch {engine.acknowledge()}")


@command.command("backup")
@click.option("--database", type=_FILE, required=True, help="The database of the explorer, which may run.")
@click.argument("output", type=_FILE)
def backup_(database: Path, output: Path) -> None:
    """Copy the database to the new file OUTPUT.

    To restore: stop the explorer, remove FILE-wal and FILE-shm, put the copy in place of FILE, start the explorer.
    """
    size = backup(database, output)
    click.echo(f"{output}: {size} bytes")


@command.command("migrate")
@click.option(
    "--from",
    "source",
    metavar="FILE|URL",
    envvar="TFGATEWAY_EXPLORER_FROM",
    show_envvar=True,
    required=True,
    help="The database that is copied; no explorer may serve it.",
)
@click.option(
    "--to",
    "target",
    metavar="FILE|URL",
    envvar="TFGATEWAY_EXPLORER_TO",
    show_envvar=True,
    required=True,
    help="A new one: a file that is not there, or a database of PostgreSQL without tables; or one that an interrupted"
    " migration has begun.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def migrate_(ctx: click.Context, source: str, target: str, as_json: bool) -> None:
    """Copy a database to a new one, from SQLite to PostgreSQL or back, and compare the two.

    An interrupted migration goes on when it is called again.
    """
    for name, location in (("source", source), ("target", target)):
        _check_password(ctx, name, location)

    def progress(table: str, done: int) -> None:
        click.echo(f"{table}: {done} rows", err=True)

    started = time.monotonic()
    copied = migrate(locations.engine(source), locations.engine(target), progress)
    if as_json:
        tables = {table.table: {"rows": table.rows, "sha256": table.sha256} for table in copied}
        click.echo(json.dumps({"tables": tables, "seconds": round(time.monotonic() - started, 1)}))
    else:
        click.echo(f"{sum(table.rows for table in copied)} rows are the same in both")


@command.command("unpin")
@_DATABASE_OPTION
@click.argument("key_id")
@click.pass_context
def unpin(ctx: click.Context, database: str, key_id: str) -> None:
    """Accept requests of KEY_ID, a node id or a user's tid, as old programs sign them again."""
    _check_password(ctx, "database", database)
    removed = locations.engine(database).apply(
        lambda connection: pins.change(connection, key_id, pin=False, now=time.time())
    )
    click.echo(f"{printable(key_id)} {'is not pinned any more' if removed else 'was not pinned'}")


def _check_password(ctx: click.Context, parameter: str, location: str) -> None:
    if ctx.get_parameter_source(parameter) is ParameterSource.COMMANDLINE and locations.has_password(location):
        raise click.UsageError("ps shows the password in a URL to everybody: give the URL in the environment")


def _address(option: str, text: str) -> tuple[str, int]:
    try:
        return host_port(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def _public_url(text: str) -> PublicUrl:
    try:
        return PublicUrl.parse(text)
    except ValueError as error:
        raise ConfigError(f"--public-url: {error}") from error


def _certificate(certificate: Path | None, key: Path | None) -> Certificate | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("--tls-certificate and --tls-key need each other")
    return Certificate(certificate, key)


async def _metrics_page(registry: CollectorRegistry, listen: str) -> web.AppRunner:
    try:
        return await telemetry.serve(registry, listen)
    except OSError as error:
        raise ConfigError(f"--metrics: cannot listen: {error.strerror}") from error
