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
from tfgateway.diagnosis.serving import not_serving
from tfgateway.errors import GatewayError, StoreError
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.group import group_state
from tfgateway.reconciler.session import open_replica
from tfgateway.reconciler.status import ReconcilerStatus, decode_status
from tfgateway.reconciler.store import Store
from tfgateway.settings import Settings
from tfgateway.telemetry import scrape
from tfgateway.telemetry.text import printable

_LONGEST_REASON = 1200


@click.command("info")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, with the planes' metrics.")
@click.option(
    "--serving",
    is_flag=True,
    help="Only whether the name server answers with authority for each managed domain, for the health check of an "
    "anycast address: exit code 0 if it does, 1 and the reason if not.",
)
@click.pass_context
def command(ctx: click.Context, *, as_json: bool, serving: bool) -> None:
    """Show who this gateway is, which planes answer and whether the explorer lists it.

    Asks nobody outside the node, but the Sentinels of its group.
    """
    if serving and as_json:
        raise click.UsageError("--serving and --json do not go together")
    settings = load_settings(ctx)
    if serving:
        if trouble := asyncio.run(not_serving(settings)):
            raise GatewayError(f"not serving: {'; '.join(trouble)}")
        return
    found = asyncio.run(_gather(settings))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    del found["time"]
    for name, value in found.items():
        if name == "planes":
            for plane in value:
                click.echo(f"{plane['name']:<17}{'answers' if plane['answers'] else 'DOES NOT ANSWER'}")
        elif name == "group":
            if value is not None:
                click.echo(f"{name:<17}{_group(value)}")
        elif name == "directory":
            said = "unknown" if value is None else f"{value['state']} {value['reason']}".rstrip()
            click.echo(f"{name:<17}{printable(said, _LONGEST_REASON)}")
        else:
            click.echo(f"{name.replace('_', ' '):<17}{' '.join(value) if isinstance(value, list) else value}")


def _group(state: dict[str, Any]) -> str:
    lag = "not connected" if state["lag"] is None else f"{state['lag']:.0f} s behind"
    return (
        f"led by {printable(state['leader']) or 'nobody'}; redis: {state['role'] or 'does not answer'}, {lag}; master "
        f"{state['master'] or 'unknown'} by {state['agreeing']} of {state['sentinels']} Sentinels"
    )


async def _gather(settings: Settings) -> dict[str, Any]:
    content = seedfile.load(Path(settings.identity.seed))
    pages = {
        "reconciler": settings.reconciler.metrics,
        "dns": settings.dns.metrics,
        "proxy": settings.proxy.metrics,
        **({"fourtosix": settings.fourtosix.metrics} if settings.fourtosix.endpoint else {}),
    }
    status, group, answers = await asyncio.gather(
        _status(settings), group_state(settings), asyncio.gather(*map(scrape.read, pages.values()))
    )
    return {
        "version": version(),
        "time": time.time(),
        "node_id": Identity.from_seed(content.seed).node_id,
        "tid": content.tid,
        "explorer": settings.explorer.url,
        "directory": None if status is None else msgspec.structs.asdict(status.directory),
        "group": None if group is None else group.as_data(),
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
