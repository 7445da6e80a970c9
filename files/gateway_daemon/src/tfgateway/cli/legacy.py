"""``tfgateway former``: how the settings of this node differ from those of the old programs on the same host."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfgateway.cli.context import load_settings
from tfgateway.legacy import host
from tfgateway.legacy.compare import Item, compare
from tfgateway.telemetry.text import printable


@click.command("former")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Compare the settings with the flags, Corefile and router.toml of the old coredns, tcprouter and tfgateway.

    To be run before a cutover, while the old programs run. Exit code 0 also when something differs.
    """
    settings = load_settings(ctx)
    found = asyncio.run(host.look())
    items = compare(
        settings, flags=found.flags, corefile=found.corefile, router=found.router, router_path=str(host.ROUTER)
    )
    if as_json:
        click.echo(json.dumps(_data(found, items), indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("setting", "old", "ours"):
        table.add_column(title)
    for item in items:
        colour = "" if item.same else "yellow"
        table.add_row(item.key, *(Text(printable(_shown(value)), style=colour) for value in (item.old, item.new)))
    console = Console(width=None if sys.stdout.isatty() else 250)
    console.print(table)
    for problem in found.problems:
        console.print(Text(f"note: {problem}", style="yellow"))
    different = sum(not item.same for item in items)
    console.print(f"{different} of {len(items)} settings differ")


def _data(found: host.Found, items: tuple[Item, ...]) -> dict[str, Any]:
    return {
        "found": {
            "tfgateway": found.flags is not None,
            "coredns": found.corefile is not None,
            "tcprouter": found.router is not None,
        },
        "settings": [{"key": item.key, "old": item.old, "new": item.new, "same": item.same} for item in items],
        "problems": list(found.problems),
    }


def _shown(value: object) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
