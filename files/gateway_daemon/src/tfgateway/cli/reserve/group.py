"""``tfgateway reserve``: a user's reservations. Needs no ``gateway.toml``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from tfgateway.cli.context import EXIT_FAILED
from tfgateway.cli.reserve.create import create
from tfgateway.cli.reserve.dns_key import dns_key
from tfgateway.cli.reserve.farm import farm
from tfgateway.cli.reserve.proof import proof
from tfgateway.cli.reserve.record import record
from tfgateway.cli.reserve.target import ReserveOptions, as_json_option, show, table
from tfgateway.errors import ConfigError, ExplorerError, ExplorerRefused
from tfgateway.explorer import user, wireguard
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Gateway4To6, Subdomain, Undecodable, Workload, gwid
from tfgateway.explorer.user import Account, WorkloadStatus
from tfgateway.identity import private_files, seedfile
from tfgateway.identity.keys import Identity
from tfgateway.telemetry.text import printable

_NOT_FOUND = 404
_SHOWN = 20
"""Reservations that are named before a deletion."""
_OWN_MEMBERS = ("ips", "addr", "port", "port_tls", "public_key")
"""Of the types, as far as they are to be seen: a tunnel's secret is not."""
_COLOURS = {WorkloadStatus.DEPLOYED: "green", WorkloadStatus.FAILED: "red", WorkloadStatus.PENDING: "yellow"}


@click.group("reserve")
@click.option("--explorer", envvar="TFGATEWAY_EXPLORER", required=True, metavar="URL", help="The explorer.")
@click.option(
    "--seed",
    envvar="TFGATEWAY_SEED",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your seed file, which has your words and your tid.",
)
@click.pass_context
def command(ctx: click.Context, explorer: str, seed: Path | None) -> None:
    """Reserve names and proxies on gateways, as a user of the grid."""
    ctx.obj = ReserveOptions(explorer, seed)


@command.command()
@click.option("--name", required=True)
@click.option("--email", required=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a new seed file with the tid here. Without --seed a new key is made.",
)
@as_json_option
@click.pass_obj
def register(target: ReserveOptions, name: str, email: str, output: Path | None, as_json: bool) -> None:
    """Register yourself at the explorer; doing it again with the same key is harmless."""
    if target.seed is None and output is None:
        raise ConfigError("name your seed file with --seed, or where to write a new one with --output")
    if output is not None and output.exists():
        raise ConfigError(f"{output}: exists already and is not overwritten")
    identity = target.identity() if output is None or target.seed else _new_identity(output)
    created = target.run(lambda client: user.register(client, identity, name, email))
    if output is not None:
        seedfile.create(output, identity.seed, tid=created.id)
        _unregistered(output).unlink(missing_ok=True)
    data = {"tid": created.id, "name": created.name, "seed_file": str(output) if output else None}
    show(as_json, data, f"registered {printable(created.name)} with tid {created.id}")


def _new_identity(output: Path) -> Identity:
    """A new key, on disk before the explorer knows it, so that another attempt uses it when the answer is lost."""
    kept = _unregistered(output)
    if not kept.exists():
        seedfile.create(kept, seedfile.generate_seed())
    return Identity.from_seed(seedfile.load(kept).seed)


def _unregistered(output: Path) -> Path:
    return output.with_name(f"{output.name}.unregistered")


@command.command()
@click.option("--farm", "farm_id", type=click.IntRange(min=1), metavar="ID", help="Only those of this farm.")
@click.option("--country", default="", help="Only those that stand there.")
@click.option("--city", default="", help="Only those that stand there.")
@as_json_option
@click.pass_obj
def gateways(target: ReserveOptions, farm_id: int | None, country: str, city: str, as_json: bool) -> None:
    """List the gateways of the grid."""
    found = target.run(lambda client: client.gateways(farm_id=farm_id, country=country, city=city))
    rows = [
        (entry.node_id, str(entry.farm_id), " ".join(entry.managed_domains), " ".join(entry.dns_nameserver))
        for entry in found
    ]
    show(as_json, found, table(("node id", "farm", "managed domains", "name servers"), rows))


@command.command()
@click.option("--node", "nodes", multiple=True, required=True, metavar="ID", help="Gateway; repeatable.")
@as_json_option
@click.pass_obj
def pool(target: ReserveOptions, nodes: tuple[str, ...], as_json: bool) -> None:
    """Create a pool for gateways of one farm."""
    account = target.account()
    number = target.run(lambda client: user.create_pool(client, account.tid, nodes), account)
    show(as_json, {"id": number}, f"pool {number}")


