"""``tfgateway reserve``: a user's reservations. Needs no ``gateway.toml``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfgateway.cli.context import EXIT_FAILED
from tfgateway.errors import ConfigError, ExplorerError, ExplorerRefused
from tfgateway.explorer import user, wire
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import DomainDelegate, Proxy, Subdomain, Undecodable, Workload, gwid
from tfgateway.explorer.user import Account, Status
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.telemetry.text import printable

_T = TypeVar("_T")
_NOT_FOUND = 404
_RETRIES = 2
_COLOURS = {Status.DEPLOYED: "green", Status.FAILED: "red", Status.PENDING: "yellow"}


@dataclass(frozen=True, slots=True)
class _Target:
    """What all subcommands work with."""

    url: str
    seed: Path | None

    def identity(self) -> Identity:
        return Identity.from_seed(self._file().seed)

    def account(self) -> Account:
        content = self._file()
        if content.tid is None:
            raise ConfigError(
                f"{self.seed}: has no tid; `tfgateway reserve register --output FILE` writes one that has"
            )
        return Account(Identity.from_seed(content.seed), content.tid)

    def _file(self) -> seedfile.SeedFile:
        if self.seed is None:
            raise ConfigError("name your seed file with --seed or TFGATEWAY_SEED")
        return seedfile.load(self.seed)

    def run(self, work: Callable[[ExplorerClient], Awaitable[_T]], account: Account | None = None) -> _T:
        """What ``work`` returns; its calls are signed by ``account``."""

        async def main() -> _T:
            identity, key_id = (account.identity, str(account.tid)) if account else (None, "")
            async with ExplorerClient(self.url, identity=identity, key_id=key_id, retries=_RETRIES) as client:
                return await work(client)

        return asyncio.run(main())


_as_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


def _show(as_json: bool, data: object, human: str | Table) -> None:
    if as_json:
        click.echo(wire.encode(data))
    elif isinstance(human, str):
        click.echo(human)
    else:
        # A pipe has no width of its own, and a cut name is no name.
        Console(width=None if sys.stdout.isatty() else 250).print(human)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return table


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
    ctx.obj = _Target(explorer, seed)


@command.command()
@click.option("--name", required=True)
@click.option("--email", required=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a new seed file with the tid here. Without --seed a new key is made.",
)
@_as_json
@click.pass_obj
def register(target: _Target, name: str, email: str, output: Path | None, as_json: bool) -> None:
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
    _show(as_json, data, f"registered {printable(created.name)} with tid {created.id}")


def _new_identity(output: Path) -> Identity:
    """A new key, on disk before the explorer knows it: when the answer is lost, the next attempt uses it again."""
    kept = _unregistered(output)
    if not kept.exists():
        seedfile.create(kept, seedfile.generate_seed())
    return Identity.from_seed(seedfile.load(kept).seed)


def _unregistered(output: Path) -> Path:
    return output.with_name(f"{output.name}.unregistered")


@command.command()
@click.option("--name", required=True)
@click.option("--wallet", default="none", show_default=True, help="Where it is paid; an own fleet needs none.")
@_as_json
@click.pass_obj
def farm(target: _Target, name: str, wallet: str, as_json: bool) -> None:
    """Create a farm, needed to run gateways of your own; doing it again is harmless."""
    account = target.account()
    number = target.run(lambda client: user.farm(client, account.tid, name, wallet), account)
    _show(as_json, {"id": number}, f"farm {printable(name)} has id {number}")


@command.command()
@_as_json
@click.pass_obj
def gateways(target: _Target, as_json: bool) -> None:
    """List the gateways of the grid."""
    found = target.run(lambda client: client.gateways())
    rows = [
        (entry.node_id, str(entry.farm_id), " ".join(entry.managed_domains), " ".join(entry.dns_nameserver))
        for entry in found
    ]
    _show(as_json, found, _table(("node id", "farm", "managed domains", "name servers"), rows))


@command.command()
@click.option("--node", "nodes", multiple=True, required=True, metavar="ID", help="Gateway; repeatable.")
@_as_json
@click.pass_obj
def pool(target: _Target, nodes: tuple[str, ...], as_json: bool) -> None:
    """Create a pool for gateways of one farm."""
    account = target.account()
    number = target.run(lambda client: user.create_pool(client, account.tid, nodes), account)
    _show(as_json, {"id": number}, f"pool {number}")


@command.group()
def create() -> None:
    """Reserve something; see the types below."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A reservable type: its options are named after the model's members unless they say otherwise."""

    model: type[Workload]
    help: str
    options: tuple[click.Option, ...]


_PORT = click.IntRange(0, 65535)


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
}


