"""Common parts of all commands of ``tfgateway reserve``: account, explorer, and output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfgateway.errors import ConfigError
from tfgateway.explorer import wire
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.user import Account
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.telemetry.text import printable

_T = TypeVar("_T")
_RETRIES = 2


@dataclass(frozen=True, slots=True)
class ReserveOptions:
    """The options that all subcommands share."""

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
        """Run ``work`` and return its result; its calls are signed by ``account``."""

        async def main() -> _T:
            identity, key_id = (account.identity, str(account.tid)) if account else (None, "")
            async with ExplorerClient(self.url, identity=identity, key_id=key_id, retries=_RETRIES) as client:
                return await work(client)

        return asyncio.run(main())


as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


def show(as_json: bool, data: object, human: str | Table) -> None:
    """Print ``data`` as JSON, or ``human``."""
    if as_json:
        click.echo(wire.encode(data))
    elif isinstance(human, str):
        click.echo(human)
    else:
        # A pipe has no width of its own, and a cut name is no name.
        Console(width=None if sys.stdout.isatty() else 250).print(human)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table for people; cells that are not ``Text`` are untrusted and made printable."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return made
