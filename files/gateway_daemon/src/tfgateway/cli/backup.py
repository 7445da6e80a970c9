"""``tfgateway backup``: a gateway's data and seed in one file that only its operator can read."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import click
import msgspec
from redis.asyncio import Redis

from tfgateway.backup import archive, envelope
from tfgateway.cli.context import load_settings
from tfgateway.identity import private_files
from tfgateway.redis_schema.connection import connect_to_master
from tfgateway.redis_schema.login import OPERATOR
from tfgateway.settings import RedisSettings

_T = TypeVar("_T")
_FILE = click.Path(path_type=Path, dir_okay=False)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
_SEED = click.option("--seed", type=_FILE, help="Seed file [default: identity.seed of the settings].")
_REDIS = click.option("--redis", "url", help="URL of redis [default: redis of the settings].")
_MOST_KEY = 256  # bytes of a key that is piped in


@click.group("backup")
def command() -> None:
    """Back a gateway up, and put a backup back.

    The operator makes a key once and keeps it off the nodes; they get its public half.
    """


@command.command("generate-key")
@click.option("--output", type=_FILE, required=True, help="File for the private key; an existing one is kept.")
@_JSON
def generate_key(output: Path, as_json: bool) -> None:
    """Make the operator's key; print its public half, for --recipient."""
    private = private_files.read_or_create(output, lambda: envelope.encode_key(envelope.generate_private_key()))
    recipient = envelope.encode_key(envelope.public_key(envelope.decode_key(private)))
    click.echo(json.dumps({"recipient": recipient, "key_file": str(output)}) if as_json else recipient)


@command.command("create")
@click.option("--recipient", required=True, metavar="BASE64", help="The operator's public key.")
@_SEED
@_REDIS
@_JSON
@click.argument("output", type=_FILE)
@click.pass_context
def create(ctx: click.Context, recipient: str, seed: Path | None, url: str | None, as_json: bool, output: Path) -> None:
    """Write redis' data and the seed, encrypted, to the new file OUTPUT. The gateway may run."""
    key = envelope.decode_key(recipient)
    rows = _with_redis(ctx, seed, url, lambda path, redis: archive.create(output, key, path, redis))
    shown = {"archive": str(output), "rows": rows, "bytes": output.stat().st_size}
    click.echo(json.dumps(shown) if as_json else f"{output}: {rows} keys of redis, and the seed")


@command.command("unwrap")
@click.option("--key", "key_file", type=_FILE, required=True, help="The operator's private key.")
@_JSON
@click.argument("file", type=_FILE)
def unwrap(key_file: Path, as_json: bool, file: Path) -> None:
    """Print the key that opens FILE alone, so that a node can restore it without the operator's key. It is secret."""
    key = envelope.encode_key(archive.unwrap(file, envelope.decode_key(private_files.read(key_file))))
    click.echo(json.dumps({"file_key": key}) if as_json else key)


@command.command("restore")
@click.option("--key", "key_file", type=_FILE, help="The operator's private key.")
@click.option("--file-key-from", type=click.File("rb"), help="What `unwrap` printed, - for standard input.")
@click.option("--replace-seed", is_flag=True, help="Replace a seed of another identity; it is kept beside it.")
@_SEED
@_REDIS
@_JSON
@click.argument("file", type=_FILE)
@click.pass_context
def restore(
    ctx: click.Context,
    key_file: Path | None,
    file_key_from: BinaryIO | None,
    replace_seed: bool,
    seed: Path | None,
    url: str | None,
    as_json: bool,
    file: Path,
) -> None:
    """Put the backup FILE back. Stop the reconciler before, and start it afterwards."""
    if (key_file is None) == (file_key_from is None):
        raise click.UsageError("name --key or --file-key-from")
    if key_file is not None:
        key = archive.unwrap(file, envelope.decode_key(private_files.read(key_file)))
    else:
        assert file_key_from is not None  # noqa: S101 - one of the two is there
        key = envelope.decode_key(file_key_from.read(_MOST_KEY).decode("ascii", "replace"))
    done = _with_redis(
        ctx, seed, url, lambda path, redis: archive.restore(file, key, path, redis, replace_seed=replace_seed)
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(done)))
    else:
        click.echo(f"{done.node_id}: {done.rows} keys of redis are back, the seed was {done.seed}")


def _with_redis(
    ctx: click.Context, seed: Path | None, url: str | None, work: Callable[[Path, Redis], Awaitable[_T]]
) -> _T:
    """What ``work`` returns; the settings are read for what the options do not say."""
    configured = load_settings(ctx) if seed is None or url is None else None
    path = seed or Path(configured.identity.seed if configured else "")
    redis = configured.redis if configured else RedisSettings()
    if url is not None:
        redis = msgspec.structs.replace(redis, url=url)

    async def main() -> _T:
        client = connect_to_master(redis, OPERATOR)
        try:
            return await work(path, client)
        finally:
            await client.aclose()

    return asyncio.run(main())