command.add_command(create)
command.add_command(dns_key)
command.add_command(farm)
command.add_command(proof)
command.add_command(record)


@command.command()
@as_json_option
@click.pass_obj
def pin(target: ReserveOptions, as_json: bool) -> None:
    """Have the explorer accept only signatures of yours that are good for one request, as this release makes them."""
    _pin(target, as_json, pin=True)


@command.command()
@as_json_option
@click.pass_obj
def unpin(target: ReserveOptions, as_json: bool) -> None:
    """Have the explorer accept requests of yours as old clients sign them again."""
    _pin(target, as_json, pin=False)


def _pin(target: ReserveOptions, as_json: bool, *, pin: bool) -> None:
    account = target.account()
    target.run(lambda client: client.pin_user(account.tid, pin=pin), account)
    accepted = "only signatures that are good for one request" if pin else "signatures of old clients too"
    show(as_json, {"tid": account.tid, "pinned": pin}, f"the explorer accepts {accepted}")


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Deleted ones too.")
@as_json_option
@click.pass_obj
def list_(target: ReserveOptions, everything: bool, as_json: bool) -> None:
    """List your reservations."""
    account = target.account()
    found = target.run(lambda client: client.list_workloads(customer_tid=account.tid))
    lines = [_summary(workload) for workload in found]
    _report(as_json, [line for line in lines if everything or line["status"] != WorkloadStatus.DELETED])


@command.command()
@click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1))
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds.")
@as_json_option
@click.pass_obj
def wait(target: ReserveOptions, ids: tuple[int, ...], timeout: float, as_json: bool) -> None:
    """Wait until reservations are deployed or failed; exit code 1 unless all are deployed."""

    async def work(client: ExplorerClient) -> list[Workload | BaseException]:
        return await asyncio.gather(
            *(user.wait_for_outcome(client, number, timeout) for number in ids), return_exceptions=True
        )

    lines, failures = [], {}
    for number, found in zip(ids, target.run(work), strict=True):
        if isinstance(found, ExplorerError):
            failures[number] = _words(found)
        elif isinstance(found, BaseException):
            raise found
        else:
            lines.append(line := _summary(found))
            if line["status"] == WorkloadStatus.PENDING:
                failures[number] = f"pending: no answer from the gateway in {timeout:g} s"
            elif line["status"] != WorkloadStatus.DEPLOYED:
                failures[number] = f"{line['status']}: {line['message']}".rstrip(": ")
    _report(as_json, lines)
    _fail_for(failures)


@command.command("wireguard")
@click.argument("id_", metavar="ID", type=click.IntRange(min=1))
@click.option(
    "--key-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Holds your private WireGuard key."
)
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to wait.")
@click.pass_obj
def wireguard_(target: ReserveOptions, id_: int, key_file: Path | None, timeout: float) -> None:
    """Print the configuration (for wg-quick) of a 4to6 reservation, once the gateway has answered.

    With --key-file it holds your private key: keep it to yourself.
    """
    key = private_files.read(key_file) if key_file is not None else None
    found = target.run(lambda client: user.wait_for_outcome(client, id_, timeout))
    state, message = user.status(found)
    if not isinstance(found, Gateway4To6):
        raise ConfigError(f"reservation {id_} is a {printable(found.type_name)}, not a 4to6")
    if state is not WorkloadStatus.DEPLOYED:
        _fail_for({id_: f"{state}: {message or 'no answer from the gateway'}"})
    if key is not None and wireguard.public_key(key) != found.public_key:
        raise ConfigError(f"{key_file}: is not the key of reservation {id_}, which is {printable(found.public_key)}")
    click.echo(wireguard.wg_quick(wireguard.parse_tunnel(found.result.data_json), key), nl=False)


@command.command()
@click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1))
@as_json_option
@click.pass_obj
def sign(target: ReserveOptions, ids: tuple[int, ...], as_json: bool) -> None:
    """Agree to reservations, yours or others', that wait for your signature before they are deployed.

    One that cannot be signed does not keep the others.
    """
    _sign_each(target, ids, "agreement to", user.provision, as_json)


