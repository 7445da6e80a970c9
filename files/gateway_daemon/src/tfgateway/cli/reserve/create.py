"""``tfgateway reserve create``: one command a type of reservation."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tfgateway.cli.reserve.target import ReserveOptions, as_json_option, show
from tfgateway.errors import ConfigError, CryptoError
from tfgateway.explorer import user, wireguard
from tfgateway.explorer.models import DomainDelegate, Gateway4To6, Proxy, ReverseProxy, Subdomain, Workload, gwid
from tfgateway.explorer.user import Account
from tfgateway.identity import private_files

_PORT = click.IntRange(0, 65535)
_FILE = click.Path(path_type=Path, dir_okay=False)
_Members = dict[str, Any]


@click.group()
def create() -> None:
    """Reserve something; see the types below."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A reservable type. ``members`` makes the model's members from the options' values, when they differ."""

    model: type[Workload]
    help: str
    options: tuple[click.Option, ...]
    members: Callable[[Account, str, _Members], _Members] = lambda _account, _node_id, options: options


def _with_secret(account: Account, node_id: str, options: _Members) -> _Members:
    """Encrypt the secret of the tunnel client for the gateway; it leaves this machine in no other form."""
    path: Path = options["secret_file"]
    secret = private_files.read_or_create(path, lambda: f"{account.tid}:{secrets.token_urlsafe(32)}")
    if not secret.startswith(f"{account.tid}:"):
        raise ConfigError(f"{path}: a tunnel's secret of yours begins with '{account.tid}:'")
    return {"domain": options["domain"], "secret": user.encrypted_secret(account, node_id, secret)}


def _with_public_key(_account: Account, _node_id: str, options: _Members) -> _Members:
    path: Path | None = options["key_file"]
    if (path is None) == (options["public_key"] is None):
        raise click.UsageError("name --public-key or --key-file")
    if path is None:
        return {"public_key": options["public_key"]}
    try:
        return {"public_key": wireguard.public_key(private_files.read_or_create(path, wireguard.generate_private_key))}
    except CryptoError as error:
        raise ConfigError(f"{path}: {error}") from error


_KINDS = {
    "subdomain": _Kind(
        Subdomain,
        "Address records for a name in a managed or delegated domain.",
        (
            click.Option(["--domain"], required=True, help="The whole name."),
            click.Option(["--ip", "ips"], multiple=True, required=True, help="IPv4 or IPv6; repeatable."),
        ),
    ),
    "delegate": _Kind(
        DomainDelegate,
        "Have the gateway serve a domain of yours.",
        (click.Option(["--domain"], required=True, help="The domain."),),
    ),
    "proxy": _Kind(
        Proxy,
        "Have the gateway proxy HTTP and TLS of a name to an address.",
        (
            click.Option(["--domain"], required=True, help="The name."),
            click.Option(["--addr"], required=True, help="IP address of your server."),
            click.Option(["--port"], type=_PORT, default=80, show_default=True, help="Its HTTP port."),
            click.Option(["--port-tls"], type=_PORT, default=443, show_default=True, help="Its TLS port."),
        ),
    ),
    "reverse-proxy": _Kind(
        ReverseProxy,
        "Have the gateway proxy HTTP and TLS of a name into a tunnel that your server opens.",
        (
            click.Option(["--domain"], required=True, help="The name."),
            click.Option(
                ["--secret-file"],
                type=_FILE,
                required=True,
                help="Holds the tunnel's secret, which your tunnel client needs; made when absent. Names with one"
                " secret share one tunnel.",
            ),
        ),
        _with_secret,
    ),
    "4to6": _Kind(
        Gateway4To6,
        "Have the gateway give you an IPv6 address over WireGuard; see `wireguard` for the configuration.",
        (
            click.Option(["--public-key"], metavar="BASE64", help="Of a WireGuard key of yours."),
            click.Option(["--key-file"], type=_FILE, help="Holds your private WireGuard key; made when absent."),
        ),
        _with_public_key,
    ),
}


def _creator(name: str, kind: _Kind) -> click.Command:
    @as_json_option
    @click.option("--description", default="", help="For yourself.")
    @click.option("--pool", "pool_id", type=click.IntRange(min=1), help="[default: found, or created]")
    @click.option("--node", "node_id", required=True, metavar="ID", help="The gateway.")
    @click.pass_obj
    def create_one(
        target: ReserveOptions, /, node_id: str, pool_id: int | None, description: str, as_json: bool, **options: Any
    ) -> None:
        account = target.account()
        own = kind.members(account, node_id, options)
        wanted = kind.model(node_id=node_id, pool_id=pool_id or 0, description=description, **own)
        made = target.run(lambda client: user.reserve(client, account, wanted), account)
        show(as_json, {"id": made.id, "gwid": gwid(made), "pool": made.pool_id}, f"reserved {name} with id {made.id}")

    built = click.command(name, help=kind.help, short_help=kind.help)(create_one)
    built.params = [*kind.options, *built.params]
    return built


for _name, _kind in _KINDS.items():
    create.add_command(_creator(_name, _kind))
