"""Creates backup files of a running gateway, and restores them."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tfgateway import version
from tfgateway.backup import content, envelope
from tfgateway.backup.content import About, End, Head, KeyDump, Seed
from tfgateway.errors import ConfigError, IdentityError, StoreError
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.ids import NodeId
from tfgateway.redis_schema import keys
from tfgateway.redis_schema.connection import marker_text, store_errors
from tfgateway.redis_schema.marker import ANY, NONE, Marker, encode_marker, read_marker

_PASSING = frozenset(name.encode() for name in (keys.LEASE, keys.STATUS, keys.CONSENT, keys.MARKER))
"""Keys with the state of processes or of the data set, which must not be restored."""
_TUNNELS = keys.TUNNELS_PREFIX.encode()
_AT_ONCE = 500
_MOST_SEED = 4096


@dataclass(frozen=True, slots=True)
class Restored:
    """The outcome of a restore."""

    node_id: str
    created: float
    rows: int
    seed: str
    """``created``, ``kept`` or ``replaced``."""


async def create(output: Path, recipient: bytes, seed: Path, redis: Redis) -> int:
    """Write a backup to the new file ``output`` (mode 0600), which appears when it is complete; the number of rows.

    Errors: ``ConfigError``, ``IdentityError``, ``StoreError``.
    """
    _refuse_existing(output)
    raw = _seed_file(seed)
    node_id = Identity.from_seed(seedfile.parse_seed_file(raw).seed).node_id
    part = output.with_name(f"{output.name}.part")
    try:
        descriptor = os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                sealer = envelope.Sealer(recipient)
                file.write(sealer.head)
                for first in (About(node_id, time.time(), version()), Seed(raw)):
                    file.write(sealer.frame(content.encode(first)))
                rows = 0
                async for row in _rows(redis):
                    rows += 1
                    file.write(sealer.frame(content.encode(row)))
                file.write(sealer.frame(content.encode(End(rows)), last=True))
                file.flush()
                os.fsync(file.fileno())
            part.rename(output)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
    return rows


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise ConfigError(f"{path}: exists already and is not overwritten")


def unwrap(archive: Path, private: bytes) -> bytes:
    """The file key of one backup. Errors: ``ConfigError``, ``CryptoError``."""
    try:
        with archive.open("rb") as file:
            return envelope.unwrap(file.read, private)
    except OSError as error:
        raise ConfigError(f"{archive}: {error.strerror}") from error


async def restore(archive: Path, file_key: bytes, seed: Path, redis: Redis, *, replace_seed: bool = False) -> Restored:
    """Restore a backup; it is read and verified to its end before anything is changed.

    Keys of redis that it does not have stay. Planes that run serve what they know until the reconciler has made a full
    pass over what came back; where another identity was replaced, what they know is of no use, and they follow at once.
    Errors: ``ConfigError``, ``CryptoError``, ``IdentityError``: nothing was
    changed; ``StoreError``: it can be repeated.
    """
    try:
        with archive.open("rb") as file:
            head = _proven(file.read, file_key)
            file.seek(0)
            done = _put_seed(seed, head.seed.content, replace=replace_seed)
            begun = await _begin_data_set(redis, head.about.node_id)
            rows = 0
            for part in content.decode(envelope.messages(file.read, file_key)):
                if isinstance(part, KeyDump) and part.key not in _PASSING:
                    await _put_row(redis, part)
                    rows += 1
            if done == "replaced":
                await _write_marker(redis, begun._replace(passes=1, previous=ANY))
    except OSError as error:
        raise ConfigError(f"{error.filename or archive}: {error.strerror}") from error
    return Restored(head.about.node_id, head.about.created, rows, done)


def _proven(read: envelope.Read, file_key: bytes) -> Head:
    parts = content.decode(envelope.messages(read, file_key))
    head = next(parts)
    assert isinstance(head, Head)  # noqa: S101 - the first one always is
    for _ in parts:
        pass
    return head


def _seed_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_SEED + 1)
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror}") from error
    seedfile.parse_seed_file(raw)
    return raw


def _put_seed(path: Path, raw: bytes, *, replace: bool) -> str:
    wanted = seedfile.parse_seed_file(raw)
    if not path.exists():
        seedfile.create(path, wanted.seed, wanted.tid)
        return "created"
    there = seedfile.load(path)
    if there.seed == wanted.seed:
        return "kept"
    node_id = Identity.from_seed(there.seed).node_id
    if not replace:
        raise IdentityError(f"{path}: holds another identity, {node_id}; it is replaced only when that is asked for")
    path.rename(path.with_name(f"{path.name}.{node_id}"))
    seedfile.create(path, wanted.seed, wanted.tid)
    return "replaced"


async def _rows(redis: Redis) -> AsyncIterator[KeyDump]:
    with store_errors():
        seen: set[bytes] = set()  # SCAN may name a key twice
        async for key in redis.scan_iter(count=_AT_ONCE):
            if key in seen or key in _PASSING or key.startswith(_TUNNELS):
                continue
            seen.add(key)
            async with redis.pipeline(transaction=True) as pipe:
                pipe.type(key)
                pipe.dump(key)
                pipe.pttl(key)
                kind, value, ttl = await pipe.execute()
            # Removed meanwhile; or a stream of changes, which is of no use later.
            if value is not None and kind != b"stream":
                yield KeyDump(key, value, max(ttl, 0))


async def _begin_data_set(redis: Redis, node_id: NodeId) -> Marker:
    """Begin a new data set in redis, which counts once a full pass has gone over it."""
    found = read_marker(await marker_text(redis))
    previous = found.incarnation if isinstance(found, Marker) else NONE
    begun = Marker(node_id, secrets.token_hex(16), previous=previous)
    await _write_marker(redis, begun)
    return begun


async def _write_marker(redis: Redis, marker: Marker) -> None:
    with store_errors():
        await redis.set(keys.MARKER, encode_marker(marker))


async def _put_row(redis: Redis, row: KeyDump) -> None:
    with store_errors():
        try:
            await redis.restore(row.key, row.ttl, row.value, replace=True)
        except ResponseError as error:
            if "payload version or checksum" in str(error):
                raise StoreError("this redis is older than the one that the backup was made of") from error
            raise
