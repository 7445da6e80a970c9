"""``tfgateway tunnel``: makes a service behind NAT reachable through one or several gateways."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import ssl
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tfgateway.net.addresses import endpoint
from tfgateway.settings import LogSettings
from tfgateway.telemetry import logs
from tfgateway.telemetry.text import printable
from tfgateway.tunnel.client import follower
from tfgateway.tunnel.client.model import ClientOptions, HostPort, Phase, RemoteStatus
from tfgateway.tunnel.handshake import MAX_SECRET
from tfgateway.tunnel.notices import Outcome
from tfgateway.workers import lifecycle

_COLOURS = {
    Phase.CONNECTED: "green",
    Phase.CONNECTING: "yellow",
    Phase.WAITING: "yellow",
    Phase.RETRYING: "red",
    Phase.ENDED: "red",
}
_EXIT_CODES = {Outcome.UNKNOWN: 3, Outcome.REVOKED: 4, Outcome.REPLACED: 5, Outcome.CROWDED: 6}
_PROXY_PROTOCOL = {"off": 0, "v1": 1, "v2": 2}
_REFRESH = 1.0  # seconds between two updates of the table

_log = logs.logger("tunnel")


class _Address(click.ParamType[HostPort]):
    """``HOST:PORT``, IPv6 in brackets."""

    name = "HOST:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> HostPort:
        if isinstance(value, tuple):
            return value
        try:
            return endpoint(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Addresses(_Address):
    """Several addresses, separated by commas in the environment."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [part.strip() for part in rv.split(",") if part.strip()]


