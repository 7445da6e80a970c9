r"""A copy on disk of what a mirror read from redis, so that a plane starts and serves while redis is away.

The file holds keys and values as redis has them, so that it is read through the same eyes as redis::

    "tfgateway snapshot 1\n"
    {"match": "*.", "marker": "1 ..."}\n            the selection (SCAN MATCH, latin-1); the marker of the data set
    blocks                                           struct _BLOCK: kind, length of the key, count; the key; then
        kind 1: a piece of a hash                    ``count`` times struct _PAIR, the field and its value
        kind 2: a string                             ``count`` bytes
        kind 0: the end                              BLAKE2b of everything before it

``freshness`` says when this was known last to be what redis holds. The marker (``redis_schema.marker``) is missing
where redis has none, and in files of older releases, which pass over it in ours. Proxy entries hold tunnels' secrets:
only the owner may read the file.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from tfgateway.errors import ParseError, SchemaError
from tfgateway.mirror.disk import freshness
from tfgateway.redis_schema.marker import Marker, decode_marker, encode_marker

_MAGIC: Final = b"tfgateway snapshot 1\n"
_BLOCK: Final = struct.Struct("!BII")
_PAIR: Final = struct.Struct("!II")
_END, _HASH, _STRING = range(3)
_DIGEST_SIZE: Final = 32
_BUFFER: Final = 1 << 20
_LONGEST_HEAD: Final = 1000
_LONGEST: Final = 1 << 29
"""Bytes of a key or value: as much as redis takes."""

Item = tuple[bytes, Mapping[bytes, bytes] | bytes]
"""A key with a string, or with all or some fields of a hash; pieces of one hash follow each other."""


class Copy(NamedTuple):
    """The content of a snapshot file."""

    age: float
    """Seconds since it was right."""
    items: Iterator[Item]


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    match: str
    marker: str = ""


def path_of(plane: str) -> Path | None:
    """The path of a plane's snapshot, in the state directory that systemd made; None: there is none."""
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(directory) / f"{plane}.snapshot" if directory else None


async def write(
    path: Path, match: bytes, items: AsyncIterator[Item], largest: int, marker: Marker | None = None
) -> int:
    """Replace the file atomically by one of these items; its size in bytes.

    largest: bytes that it may have. marker: of the data set that they are of. Errors: ``OSError``, and what ``items``
    raises.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=_BUFFER) as file:
            state = hashlib.blake2b(digest_size=_DIGEST_SIZE)
            size = 0
            text = encode_marker(marker).decode() if marker is not None else ""
            head = msgspec.json.encode(_Head(match.decode("latin-1"), text))
            parts = [_MAGIC, head, b"\n"]
            async for key, value in items:
                _add(parts, key, value)
                data = b"".join(parts)
                parts = []
                size += len(data)
                if size > largest:
                    raise OSError(None, f"snapshot would be larger than {largest} bytes")
                state.update(data)
                file.write(data)
            parts.append(_BLOCK.pack(_END, 0, 0))
            data = b"".join(parts)
            state.update(data)
            file.write(data + state.digest())
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return size + len(data) + _DIGEST_SIZE


def read(path: Path, match: bytes) -> Copy:
    """The whole file. Errors: ``OSError``; ``ParseError``: it is damaged."""
    with path.open("rb", buffering=_BUFFER) as file:
        age = freshness.age(path)
        _check(file)
        file.seek(0)
        _head(file, match)
    return Copy(age, _items(path))


def marker(path: Path, match: bytes) -> Marker | None:
    """Of the data set that a file holds, its head alone being looked at; None: it has none, or cannot be read."""
    try:
        with path.open("rb") as file:
            return decode_marker(_head(file, match).marker.encode())
    except (OSError, ParseError, SchemaError):
        return None


def _head(file: BinaryIO, match: bytes) -> _Head:
    _expect(file.read(len(_MAGIC)) == _MAGIC, "of another version")
    try:
        head = msgspec.json.decode(file.readline(_LONGEST_HEAD), type=_Head)
    except msgspec.MsgspecError as error:
        raise ParseError(f"damaged head: {error}") from error
    _expect(head.match.encode("latin-1", "replace") == match, "of other keys")
    return head


def _check(file: BinaryIO) -> None:
    """Verify length and digest of the file."""
    size = os.fstat(file.fileno()).st_size - _DIGEST_SIZE
    _expect(size >= len(_MAGIC), "too short")
    state = hashlib.blake2b(digest_size=_DIGEST_SIZE)
    while size:
        data = file.read(min(size, _BUFFER))
        _expect(bool(data), "ends early")
        state.update(data)
        size -= len(data)
    _expect(file.read() == state.digest(), "checksum differs")


def _items(path: Path) -> Iterator[Item]:
    with path.open("rb", buffering=_BUFFER) as file:
        file.seek(len(_MAGIC))
        file.readline(_LONGEST_HEAD)
        while True:
            kind, key_size, count = _BLOCK.unpack(_take(file, _BLOCK.size))
            if kind == _END:
                return
            key = _take(file, key_size)
            if kind == _STRING:
                yield key, _take(file, count)
            else:
                fields: dict[bytes, bytes] = {}
                for _ in range(count):
                    name_size, value_size = _PAIR.unpack(_take(file, _PAIR.size))
                    name = _take(file, name_size)
                    fields[name] = _take(file, value_size)
                yield key, fields


def _take(file: BinaryIO, size: int) -> bytes:
    _expect(size <= _LONGEST, "damaged")
    data = file.read(size)
    _expect(len(data) == size, "ends early")
    return data


def _add(parts: list[bytes], key: bytes, value: Mapping[bytes, bytes] | bytes) -> None:
    kind = _STRING if isinstance(value, bytes) else _HASH
    parts += [_BLOCK.pack(kind, len(key), len(value)), key]
    if isinstance(value, bytes):
        parts.append(value)
    else:
        for name, content in value.items():
            parts += [_PAIR.pack(len(name), len(content)), name, content]


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ParseError(f"snapshot: {otherwise}")