def _creator(name: str, kind: _Kind) -> click.Command:
    @_as_json
    @click.option("--description", default="", help="For yourself.")
    @click.option("--pool", "pool_id", type=click.IntRange(min=1), help="[default: found, or created]")
    @click.option("--node", "node_id", required=True, metavar="ID", help="The gateway.")
    @click.pass_obj
    def create_one(
        target: _Target, /, node_id: str, pool_id: int | None, description: str, as_json: bool, **members: Any
    ) -> None:
        account = target.account()
        wanted = kind.model(node_id=node_id, pool_id=pool_id or 0, description=description, **members)
        made = target.run(lambda client: user.reserve(client, account, wanted), account)
        _show(as_json, {"id": made.id, "gwid": gwid(made), "pool": made.pool_id}, f"reserved {name} with id {made.id}")

    built = click.command(name, help=kind.help, short_help=kind.help)(create_one)
    built.params = [*kind.options, *built.params]
    return built


for _name, _kind in _KINDS.items():
    create.add_command(_creator(_name, _kind))


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Deleted ones too.")
@_as_json
@click.pass_obj
def list_(target: _Target, everything: bool, as_json: bool) -> None:
    """List your reservations."""
    account = target.account()
    found = target.run(lambda client: client.list_workloads(customer_tid=account.tid))
    lines = [_summary(workload) for workload in found]
    _report(as_json, [line for line in lines if everything or line["status"] != Status.DELETED])


@command.command()
@click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1))
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds.")
@_as_json
@click.pass_obj
def wait(target: _Target, ids: tuple[int, ...], timeout: float, as_json: bool) -> None:
    """Wait until reservations are deployed or failed; exit code 1 unless all are deployed."""

    async def work(client: ExplorerClient) -> list[Workload | BaseException]:
        return await asyncio.gather(*(user.settled(client, number, timeout) for number in ids), return_exceptions=True)

    lines, failures = [], {}
    for number, found in zip(ids, target.run(work), strict=True):
        if isinstance(found, ExplorerError):
            failures[number] = _words(found)
        elif isinstance(found, BaseException):
            raise found
        else:
            lines.append(line := _summary(found))
            if line["status"] == Status.PENDING:
                failures[number] = f"pending: no answer from the gateway in {timeout:g} s"
            elif line["status"] != Status.DEPLOYED:
                failures[number] = f"{line['status']}: {line['message']}".rstrip(": ")
    _report(as_json, lines)
    _fail_for(failures)


@command.command()
@click.argument("ids", nargs=-1, required=True, type=click.IntRange(min=1))
@_as_json
@click.pass_obj
def delete(target: _Target, ids: tuple[int, ...], as_json: bool) -> None:
    """Delete reservations; one that cannot be deleted does not keep the others."""
    account = target.account()

    async def work(client: ExplorerClient) -> dict[int, str]:
        failures: dict[int, str] = {}
        for number in ids:
            try:
                await user.delete(client, account, number)
            except ExplorerError as error:
                failures[number] = _words(error)
        return failures

    failures = target.run(work, account)
    data = [{"id": number, "error": failures.get(number)} for number in ids]
    _show(as_json, data, "\n".join(f"deletion of {number} signed" for number in ids if number not in failures))
    _fail_for(failures)


def _words(error: ExplorerError) -> str:
    missing = isinstance(error, ExplorerRefused) and error.status == _NOT_FOUND
    return "the explorer does not know it" if missing else str(error)


def _fail_for(failures: Mapping[int, str]) -> None:
    """One line for each reservation that did not become what was asked, and exit code 1 if there is any."""
    for number, reason in failures.items():
        click.echo(f"tfgateway: error: reservation {number}: {printable(reason, 1000)}", err=True)
    if failures:
        sys.exit(EXIT_FAILED)


def _report(as_json: bool, lines: Sequence[dict[str, Any]]) -> None:
    rows = [
        (str(line["id"]), line["type"], line["domain"], line["node_id"], _coloured(line["status"]), line["message"])
        for line in lines
    ]
    _show(as_json, lines, _table(("id", "type", "domain", "gateway", "status", "message"), rows))


def _summary(workload: Workload | Undecodable) -> dict[str, Any]:
    if isinstance(workload, Undecodable):
        unknown = {"type": str(workload.type), "domain": "", "node_id": "", "status": Status.FAILED.value}
        return {"id": workload.id, "gwid": workload.gwid, **unknown, "message": workload.reason}
    state, message = user.status(workload)
    return {
        "id": workload.id,
        "gwid": gwid(workload),
        "type": workload.type_name,
        "domain": getattr(workload, "domain", ""),
        "node_id": workload.node_id,
        "status": state.value,
        "message": message,
    }


def _coloured(state: str) -> Text:
    return Text(state, style=_COLOURS.get(Status(state), ""))
