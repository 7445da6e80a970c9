"""``python -m demo``: the demo itself, and the fleet commands that molecule uses."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from demo import assembly, fleet, inventory
from demo.errors import DemoError
from demo.progress import Progress

_FILE = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.group()
def main() -> None:
    """The local fleet of gateways in containers."""


@main.group("fleet")
def fleet_group() -> None:
    """A fleet described by FILE, without the demo's reservations."""


@fleet_group.command()
@_FILE
@click.option("--nodes-only", is_flag=True, help="Neither explorer nor web server: only fresh hosts, for trying roles.")
def create(file: Path, nodes_only: bool) -> None:
    """Start what does not run yet and write the inventory; repeatable."""
    wanted = fleet.load(file)
    progress = Progress(Console(), wanted.directory / "logs")
    assembly.nodes(wanted, progress)
    if nodes_only:
        inventory.write(wanted, None)
    else:
        assembly.services(wanted, progress)


@fleet_group.command()
@_FILE
def destroy(file: Path) -> None:
    """Remove containers, network and state; repeatable."""
    fleet.remove(fleet.load(file))


def _fail(error: DemoError) -> None:
    click.echo(f"demo: {error}", err=True)
    if error.log:
        click.echo(f"demo: all of it is in {error.log}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except DemoError as failure:
        _fail(failure)
