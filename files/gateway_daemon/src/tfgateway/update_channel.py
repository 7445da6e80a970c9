"""Messages between the DNS plane and the reconciler, for DNS updates by users. Sans-IO.

The DNS plane asks over a unix socket, as often as it likes before the answers come; each answer has the number of its
question. A message is four bytes of length and a msgpack array.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from tfgateway.errors import ParseError

MAX_SIZE: Final = 66_000
"""Bytes of a message: a DNS message and little more."""
MOST_PENDING: Final = 64
"""Questions of one connection that are not answered yet."""
_PREFIX: Final = 4


class KeyQuestion(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """The secret of a user's TSIG key is wanted."""

    number: int
    name: str
    """Of the key, an absolute domain name."""


class KeyAnswer(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """The secret."""

    number: int
    secret: bytes = b""
    """Empty: there is no such key, or ``available`` says that it cannot be known now."""
    available: bool = True


class UpdateQuestion(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """A message whose signature was verified is to be carried out."""

    number: int
    key: str
    """Name of the key that signed it."""
    mac: bytes
    """Its signature, by which a repetition is recognised."""
    message: bytes


class UpdateAnswer(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """It is durable, or refused."""

    number: int
    rcode: int


class TransferQuestion(msgspec.Struct, frozen=True, tag=5, array_like=True):
    """May the owner of a key copy a zone?"""

    number: int
    key: str
    zone: bytes
    """Name in wire form, folded."""


class TransferAnswer(msgspec.Struct, frozen=True, tag=6, array_like=True):
    """Whether."""

    number: int
    allowed: bool


Question = KeyQuestion | UpdateQuestion | TransferQuestion
Answer = KeyAnswer | UpdateAnswer | TransferAnswer
Message = Question | Answer

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """A message with its length."""
    raw = msgspec.msgpack.encode(message)
    return len(raw).to_bytes(_PREFIX, "big") + raw


class MessageReader:
    """Collects messages from the bytes of a connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with ``data``. Errors: ``ParseError``: the connection is of no use."""
        self._buffer += data
        while len(self._buffer) >= _PREFIX:
            end = _PREFIX + int.from_bytes(self._buffer[:_PREFIX], "big")
            if end > _PREFIX + MAX_SIZE:
                raise ParseError("a message is too long")
            if len(self._buffer) < end:
                return
            raw = bytes(self._buffer[_PREFIX:end])
            del self._buffer[:end]
            try:
                yield _decoder.decode(raw)
            except (msgspec.MsgspecError, RecursionError):
                raise ParseError("a message is of an unknown form") from None
