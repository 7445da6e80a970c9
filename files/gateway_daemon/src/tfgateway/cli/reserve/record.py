"""``tfgateway reserve record``: single records by DNS updates, without another client."""

from __future__ import annotations

import click

from tfgateway.cli.reserve.dns_key import server_of, server_option
from tfgateway.cli.reserve.target import ReserveOptions, as_json_option, show, table
from tfgateway.cli.reserve.update_client import TYPES, Line, UpdateClient, name_of, records_of
from tfgateway.explorer import user

_COLUMNS = ("name", "ttl", "type", "data")
_node_option = click.option("--node", "node_id", required=True, metavar="ID", help="The gateway.")
_check_option = click.option("--check", is_flag=True, help="Say what would be there, and change nothing.")
_TYPE = click.Choice(TYPES, case_sensitive=False)


@click.group()
def record() -> None:
    """Add, remove and list records of names that you hold, by DNS updates."""


@record.command()
@_node_option
@click.argument("name")
@click.argument("kind", metavar="TYPE", type=_TYPE)
@click.argument("data", nargs=-1, required=True)
@click.option("--ttl", type=click.IntRange(0, 2**31 - 1), default=300, show_default=True, help="Seconds.")
@click.option("--replace", is_flag=True, help="Instead of all other records of this name and type.")
@_check_option
@server_option
@as_json_option
@click.pass_obj
def add(
    target: ReserveOptions,
    node_id: str,
    name: str,
    kind: str,
    data: tuple[str, ...],
    *,
    ttl: int,
    replace: bool,
    check: bool,
    server: str | None,
    as_json: bool,
) -> None:
    """Add records: DATA as in a zone file, such as '10 mail.example.org.' or '"text"'.

    A longer TTL alone is no change: the gateway serves what it is given at most for so long as its operator allows.
    """
    owner, wanted = name_of(name), records_of(kind, data)
    client = _client(target, node_id, server)
    before = client.at(owner, (kind,))
    there = {line["data"] for line in before}
    texts = list(dict.fromkeys(item.to_text() for item in wanted))
    changed = any(line["ttl"] > ttl for line in before if isinstance(line["ttl"], int))
    changed |= not client.is_exactly(owner, kind, wanted) if replace else not there.issuperset(texts)
    kept = [] if replace else [line for line in before if line["data"] not in texts]
    shown = owner.to_text(omit_final_dot=True)
    after = [*kept, *({"name": shown, "type": kind, "ttl": ttl, "data": text} for text in texts)]
    if changed and not check:
        client.add(owner, ttl, wanted, replace=replace)
    _show(as_json, before, after if changed else before, changed=changed)


@record.command()
@_node_option
@click.argument("name")
@click.argument("kind", metavar="[TYPE", type=_TYPE, required=False)
@click.argument("data", metavar="[DATA...]]", nargs=-1)
@_check_option
@server_option
@as_json_option
@click.pass_obj
def remove(
    target: ReserveOptions,
    node_id: str,
    name: str,
    kind: str | None,
    data: tuple[str, ...],
    *,
    check: bool,
    server: str | None,
    as_json: bool,
) -> None:
    """Remove records: those with this data, all of the type, or all of the name."""
    owner, unwanted = name_of(name), records_of(kind, data) if kind else []
    client = _client(target, node_id, server)
    before = client.at(owner, (kind,) if kind else TYPES)
    texts = {item.to_text() for item in unwanted}
    after = [line for line in before if texts and line["data"] not in texts]
    changed = after != before
    if changed and not check:
        client.remove(owner, kind or "", unwanted)
    _show(as_json, before, after, changed=changed)


@record.command("list")
@_node_option
@click.argument("domain")
@server_option
@as_json_option
@click.pass_obj
def list_(target: ReserveOptions, node_id: str, domain: str, *, server: str | None, as_json: bool) -> None:
    """List the records of a domain that you delegated, or of a subdomain and its ACME challenges."""
    lines = _client(target, node_id, server).within(name_of(domain))
    rows = [[str(line[column]) for column in _COLUMNS] for line in lines]
    show(as_json, lines, table(_COLUMNS, rows))


def _client(target: ReserveOptions, node_id: str, server: str | None) -> UpdateClient:
    name, secret = user.dns_key(target.account(), node_id)
    return UpdateClient(name, secret, *server_of(target, node_id, server))


def _show(as_json: bool, before: list[Line], after: list[Line], *, changed: bool) -> None:
    rows = [[str(line[column]) for column in _COLUMNS] for line in after]
    data = {"changed": changed, "before": before, "after": after}
    show(as_json, data, table(_COLUMNS, rows) if rows else "no records")
