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
@click.option(
    "--allow-removals",
    is_flag=True,
    help="Allow the removals that are held back: to the pass of --once, else to the reconciler that runs.",
)
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="The plan as Markdown.")
@click.pass_context
def command(
    ctx: click.Context, *, once: bool, dry_run: bool, allow_removals: bool, as_json: bool, as_markdown: bool
) -> None:
    """Make redis hold what the explorer wants, and tell the explorer what became of it."""
    single = once or dry_run or allow_removals
    if (as_json or as_markdown) and not single:
        raise click.UsageError("--json and --markdown go with --once, --dry-run or --allow-removals")
    if as_json and as_markdown:
        raise click.UsageError("--json or --markdown, not both")
    settings = load_settings(ctx)
    if single:
        made = asyncio.run(_single(settings, once=once, dry_run=dry_run, allow_removals=allow_removals))
        if as_json:
            click.echo(json.dumps(made.as_data(), indent=2))
        else:
            click.echo(made.as_markdown() if as_markdown else made.as_text())
        return

    async def main(life: lifecycle.Lifecycle) -> None:
        await loop.serve(settings, stopping=life.stopping, ready=life.ready, status=life.status)

    sys.exit(lifecycle.run(main))


async def _single(settings: Settings, *, once: bool, dry_run: bool, allow_removals: bool) -> Plan:
    async with loop.opened(settings) as reconciler:
        if dry_run:
            return await reconciler.preview(allow_removals=allow_removals)
        if once:
            return await reconciler.once(allow_removals=allow_removals)
        made = await reconciler.permit()
        click.echo("allowed for 10 minutes:" if made.held else "nothing is held back", err=True)
        return made
