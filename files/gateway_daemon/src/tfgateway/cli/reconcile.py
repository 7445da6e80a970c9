"""``tfgateway reconcile``: bring redis in step with the explorer."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from tfgateway.cli.context import load_settings
from tfgateway.errors import GatewayError
from tfgateway.reconciler import loop, names
from tfgateway.reconciler.plan import Action, Plan
from tfgateway.settings import Settings
from tfgateway.workers import lifecycle

_RELEASING = (Action.CLAIM, Action.RELEASE)


@click.command("reconcile")
@click.option("--once", is_flag=True, help="One poll and one pass, then end.")
@click.option("--dry-run", is_flag=True, help="Show what one pass would do, and change nothing.")
@click.option(
    "--allow-removals",
    is_flag=True,
    help="Allow the removals that are held back: to the pass of --once, else to the reconciler that runs.",
)
@click.option(
    "--release-domain",
    "released",
    metavar="NAME",
    multiple=True,
    help="Give up the claim to a domain that is not managed any more, or take a managed one over from an identity that "
    "this gateway had: in the pass of --once, else by the reconciler that runs. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="The plan as Markdown.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    once: bool,
    dry_run: bool,
    allow_removals: bool,
    released: tuple[str, ...],
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Make redis hold what the explorer wants, and tell the explorer what became of it."""
    single = once or dry_run or allow_removals or bool(released)
    if (as_json or as_markdown) and not single:
        raise click.UsageError("--json and --markdown go with --once, --dry-run, --allow-removals or --release-domain")
    domains = frozenset(name.lower() for name in released)
    for name in domains:
        if not names.is_valid(name):
            raise click.UsageError(f"--release-domain: '{name}' is not a domain name (without a final dot)")
    if as_json and as_markdown:
        raise click.UsageError("--json or --markdown, not both")
    settings = load_settings(ctx)
    if single:
        made = asyncio.run(_single(settings, domains, once=once, dry_run=dry_run, allow_removals=allow_removals))
        if as_json:
            click.echo(json.dumps(made.as_data(), indent=2))
        else:
            click.echo(made.as_markdown() if as_markdown else made.as_text())
        if kept := _kept(made, domains):
            raise GatewayError(f"not released: {', '.join(kept)}")
        return

    async def main(life: lifecycle.Lifecycle) -> None:
        await loop.serve(settings, stopping=life.stopping, ready=life.ready, status=life.status)

    sys.exit(lifecycle.run(main))


def _kept(made: Plan, domains: frozenset[str]) -> list[str]:
    """Those of which the claim stays what it is."""
    return sorted(domains.difference(step.domain for step in made.steps if step.action in _RELEASING))


async def _single(
    settings: Settings, domains: frozenset[str], *, once: bool, dry_run: bool, allow_removals: bool
) -> Plan:
    async with loop.opened(settings, domains) as reconciler:
        if dry_run:
            return await reconciler.preview(allow_removals=allow_removals)
        if once:
            return await reconciler.once(allow_removals=allow_removals)
        if allow_removals:
            made = await reconciler.permit()
            click.echo("allowed for 10 minutes:" if made.held else "nothing is held back", err=True)
        else:
            made = await reconciler.preview()
        if domains and not _kept(made, domains):
            await reconciler.release(domains)
            click.echo("the reconciler that runs is told, for 10 minutes:", err=True)
        return made