@command.command()
@click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1))
@click.option(
    "--yes", is_flag=True, envvar="TFGATEWAY_YES", help="Do not ask, whatever loses its zone with a delegated domain."
)
@as_json_option
@click.pass_obj
def delete(target: ReserveOptions, ids: tuple[int, ...], *, yes: bool, as_json: bool) -> None:
    """Delete reservations; one that cannot be deleted does not keep the others.

    Names what loses its zone with a delegated domain, and asks; without a terminal that takes --yes (exit code 2).
    """
    _confirm(target, ids, yes=yes, may_ask=not as_json and sys.stdin.isatty())
    _sign_each(target, ids, "deletion of", user.delete, as_json)


def _confirm(target: ReserveOptions, ids: tuple[int, ...], *, yes: bool, may_ask: bool) -> None:
    """Ask before other reservations end too. Errors: ``ConfigError``: nobody can be asked."""
    account = target.account()
    mine = target.run(lambda client: client.list_workloads(customer_tid=account.tid))
    known = [workload for workload in mine if isinstance(workload, Workload)]
    found = user.dependents(ids, known)
    for number, children in found.items():
        zone = next(getattr(workload, "domain", "") for workload in known if workload.id == number)
        click.echo(
            f"{printable(zone)} goes with reservation {number}. Of what you have in it, on that gateway,", err=True
        )
        for child in children[:_SHOWN]:
            click.echo(
                f"  {child.id} {child.type_name} {printable(getattr(child, 'domain', ''))} {_fate(child)}", err=True
            )
        if len(children) > _SHOWN:
            click.echo(f"  ... and {len(children) - _SHOWN} more", err=True)
    if not found or yes:
        return
    if not may_ask:
        raise ConfigError("nothing was deleted: --yes deletes it all the same")
    click.confirm("Delete it all the same?", abort=True, err=True)


def _fate(child: Workload) -> str:
    if isinstance(child, Subdomain):
        return "is not served until the domain is delegated again, and refused when that takes too long"
    return "stays, but the gateway's DNS does not lead there any more"


def _sign_each(
    target: ReserveOptions,
    ids: tuple[int, ...],
    what: str,
    sign_one: Callable[[ExplorerClient, Account, int], Awaitable[None]],
    as_json: bool,
) -> None:
    account = target.account()

    async def work(client: ExplorerClient) -> dict[int, str]:
        failures: dict[int, str] = {}
        for number in ids:
            try:
                await sign_one(client, account, number)
            except ExplorerError as error:
                failures[number] = _words(error)
        return failures

    failures = target.run(work, account)
    data = [{"id": number, "error": failures.get(number)} for number in ids]
    show(as_json, data, "\n".join(f"{what} {number} signed" for number in ids if number not in failures))
    _fail_for(failures)


def _words(error: ExplorerError) -> str:
    missing = isinstance(error, ExplorerRefused) and error.status == _NOT_FOUND
    return "the explorer does not know it" if missing else str(error)


def _fail_for(failures: Mapping[int, str]) -> None:
    """Print a line for each reservation that failed; exit code 1 if there is any."""
    for number, reason in failures.items():
        click.echo(f"tfgateway: error: reservation {number}: {printable(reason, 1000)}", err=True)
    if failures:
        sys.exit(EXIT_FAILED)


def _report(as_json: bool, lines: Sequence[dict[str, Any]]) -> None:
    rows = [
        (str(line["id"]), line["type"], line["domain"], line["node_id"], _coloured(line["status"]), line["message"])
        for line in lines
    ]
    show(as_json, lines, table(("id", "type", "domain", "gateway", "status", "message"), rows))


def _summary(workload: Workload | Undecodable) -> dict[str, Any]:
    if isinstance(workload, Undecodable):
        unknown = {
            "type": str(workload.type),
            "domain": "",
            "node_id": "",
            "data": {},
            "status": WorkloadStatus.FAILED.value,
        }
        return {"id": workload.id, "gwid": workload.gwid, **unknown, "message": workload.reason}
    state, message = user.status(workload)
    return {
        "id": workload.id,
        "gwid": gwid(workload),
        "type": workload.type_name,
        "domain": getattr(workload, "domain", ""),
        "node_id": workload.node_id,
        "data": {name: getattr(workload, name) for name in _OWN_MEMBERS if hasattr(workload, name)},
        "status": state.value,
        "message": message,
    }


def _coloured(state: str) -> Text:
    return Text(state, style=_COLOURS.get(WorkloadStatus(state), ""))
