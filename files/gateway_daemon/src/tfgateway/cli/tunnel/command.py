"""``tfgateway tunnel``: makes a service behind NAT reachable through one or several gateways."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.live import Live

from tfgateway.cli.tunnel.status import as_data, log_change, table
from tfgateway.errors import ConfigError
from tfgateway.net.addresses import endpoint
from tfgateway.settings import LogSettings
from tfgateway.telemetry import logs
from tfgateway.telemetry.metrics import serve
from tfgateway.tunnel.client.config import PROXY_PROTOCOL, ClientConfig, check_secret, load, read_secret, tls_context
from tfgateway.tunnel.client.metrics import ClientCollector
from tfgateway.tunnel.client.model import ClientOptions, ConfiguredTunnel, HostPort, Phase, RemoteStatus
from tfgateway.tunnel.client.tunnels import ClientTunnels
from tfgateway.tunnel.notices import Outcome
from tfgateway.workers import lifecycle

_EXIT_CODES = {Outcome.UNKNOWN: 3, Outcome.REVOKED: 4, Outcome.REPLACED: 5, Outcome.CROWDED: 6}
_REFRESH = 1.0  # seconds between two updates of the table, and two looks at the files

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
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Several services: tunnel.toml, instead of --secret, --remote, --local and what goes with them.",
)
@click.option("--check", is_flag=True, help="Only say whether --file can be used; exit code 2: it cannot.")
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
    type=click.Choice(list(PROXY_PROTOCOL)),
    help="PROXY header that gives the local service the visitor's address [default: what the gateway has for it].",
)
@click.option(
    "--once", is_flag=True, help="End when the session ends or cannot be had; the exit code says why [default: go on]."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a change, on standard output.")
def command(
    *,
    path: Path | None,
    check: bool,
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
    if check and path is None:
        raise click.UsageError("--check goes with --file")
    if path is not None:
        if secret or secret_file or remote or local or local_tls or tls or ca or tls_name or proxy_protocol or once:
            raise click.UsageError("--file has the services: of the other flags, --check and --json alone go with it")
        read = partial(_load, path)
    else:
        read = partial(
            _given,
            _secret(secret, secret_file),
            remote,
            ClientOptions(
                b"",
                local=local,
                local_tls=local_tls or local,
                backoff=backoff,
                proxy_protocol=PROXY_PROTOCOL[proxy_protocol] if proxy_protocol else None,
                once=once,
                tls=_context(ca) if tls or ca or tls_name else None,
                tls_name=tls_name or "",
            ),
        )
    config = read()
    if check:
        click.echo(f"{path}: {len(config.tunnels)} tunnels")
        return
    _use_all_descriptors()
    client = _Client(config, read, terminal=sys.stdout.isatty() and not as_json, as_json=as_json)
    sys.exit(lifecycle.run(client.run) or client.exit_code)


class _Client:
    """A running one."""

    def __init__(
        self, config: ClientConfig, read: Callable[[], ClientConfig], *, terminal: bool, as_json: bool
    ) -> None:
        """read: gives the configuration again, when its files have changed. Its errors: ``ClickException``."""
        self.exit_code = 0
        self._config = config
        self._read = read
        self._terminal = terminal
        self._as_json = as_json

    async def run(self, life: lifecycle.Lifecycle) -> None:
        def changed(status: RemoteStatus) -> None:
            connected = sum(one.phase is Phase.CONNECTED for one in tunnels.statuses)
            life.status(f"connected to {connected} of {len(tunnels.statuses)}")
            if connected:
                life.ready()
            if self._as_json:
                click.echo(json.dumps(as_data(status)))
            elif not self._terminal:
                log_change(status)

        tunnels = ClientTunnels(changed)
        async with contextlib.AsyncExitStack() as stack:
            if self._config.metrics:
                registry = CollectorRegistry()
                registry.register(ClientCollector(lambda: tunnels.statuses))
                stack.push_async_callback((await serve(registry, self._config.metrics)).cleanup)
            stack.push_async_callback(tunnels.close)
            tunnels.apply(self._config.tunnels)
            life.on_reload(partial(self._reload, tunnels))
            ends = [asyncio.create_task(event.wait()) for event in (tunnels.ended, life.stopping)]
            live = stack.enter_context(_shown()) if self._terminal else None
            seen = _stamps(self._config.files)
            while not any(end.done() for end in ends):
                await asyncio.wait(ends, timeout=_REFRESH, return_when=asyncio.FIRST_COMPLETED)
                if live is not None:
                    live.update(table(tunnels.statuses), refresh=True)
                if seen != (seen := _stamps(self._config.files)):
                    self._reload(tunnels)
            for end in ends:
                end.cancel()
        self.exit_code = max(
            (
                _EXIT_CODES.get(one.outcome, 1) if one.outcome else 1
                for one in tunnels.statuses
                if one.phase is Phase.ENDED
            ),
            default=0,
        )

    def _reload(self, tunnels: ClientTunnels) -> None:
        """What was there before stays when the new one cannot be used."""
        try:
            config = self._read()
        except click.ClickException as error:
            _log.error("the file is not taken", reason=error.message)
            return
        if config.metrics != self._config.metrics:
            _log.warning("another address for metrics is used from the next start on")
        self._config = config
        tunnels.apply(config.tunnels)
        _log.info("read again", tunnels=len(config.tunnels))


def _load(path: Path) -> ClientConfig:
    try:
        return load(path)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def _given(secret: bytes, remotes: Sequence[HostPort], options: ClientOptions) -> ClientConfig:
    """What the flags ask for."""
    if not remotes:
        raise click.UsageError("no gateway: give --remote HOST:PORT or set TRC_REMOTE")
    if options.local is None and options.local_tls is None:
        raise click.UsageError("no service: give --local HOST:PORT or set TRC_LOCAL")
    options = replace(options, secret=secret)
    return ClientConfig([ConfiguredTunnel("", remote, options) for remote in remotes], "", [])


def _secret(given: str | None, path: Path | None) -> bytes:
    if (given is None) == (path is None):
        raise click.UsageError("give the secret once: --secret-file, --secret, TRC_SECRET_FILE or TRC_SECRET")
    try:
        if path is not None:
            return read_secret(path, "--secret-file")
        secret = (given or "").encode()
        check_secret(secret, "--secret")
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    return secret


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return tls_context(ca, "--ca")
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def _stamps(files: Sequence[Path]) -> list[tuple[int, int, int] | None]:
    """By which a change of a file is seen; None: it is not there."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            state = file.stat()
        except OSError:
            found.append(None)
        else:
            found.append((state.st_mtime_ns, state.st_size, state.st_ino))
    return found


def _shown() -> Live:
    return Live(table([]), console=Console(), auto_refresh=False, transient=False)


def _use_all_descriptors() -> None:
    """Raise the soft limit to the hard one: each visitor takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
