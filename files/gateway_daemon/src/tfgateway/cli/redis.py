"""``tfgateway redis``: the operator decides whether the planes follow redis, by its marker."""

from __future__ import annotations

import asyncio
import secrets

import click

from tfgateway.cli.context import load_settings
from tfgateway.errors import StoreError
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction
from tfgateway.reconciler.session import load_identity, open_master
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.marker import ANY, Marker, encode_marker, read_marker
from tfgateway.settings import Settings


@click.group("redis")
def command() -> None:
    """Decide by hand whether the planes follow redis."""


@command.command("accept")
@click.pass_context
def accept(ctx: click.Context) -> None:
    """Make planes that hold their copy follow what redis holds now, at once.

    Also when redis is empty: then nothing is served.
    """
    asyncio.run(_write(load_settings(ctx), retired=False))
    click.echo("accepted: the planes follow redis")


@command.command("retire")
@click.pass_context
def retire(ctx: click.Context) -> None:
    """Leave redis to the old programs: planes follow whatever it holds, until the reconciler writes again."""
    asyncio.run(_write(load_settings(ctx), retired=True))
    click.echo("retired: the planes follow redis, whatever program writes it")


async def _write(settings: Settings, *, retired: bool) -> None:
    identity = load_identity(settings)
    async with open_master(settings) as redis:
        store = Store(redis)
        found = read_marker(await store.marker())
        if not isinstance(found, Marker) or found.node_id != identity.node_id:
            found = Marker(identity.node_id, secrets.token_hex(16))
        marker = found._replace(passes=max(1, found.passes), previous=ANY, retired=retired)
        # Without the lease: no rows are written, and the reconciler finds that the marker changed.
        failure, *_ = await store.apply([Transaction((), (Row(MARKER, None, encode_marker(marker)),))])
        if failure:
            raise StoreError(f"redis: {failure}")
