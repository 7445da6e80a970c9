"""``python -m demo``: what ``make demo`` and ``make demo-down`` run."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from demo import driver
from testbed.containers import fleet
from testbed.errors import exit_code
from testbed.paths import ROOT

_FLEET = click.option(
    "--fleet",
    "fleet_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=ROOT / "demo" / "fleet.toml",
)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)


@click.group()
def main() -> None:
    """The local fleet of gateways in containers."""


@main.command()
@_FLEET
def up(fleet_file: Path) -> None:
    """The demo: fleet, site.yml, reservations, proof."""
    driver.up(fleet.load(fleet_file), _console())


@main.command()
@_FLEET
def down(fleet_file: Path) -> None:
    """Remove all that the demo made."""
    driver.down(fleet.load(fleet_file), _console())


if __name__ == "__main__":
    interrupted = "`make demo` goes on from here, `make demo-down` removes what is there"
    sys.exit(exit_code(main, "demo", interrupted))
