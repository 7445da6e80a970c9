"""``tfgateway reconcile``: bring redis in step with the explorer."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from tfgateway.cli.context import load_settings
from tfgateway.reconciler import loop
from tfgateway.reconciler.plan import Plan
from tfgateway.settings import Settings
from tfgateway.workers import lifecycle


@click.command("reconcile")
@click.option("--once", is_flag=True, help="One poll and one pass, then end.")
@click.option("--dry-run", is_flag=True, help="Show what one pass would do, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --once or --dry-run: the plan as JSON.")
@click.pass_context
def command(ctx: click.Context, *, once: bool, dry_run: bool, as_json: bool) -> None:
    """Make redis hold what the explorer wants, and tell the explorer what became of it."""
    if as_json and not (once or dry_run):
        raise click.UsageError("--json goes with --once or --dry-run")
    settings = load_settings(ctx)
    if once or dry_run:
        made = asyncio.run(_single(settings, dry_run=dry_run))
        click.echo(json.dumps(made.as_data(), indent=2) if as_json else made.as_text())
        return

    async def main(life: lifecycle.Lifecycle) -> None:
        await loop.serve(settings, stopping=life.stopping, ready=life.ready, status=life.status)

    sys.exit(lifecycle.run(main))


async def _single(settings: Settings, *, dry_run: bool) -> Plan:
    async with loop.opened(settings) as reconciler:
        return await (reconciler.preview() if dry_run else reconciler.once())
