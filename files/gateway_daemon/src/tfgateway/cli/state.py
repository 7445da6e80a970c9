"""``tfgateway state``: what became of each reservation."""

from __future__ import annotations

import asyncio
import json
import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfgateway import machine
from tfgateway.cli.context import load_settings
from tfgateway.diagnosis.collect import GatewayState, collect
from tfgateway.instant import Instant
from tfgateway.reconciler.group import GroupState
from tfgateway.reconciler.status import ReconcilerStatus
from tfgateway.reconciler.verdict import Verdict
from tfgateway.telemetry.text import printable

_COLOURS = {
    Verdict.IN_SYNC: "green",
    Verdict.PENDING: "yellow",
    Verdict.UNREPORTED: "yellow",
    Verdict.TARGET_DOWN: "yellow",
}


@click.command("state")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Compare, for each reservation, what the explorer wants, what redis holds and what is really served.

    Exit code 0 when it could be found out, in sync or not; 1 when it could not.
    """
    found = asyncio.run(collect(load_settings(ctx)))
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        # A pipe has no width of its own, and a cut name is no name.
        _show(found, Console(width=None if sys.stdout.isatty() else 250))


def _show(found: GatewayState, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "type", "domain", "user", "verdict", "served", "message"):
        table.add_column(title)
    for one in found.reservations:
        served = {True: "yes", False: "no", None: "-"}[one.facts.served]
        texts = (one.reservation.id, one.reservation.type, one.reservation.domain, one.reservation.user)
        table.add_row(
            *(Text(printable(text)) for text in texts),
            Text(one.verdict, style=_COLOURS.get(one.verdict, "red")),
            served,
            Text(printable(one.message)),
        )
    if found.reservations:
        console.print(table)
    if found.targets:
        console.print(_targets(found))
    if found.updated:
        console.print(_updated(found))
    if found.status is not None:
        console.print(_reconciler(found.status, machine.now()))
    if found.group is not None:
        console.print(_group(found.group))
    for problem in found.problems:
        console.print(Text(f"problem: {problem}", style="red"))
    for note in found.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    counts = ", ".join(f"{count} {verdict}" for verdict, count in found.summary.items() if count)
    word = "in sync" if found.in_sync else "not in sync"
    console.print(
        Text(f"{found.node_id}: {word}: {len(found.reservations)} reservations{': ' if counts else ''}{counts}")
    )


def _targets(found: GatewayState) -> Table:
    """The targets of static services."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("static service", "target", "works", "connections"):
        table.add_column(title)
    for one in found.targets:
        works = Text("yes", style="green") if one.up else Text("no", style="red")
        table.add_row(Text(printable(one.service)), Text(printable(one.target)), works, str(one.connections))
    return table


def _updated(found: GatewayState) -> Table:
    """Names with records by DNS updates."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("records by updates", "types", "number"):
        table.add_column(title)
    for one in found.updated:
        table.add_row(Text(one.name), " ".join(one.types), str(one.records))
    return table


def _group(state: GroupState) -> Table:
    """Who leads, and where this member's redis stands."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("group led by", "master", "redis here", "behind", "Sentinels that agree"):
        table.add_column(title)
    lag = "not connected" if state.lag is None else f"{state.lag:.0f} s"
    texts = (printable(state.leader) or "nobody", state.master or "unknown", state.role or "does not answer", lag)
    table.add_row(*map(Text, texts), f"{state.agreeing} of {state.sentinels}")
    return table


def _reconciler(status: ReconcilerStatus, now: Instant) -> Table:
    """The reconciler's status; its last error is among the problems."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("last poll", "last success", "outbox", "drift repaired", "directory"):
        table.add_column(title)
    poll = f"{status.since_poll(now):.0f} s ago" if status.last_poll else "never"
    success = f"{status.since_success(now):.0f} s ago" if status.last_success else "never"
    table.add_row(poll, success, str(status.outbox), str(status.repaired), status.directory.state)
    return table
