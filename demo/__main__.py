"""``python -m demo``: the demo itself, and the fleet commands that molecule uses."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from demo import assembly, driver, fleet, inventory
from demo.errors import DemoError
from demo.paths import ROOT
from demo.progress import Progress

_TAIL = 40  # lines of a failed step's log that are shown

_FLEET = click.option(
    "--fleet",
    "fleet_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=ROOT / "demo" / "fleet.toml",
)
_FILE = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


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


def run() -> int:
    """Exit code: 0 done, 1 a step failed, 2 usage, 130 interrupted."""
    console = Console(stderr=True, soft_wrap=True)
    try:
        main(standalone_mode=False)
    except DemoError as error:
        if error.log and error.log.exists():
            end = error.log.read_text(errors="replace").splitlines()[-_TAIL:]
            console.print("\n".join(f"    | {line}" for line in end), markup=False, highlight=False)
            console.print(f"  all of it: {error.log}", markup=False, highlight=False)
        console.print(f"demo: {error}", markup=False, highlight=False, style="red")
        return 1
    except (KeyboardInterrupt, click.Abort):
        console.print("demo: interrupted; `make demo` goes on from here, `make demo-down` removes what is there")
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(run())