@click.command("tunnel")
@click.option(
    "--secret", envvar="TRC_SECRET", help="Secret of the reservation, THREEBOTID:TEXT. Shown by ps: see next."
)
@click.option(
    "--secret-file",
    envvar="TRC_SECRET_FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that holds the secret.",
)
@click.option("--remote", envvar="TRC_REMOTE", type=_Addresses(), multiple=True, help="Gateway; repeatable [required].")
@click.option("--local", envvar="TRC_LOCAL", type=_Address(), help="Local service for visitors without TLS.")
@click.option(
    "--local-tls",
    envvar=["TRC_LOCAL_TLS", "TRC_LOCAL"],
    type=_Address(),
    help="Local service for visitors with TLS [default: that of --local].",
)
@click.option(
    "--backoff",
    envvar="TRC_BACKOFF",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=5.0,
    show_default=True,
    help="Seconds before the second attempt; they double up to a minute.",
)
@click.option("--tls", is_flag=True, help="Talk to the gateways inside TLS, and verify their certificates.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Certificates to trust (PEM) instead of the system's; implies --tls.",
)
@click.option("--tls-name", help="Name in the gateways' certificates [default: the host of --remote]; implies --tls.")
@click.option(
    "--proxy-protocol",
    type=click.Choice(list(_PROXY_PROTOCOL)),
    help="PROXY header that gives the local service the visitor's address [default: what the gateway has for it].",
)
@click.option(
    "--once", is_flag=True, help="End when the session ends or cannot be had; the exit code says why [default: go on]."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a change, on standard output.")
def command(
    *,
    secret: str | None,
    secret_file: Path | None,
    remote: tuple[HostPort, ...],
    local: HostPort | None,
    local_tls: HostPort | None,
    backoff: float,
    tls: bool,
    ca: Path | None,
    tls_name: str | None,
    proxy_protocol: str | None,
    once: bool,
    as_json: bool,
) -> None:
    """Make a local service reachable through gateways, from behind NAT.

    Runs until SIGINT or SIGTERM and reconnects by itself. The flags and variables of the old client (trc) work.

    Exit codes with --once: 3, no service has the secret; 4, it was revoked; 5, another client has registered with it;
    6, the gateway has too many clients; 1, anything else.
    """
    logs.configure(LogSettings(format="console"))
    if not remote:
        raise click.UsageError("no gateway: give --remote HOST:PORT or set TRC_REMOTE")
    if local is None and local_tls is None:
        raise click.UsageError("no service: give --local HOST:PORT or set TRC_LOCAL")
    options = ClientOptions(
        secret=_secret(secret, secret_file),
        local=local,
        local_tls=local_tls or local,
        backoff=backoff,
        proxy_protocol=_PROXY_PROTOCOL[proxy_protocol] if proxy_protocol else None,
        once=once,
        tls=_context(ca) if tls or ca or tls_name else None,
        tls_name=tls_name or "",
    )
    _use_all_descriptors()
    terminal = sys.stdout.isatty() and not as_json

    statuses: dict[str, RemoteStatus] = {}

    async def main(life: lifecycle.Lifecycle) -> None:

        def changed(status: RemoteStatus) -> None:
            statuses[status.remote] = status
            connected = sum(one.phase is Phase.CONNECTED for one in statuses.values())
            life.status(f"connected to {connected} of {len(remote)}")
            if connected:
                life.ready()
            if as_json:
                click.echo(json.dumps(_as_data(status)))
            elif not terminal:
                _log_status(status)

        running = asyncio.create_task(follower.run(list(remote), options, changed))
        stopping = asyncio.create_task(life.stopping.wait())
        with _shown(statuses) if terminal else contextlib.nullcontext() as live:
            while not stopping.done() and not running.done():
                await asyncio.wait([running, stopping], timeout=_REFRESH, return_when=asyncio.FIRST_COMPLETED)
                if live is not None:
                    live.update(_table(statuses), refresh=True)
        stopping.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    code = lifecycle.run(main)
    ended = [one for one in statuses.values() if one.phase is Phase.ENDED]
    sys.exit(code or max((_EXIT_CODES.get(one.outcome, 1) for one in ended if one.outcome), default=1 if ended else 0))


def _secret(given: str | None, path: Path | None) -> bytes:
    if (given is None) == (path is None):
        raise click.UsageError("give the secret once: --secret-file, --secret, TRC_SECRET_FILE or TRC_SECRET")
    if path is not None:
        try:
            secret = path.read_bytes().strip()
        except OSError as error:
            raise click.UsageError(f"--secret-file: {path}: {error.strerror}") from error
    else:
        secret = (given or "").encode()
    if not 1 <= len(secret) <= MAX_SECRET:
        raise click.UsageError(f"the secret has {len(secret)} bytes; 1 to {MAX_SECRET} are possible")
    return secret


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise click.UsageError(f"--ca: {ca}: {error.strerror or error}") from error


def _log_status(status: RemoteStatus) -> None:
    known = {"remote": status.remote}
    if status.reason:
        known["reason"] = printable(status.reason)
    if status.phase is Phase.RETRYING:
        known["retry_in"] = f"{status.retry_in:.1f}s"
    _log.info(status.phase, **known)


def _as_data(status: RemoteStatus) -> dict[str, object]:
    data: dict[str, object] = {
        "remote": status.remote,
        "phase": status.phase,
        "sessions": status.sessions,
        "visitors": status.visitors,
        "active": status.active,
        "failed": status.failed,
        "received": status.received,
        "sent": status.sent,
        "replaced": status.replaced,
        "outcome": status.outcome,
    }
    if status.reason:
        data["reason"] = printable(status.reason)
    if status.phase is Phase.RETRYING:
        data["retry_in"] = round(status.retry_in, 1)
    return data


def _shown(statuses: dict[str, RemoteStatus]) -> Live:
    return Live(_table(statuses), console=Console(), auto_refresh=False, transient=False)


def _table(statuses: dict[str, RemoteStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("gateway", "state", "visitors", "now", "failed", "received", "sent", ""):
        table.add_column(title)
    for one in statuses.values():
        numbers = (str(one.visitors), str(one.active), str(one.failed), decimal(one.received), decimal(one.sent))
        note = ""
        if one.phase is Phase.RETRYING:
            note = f"{printable(one.reason)}; next attempt after {one.retry_in:.1f} s"
        elif one.phase is Phase.ENDED:
            note = printable(one.reason)
        elif one.phase is Phase.WAITING:
            note = "the gateway does not know this secret yet"
        table.add_row(one.remote, Text(one.phase, style=_COLOURS[one.phase]), *numbers, note)
    return table


def _use_all_descriptors() -> None:
    """Raise the soft limit to the hard one: each visitor takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
