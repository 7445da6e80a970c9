"""``tfgateway info``: the identity of this gateway, and the state of its planes."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from tfgateway import version
from tfgateway.cli.context import load_settings
from tfgateway.errors import StoreError
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.session import open_replica
from tfgateway.reconciler.status import ReconcilerStatus, decode_status
from tfgateway.reconciler.store import Store
from tfgateway.settings import Settings
from tfgateway.telemetry import scrape
from tfgateway.telemetry.text import printable

_LONGEST_REASON = 1200


@click.command("info")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, with the planes' metrics.")
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Show who this gateway is, which planes answer and whether the explorer lists it; asks nobody outside the node."""
    found = asyncio.run(_gather(load_settings(ctx)))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    del found["time"]
    for name, value in found.items():
        if name == "planes":
            for plane in value:
                click.echo(f"{plane['name']:<17}{'answers' if plane['answers'] else 'DOES NOT ANSWER'}")
        elif name == "directory":
            said = "unknown" if value is None else f"{value['state']} {value['reason']}".rstrip()
            click.echo(f"{name:<17}{printable(said, _LONGEST_REASON)}")
        else:
            click.echo(f"{name.replace('_', ' '):<17}{' '.join(value) if isinstance(value, list) else value}")


async def _gather(settings: Settings) -> dict[str, Any]:
    content = seedfile.load(Path(settings.identity.seed))
    pages = {
        "reconciler": settings.reconciler.metrics,
        "dns": settings.dns.metrics,
        "proxy": settings.proxy.metrics,
        **({"fourtosix": settings.fourtosix.metrics} if settings.fourtosix.endpoint else {}),
    }
    status, answers = await asyncio.gather(_status(settings), asyncio.gather(*map(scrape.read, pages.values())))
    return {
        "version": version(),
        "time": time.time(),
        "node_id": Identity.from_seed(content.seed).node_id,
        "tid": content.tid,
        "explorer": settings.explorer.url,
        "directory": None if status is None else msgspec.structs.asdict(status.directory),
        "farm_id": settings.gateway.farm_id,
        "managed_domains": list(settings.gateway.managed_domains),
        "name_servers": list(settings.gateway.name_servers),
        "fourtosix_endpoint": settings.fourtosix.endpoint,
        "planes": [
            {"name": name, "answers": metrics is not None, "metrics": metrics or {}}
            for name, metrics in zip(pages, answers, strict=True)
        ],
    }


async def _status(settings: Settings) -> ReconcilerStatus | None:
    """What the reconciler wrote about itself; None: nothing, or redis does not answer."""
    async with open_replica(settings) as redis:
        try:
            return decode_status(await Store(redis).status())
        except StoreError:
            return None
