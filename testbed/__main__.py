"""``python -m testbed``: starts and removes the fleet of a molecule scenario."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from testbed import assembly, inventory
from testbed.containers import fleet
from testbed.errors import exit_code
from testbed.progress import Progress

_FILE = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.group()
def main() -> None:
    """A fleet in containers, described by FILE."""


@main.command()
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


@main.command()
@_FILE
def destroy(file: Path) -> None:
    """Remove containers, network and state; repeatable."""
    fleet.remove(fleet.load(file))


if __name__ == "__main__":
    sys.exit(exit_code(main, "testbed"))
