"""``tfgateway identity``: look at a seed file, make one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import click

from tfgateway.cli.context import load_settings
from tfgateway.errors import IdentityError
from tfgateway.identity import derived, seedfile
from tfgateway.identity.keys import Identity
from tfgateway.identity.words import seed_from_words, words_from_seed

_RETRIES = 2
_MAX_WORDS = 4096  # bytes: 24 words have less than 240


@click.group("identity")
def command() -> None:
    """The identity of this gateway, or of a user: its seed file."""


@command.command("show")
@click.option("--seed", type=click.Path(path_type=Path), help="Seed file [default: identity.seed of the settings].")
@click.option("--words-from", type=click.File("rb"), help="Of these 24 words instead, - for standard input.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def show(ctx: click.Context, seed: Path | None, words_from: BinaryIO | None, as_json: bool) -> None:
    """Print node id, public key and tid of a seed file or of words; nothing that is secret."""
    if seed is not None and words_from is not None:
        raise click.UsageError("--seed and --words-from name two identities")
    if words_from is not None:
        _print(None, seedfile.SeedFile(seed_from_words(_read_words(words_from)), None), as_json)
        return
    path = seed or Path(load_settings(ctx).identity.seed)
    _print(path, seedfile.load(path), as_json)


@command.command("generate")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Seed file to create.")
@click.option("--tid", type=click.IntRange(0, 2**63 - 1), help="The user's id at the explorer, kept in the file.")
@click.option("--words-from", type=click.File("rb"), help="File with the 24 words, - for standard input.")
@click.option("--show-words", is_flag=True, help="Print the words too: this once, for a backup on paper.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def generate(output: Path, tid: int | None, words_from: BinaryIO | None, show_words: bool, as_json: bool) -> None:
    """Create a seed file, readable by its owner only, from 24 words or at random.

    A file that exists is never overwritten.
    """
    seed = seedfile.generate_seed() if words_from is None else seed_from_words(_read_words(words_from))
    seedfile.create(output, seed, tid)
    _print(output, seedfile.SeedFile(seed, tid), as_json, words_from_seed(seed) if show_words else None)


@command.command("derive")
@click.argument("purpose")
@click.option("--seed", type=click.Path(path_type=Path), help="Seed file [default: identity.seed of the settings].")
@click.pass_context
def derive(ctx: click.Context, purpose: str, seed: Path | None) -> None:
    """Print the key that the members of a group have in common for PURPOSE, 64 hex digits: a secret."""
    click.echo(derived.derive(_seed(ctx, seed), purpose).hex())


@command.command("certificate")
@click.option("--seed", type=click.Path(path_type=Path), help="Seed file [default: identity.seed of the settings].")
@click.pass_context
def certificate(ctx: click.Context, seed: Path | None) -> None:
    """Print key and certificate with which the redis servers of a group know each other, as PEM: a secret."""
    click.echo(derived.group_certificate(_seed(ctx, seed)), nl=False)


@command.command("pin")
@click.pass_context
def pin(ctx: click.Context) -> None:
    """Have the explorer accept only requests of this gateway as this release signs them."""
    _pin(ctx, pin=True)


@command.command("unpin")
@click.pass_context
def unpin(ctx: click.Context) -> None:
    """Have the explorer accept requests of this gateway as older programs sign them again."""
    _pin(ctx, pin=False)


def _pin(ctx: click.Context, *, pin: bool) -> None:
    # Not above: the other commands, which provisioning runs on every node, need neither the explorer nor redis.
    import asyncio

    from tfgateway.reconciler.explorer_side.session import open_explorer
    from tfgateway.reconciler.session import load_identity

    settings = load_settings(ctx)
    identity = load_identity(settings)

    async def work() -> None:
        async with open_explorer(settings, identity, _RETRIES) as client:
            await client.pin_gateway(identity.node_id, pin=pin)

    asyncio.run(work())
    click.echo(f"{identity.node_id} {'is' if pin else 'is not'} pinned at the explorer")


def _seed(ctx: click.Context, path: Path | None) -> bytes:
    return seedfile.load(path or Path(load_settings(ctx).identity.seed)).seed


def _read_words(source: BinaryIO) -> str:
    try:
        return source.read(_MAX_WORDS).decode("ascii")
    except UnicodeDecodeError:
        raise IdentityError("the words are not plain English text") from None


def _print(path: Path | None, content: seedfile.SeedFile, as_json: bool, words: str | None = None) -> None:
    identity = Identity.from_seed(content.seed)
    shown: dict[str, object] = {
        "seed_file": str(path) if path else None,
        "node_id": identity.node_id,
        "public_key": identity.public_key.hex(),
        "tid": content.tid,
    }
    if words is not None:
        shown["words"] = words
    if as_json:
        click.echo(json.dumps(shown))
        return
    for name, value in shown.items():
        if value is not None:
            click.echo(f"{name.replace('_', ' '):<12}{value}")
