"""``tfgateway reconcile``: bring redis in step with the explorer."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import NamedTuple

import click

from tfgateway.cli.context import load_settings
from tfgateway.errors import GatewayError
from tfgateway.explorer.servable import is_domain
from tfgateway.ids import Gwid
from tfgateway.reconciler import loop, service
from tfgateway.reconciler.planning import render
from tfgateway.reconciler.planning.model import Action, Plan
from tfgateway.settings import Settings
from tfgateway.workers import lifecycle

_RELEASING = (Action.CLAIM, Action.RELEASE)
_GWID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_LONGEST_REASON = 1000


class _Released(NamedTuple):
    """Domains and reservations that the command line releases."""

    domains: frozenset[str]
    reservations: dict[Gwid, str]
    """With the reasons."""


@click.command("reconcile")
@click.option("--once", is_flag=True, help="One poll and one pass, then end.")
@click.option("--dry-run", is_flag=True, help="Show what one pass would do, and change nothing.")
@click.option(
    "--allow-removals",
    is_flag=True,
    help="Allow the removals that are held back, and end what the explorer does not know any more: in the pass of "
    "--once, else by the reconciler that runs.",
)
@click.option(
    "--release-domain",
    "released",
    metavar="NAME",
    multiple=True,
    help="Give up the claim to a domain that is not managed any more, or take a managed one over from an identity that "
    "this gateway had: in the pass of --once, else by the reconciler that runs. Repeatable.",
)
@click.option(
    "--release-reservation",
    "ended",
    metavar="ID",
    multiple=True,
    help="End a reservation that is recorded, such as one that the explorer does not know any more: in the pass of "
    "--once, else by the reconciler that runs. Where the explorer knows it, its user is given the reason. Repeatable.",
)
@click.option(
    "--reason",
    default="ended by the operator of the gateway",
    show_default=True,
    help="Why, of --release-reservation.",
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
    ended: tuple[str, ...],
    reason: str,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Make redis hold what the explorer wants, and report the results to the explorer."""
    single = once or dry_run or allow_removals or bool(released) or bool(ended)
    if (as_json or as_markdown) and not single:
        raise click.UsageError("--json and --markdown go with --once, --dry-run, --allow-removals or --release-...")
    domains = frozenset(name.lower() for name in released)
    for name in domains:
        if not is_domain(name):
            raise click.UsageError(f"--release-domain: '{name}' is not a domain name (without a final dot)")
    for identifier in ended:
        if not _GWID.fullmatch(identifier):
            raise click.UsageError(f"--release-reservation: '{identifier}' is not the id of a reservation, as 311-1")
    if len(reason) > _LONGEST_REASON:
        raise click.UsageError(f"--reason: at most {_LONGEST_REASON} characters")
    released_ones = _Released(domains, dict.fromkeys(map(Gwid, ended), reason))
    if as_json and as_markdown:
        raise click.UsageError("--json or --markdown, not both")
    settings = load_settings(ctx)
    if single:
        made = asyncio.run(_single(settings, released_ones, once=once, dry_run=dry_run, allow_removals=allow_removals))
        if as_json:
            click.echo(json.dumps(render.as_data(made), indent=2))
        else:
            click.echo(render.as_markdown(made) if as_markdown else render.as_text(made))
        if kept := _kept(made, released_ones):
            raise GatewayError(f"not released: {', '.join(kept)}")
        return

    async def main(life: lifecycle.Lifecycle) -> None:
        await service.serve(settings, stopping=life.stopping, ready=life.ready, status=life.status)

    sys.exit(lifecycle.run(main))


def _kept(made: Plan, released: _Released) -> list[str]:
    """Domains and reservations that the plan does not release."""
    steps = [step for step in made.steps if step.action in _RELEASING]
    domains = released.domains.difference(step.domain for step in steps if not step.id)
    return [*sorted(domains), *sorted(released.reservations.keys() - {step.id for step in steps})]


async def _single(settings: Settings, released: _Released, *, once: bool, dry_run: bool, allow_removals: bool) -> Plan:
    async with loop.opened(settings, released.domains, released.reservations) as reconciler:
        if dry_run:
            return await reconciler.preview(allow_removals=allow_removals)
        if once:
            return await reconciler.once(allow_removals=allow_removals)
        if allow_removals:
            made = await reconciler.permit()
            click.echo("allowed for 10 minutes:" if made.held_digest else "nothing is held back", err=True)
        else:
            made = await reconciler.preview()
        if (released.domains or released.reservations) and not _kept(made, released):
            await reconciler.release(released.domains, released.reservations)
            click.echo("handed to the running reconciler, valid for 10 minutes:", err=True)
        return made
