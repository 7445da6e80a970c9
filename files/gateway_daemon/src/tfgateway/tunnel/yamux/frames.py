"""Frames on the wire: 12 bytes of header, big endian, and the payload of data frames."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple

from tfgateway.errors import ParseError

HEADER_SIZE = 12
_VERSION = 0
_HEADER = Struct("!BBHII")
_DATA = 0
_LAST_KIND = 3


class Kind(IntEnum):
    """What a frame is."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    """What a frame says besides."""

    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class GoAway(IntEnum):
    """Why a session ends."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class Frame(NamedTuple):
    """A header. The payload of a data frame follows as ``Payload``, in as many pieces as it arrives in."""

    kind: int
    flags: int
    stream: int
    length: int
    """Data: bytes of payload; window update: bytes granted; ping: its id; go away: the code."""


class Payload(NamedTuple):
    """A piece of the payload of the data frame before it."""

    stream: int
    data: memoryview
    """A slice of what was fed: valid until the feeder uses its buffer again."""
    last: bool
    """The frame is complete with this piece."""


def encode(kind: int, flags: int, stream: int, length: int) -> bytes:
    """A header; for a data frame, ``length`` bytes have to follow it."""
    return _HEADER.pack(_VERSION, kind, flags, stream, length)


class FrameReader:
    """Splits a byte stream into frames. Keeps at most 11 bytes: those of a header that is not complete."""

    __slots__ = ("left", "partial", "stream")

    def __init__(self) -> None:
        self.partial = b""
        """What is there of the next header."""
        self.left = 0
        """Bytes that are missing of the payload of the current data frame."""
        self.stream = 0
        """The stream that the payload belongs to."""

    def feed(self, data: memoryview) -> Iterator[Frame | Payload]:
        """Take the next bytes; to be iterated to its end. Errors: ``ParseError``, then the stream is lost."""
        position, end = 0, len(data)
        while position < end:
            if self.left:
                piece = data[position : position + self.left]
                position += len(piece)
                self.left -= len(piece)
                yield Payload(self.stream, piece, not self.left)
                continue
            if self.partial or end - position < HEADER_SIZE:
                missing = HEADER_SIZE - len(self.partial)
                self.partial += data[position : position + missing]
                position += missing
                if len(self.partial) < HEADER_SIZE:
                    return
                header, self.partial = _HEADER.unpack(self.partial), b""
            else:
                header = _HEADER.unpack_from(data, position)
                position += HEADER_SIZE
            version, kind, flags, stream, length = header
            if version != _VERSION:
                raise ParseError(f"yamux: version {version}")
            if kind > _LAST_KIND:
                raise ParseError(f"yamux: frame of unknown type {kind}")
            if kind == _DATA:
                self.left, self.stream = length, stream
            yield Frame(kind, flags, stream, length)
