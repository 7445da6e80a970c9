"""``python -m demo``: the demo itself, and the fleet commands that molecule uses."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from demo import fleet, image, inventory
from demo.errors import DemoError
from demo.paths import CACHE


@click.group()
def main() -> None:
    """The local fleet of gateways in containers."""


@main.group("fleet")
def fleet_group() -> None:
    """A fleet described by FILE, without the demo's reservations."""


@fleet_group.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def nodes(file: Path) -> None:
    """Build the node image if it is missing, boot the nodes, write the inventory."""
    wanted = fleet.load(file)
    log = CACHE / "image.log"
    image.ensure(log)
    fleet.create_network(wanted)
    fleet.start_nodes(wanted)
    inventory.write(wanted)
    click.echo(f"{len(wanted.nodes)} nodes are up; inventory: {wanted.directory / 'inventory.yml'}")


@fleet_group.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def remove(file: Path) -> None:
    """Remove containers, network and state."""
    fleet.remove(fleet.load(file))


if __name__ == "__main__":
    try:
        main()
    except DemoError as error:
        click.echo(f"demo: {error}", err=True)
        if error.log:
            click.echo(f"demo: log: {error.log}", err=True)
        sys.exit(1)
