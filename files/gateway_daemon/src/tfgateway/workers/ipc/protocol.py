"""Messages between supervisor and worker: msgpack objects, each behind its length. Pure.

Both sides may be of different releases: fields are only ever added, with a default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from tfgateway.errors import ParseError
from tfgateway.plane import Endpoint
from tfgateway.workers.metrics.merged import Family

_LENGTH: Final = 4
_MAX_FRAME: Final = 64 * 1024 * 1024
"""Bytes: far more than any configuration or metrics, far less than the memory."""


class InheritedSocket(msgspec.Struct, frozen=True):
    """A socket that a process inherits under this descriptor."""

    fd: int
    endpoint: Endpoint


class SlotSockets(msgspec.Struct, frozen=True):
    """The sockets of one slot."""

    slot: int
    sockets: tuple[InheritedSocket, ...]


class Assignment(msgspec.Struct, frozen=True, tag="assignment"):
    """The first message to a worker: its name, slot, configuration and sockets."""

    name: str
    slot: int
    generation: int
    workers: int
    runtime: str
    config: str
    """Text of ``gateway.toml``, as it was when the generation was planned."""
    config_name: str
    sockets: tuple[InheritedSocket, ...]
    others: tuple[SlotSockets, ...] = ()
    """Sockets of the other slots, for ``Cover``."""


class Go(msgspec.Struct, frozen=True, tag="go"):
    """To a ready worker: serve, the sockets listen."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """To a worker: finish what is under way and end."""


class Cover(msgspec.Struct, frozen=True, tag="cover"):
    """To a worker: read from the sockets of these other slots too, whose workers are silent or gone, and of no more."""

    slots: tuple[int, ...]


class Collect(msgspec.Struct, frozen=True, tag="collect"):
    """To a worker: send the figures now, with this number."""

    token: int


class Peers(msgspec.Struct, frozen=True, tag="peers"):
    """To a worker: names of all workers that live, itself included."""

    names: tuple[str, ...]


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """From a worker: it is ready to serve."""

    covers: bool = False
    """It knows ``Cover``, which workers of older releases do not."""


class Status(msgspec.Struct, frozen=True, tag="status"):
    """From a worker: one line for ``systemctl status``."""

    text: str


class Figures(msgspec.Struct, frozen=True, tag="figures"):
    """From a worker: its metrics, and the sign that it lives."""

    families: tuple[Family, ...]
    token: int = 0
    """Of the newest ``Collect`` that it has seen."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """From a worker: why it ends, and its exit code (1 failed, 2 configuration)."""

    text: str
    code: int


ToWorker = Assignment | Go | Drain | Cover | Collect | Peers
FromWorker = Ready | Status | Figures | Failed

_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """One frame."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH, "big") + body


def decode_to_worker(body: bytes) -> ToWorker | None:
    """The message in a frame's body; None: one that this release does not know."""
    try:
        return _to_worker.decode(body)
    except msgspec.MsgspecError:
        return None


def decode_from_worker(body: bytes) -> FromWorker | None:
    """The message in a frame's body; None: one that this release does not know."""
    try:
        return _from_worker.decode(body)
    except msgspec.MsgspecError:
        return None


class Frames:
    """Splits a stream of bytes into the bodies of frames."""

    def __init__(self, unread: bytes = b"") -> None:
        self._buffer = bytearray(unread)

    @property
    def unread(self) -> bytes:
        """The bytes of an incomplete frame."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that ``data`` completes. Errors: ``ParseError`` for a length above the limit; the rest is lost."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._buffer[:_LENGTH], "big")
            if end > _LENGTH + _MAX_FRAME:
                raise ParseError(f"a frame of {end - _LENGTH} bytes")
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH:end])
            del self._buffer[:end]
            yield body
