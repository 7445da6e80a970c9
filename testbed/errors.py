"""The one error of test bed and demo: what is wrong and what to do, in one line for a person; and how it is shown."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

_TAIL = 40  # lines of a failed step's log that are shown


class FleetError(Exception):
    """A step could not be done. ``log``: a file whose end says more."""

    def __init__(self, message: str, *, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


def exit_code(command: click.Command, name: str, interrupted: str = "run it again to go on") -> int:
    """Run a command line: 0 done, 1 a step failed, 2 usage, 130 interrupted."""
    console = Console(stderr=True, soft_wrap=True)
    try:
        command(standalone_mode=False)
    except FleetError as error:
        if error.log and error.log.exists():
            end = error.log.read_text(errors="replace").splitlines()[-_TAIL:]
            console.print("\n".join(f"    | {line}" for line in end), markup=False, highlight=False)
            console.print(f"  all of it: {error.log}", markup=False, highlight=False)
        console.print(f"{name}: {error}", markup=False, highlight=False, style="red")
        return 1
    except (KeyboardInterrupt, click.Abort):
        console.print(f"{name}: interrupted; {interrupted}")
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0
