"""The content of a backup as messages (pure): about, seed file, rows of redis, end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from tfgateway.errors import CryptoError
from tfgateway.ids import NodeId


class About(msgspec.Struct, frozen=True, tag="about"):
    """The first message."""

    node_id: NodeId
    created: float
    """Unix seconds."""
    version: str
    """Of the daemon that made it."""


class Seed(msgspec.Struct, frozen=True, tag="seed"):
    """The second message: the seed file, byte for byte."""

    content: bytes

    def __repr__(self) -> str:
        return "Seed(...)"


class KeyDump(msgspec.Struct, frozen=True, tag="row"):
    """A message with a key of redis."""

    key: bytes
    value: bytes
    """As redis' DUMP gives it: with its own version and checksum."""
    ttl: int = 0
    """Milliseconds it had left; 0: for ever."""


class End(msgspec.Struct, frozen=True, tag="end"):
    """The last message."""

    rows: int


Part = About | Seed | KeyDump | End


@dataclass(frozen=True, slots=True)
class Head:
    """The messages before the rows."""

    about: About
    seed: Seed


def encode(part: Part) -> bytes:
    """Encode a message."""
    return msgspec.msgpack.encode(part)


def decode(messages: Iterable[bytes]) -> Iterator[Head | KeyDump]:
    """Decode the head, then every row. Errors: ``CryptoError``: what was encrypted is not of this form."""
    parts = map(_part, messages)
    about, seed = next(parts, None), next(parts, None)
    if not isinstance(about, About) or not isinstance(seed, Seed):
        raise CryptoError("this backup does not begin like one")
    yield Head(about, seed)
    rows = 0
    for part in parts:
        if isinstance(part, KeyDump):
            rows += 1
            yield part
        elif not isinstance(part, End) or part.rows != rows or next(parts, None) is not None:
            break
        else:
            return
    raise CryptoError("this backup does not end like one")


def _part(message: bytes) -> Part:
    try:
        part: Part = msgspec.msgpack.decode(message, type=Part)
    except (msgspec.MsgspecError, RecursionError):
        raise CryptoError("this backup is of a form that this version does not know") from None
    return part
