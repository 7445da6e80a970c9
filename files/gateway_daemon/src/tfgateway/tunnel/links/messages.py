"""The messages between the workers of one gateway about tunnels. Pure.

They may be of different releases for a while: fields are only ever added, with a default.
"""

from __future__ import annotations

import msgspec

from tfgateway.errors import ParseError
from tfgateway.net.proxyproto import Addresses
from tfgateway.tunnel.session.stream_relay import RelaySnapshot
from tfgateway.tunnel.yamux.snapshot import ConnectionSnapshot


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First on each link, and the answer to ``Draining``."""

    name: str
    draining: bool
    answers: bool = False
    """It answers deliveries, and waits for the answers to its own."""


class Have(msgspec.Struct, frozen=True, tag="have"):
    """Clients with these secrets are connected to the sender: digest -> since when (``registry.Client``)."""

    clients: dict[bytes, int]
    source: str = ""
    """IP literal of the client that has just come, if one has."""


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """No client with this secret is connected to the sender any more."""

    digest: bytes


class Draining(msgspec.Struct, frozen=True, tag="draining"):
    """The sender ends when this is answered: nothing more is to be handed over to it."""


class Descriptors(msgspec.Struct, frozen=True, tag="parcel"):
    """Descriptors of a delivery come with this message. The first of them all is a file that holds its content."""

    last: bool


class DeliveryReply(msgspec.Struct, frozen=True, tag="answer"):
    """To a delivery, in the order in which they came. Not taken: its sender goes on with what was in it."""

    taken: bool


Message = Hello | Have | Lost | Draining | Descriptors | DeliveryReply


class VisitorDelivery(msgspec.Struct, frozen=True, tag="visitor"):
    """Content of a delivery: a visitor for a client of the receiver. One descriptor."""

    first: bytes
    source: str
    plane: str
    secret: bytes
    context: bytes
    deadline: float
    """Until when it waits, seconds of CLOCK_MONOTONIC."""
    hops: int
    """How often it has been passed on."""
    addresses: Addresses | None = None
    proxy_protocol: int = 0


class StreamDelivery(msgspec.Struct, frozen=True):
    """A visitor in a tunnel."""

    stream: int
    relay: RelaySnapshot
    source: str
    plane: str
    context: bytes


class SessionDelivery(msgspec.Struct, frozen=True, tag="session", rename={"registration": "greeting"}):
    """Content of a delivery: a session with all that is in it. One descriptor, and one for each stream."""

    secret: bytes
    source: str
    since: int
    registration: int
    """The stream on which the client registered. On the wire it is ``greeting``, as in earlier releases."""
    connection: ConnectionSnapshot
    unsent: bytes
    streams: tuple[StreamDelivery, ...]
    extensions: int = 0
    """Of the client (``yamux.extensions``)."""


Content = VisitorDelivery | SessionDelivery


def sockets_of(content: Content) -> int:
    """How many descriptors belong to it."""
    return 1 if isinstance(content, VisitorDelivery) else 1 + len(content.streams)


_message: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_content: msgspec.msgpack.Decoder[Content] = msgspec.msgpack.Decoder(Content)


def encode(item: Message | Content) -> bytes:
    """One message, or the content of a delivery."""
    return msgspec.msgpack.encode(item)


def decode_message(raw: bytes) -> Message:
    """Errors: ``ParseError``."""
    try:
        return _message.decode(raw)
    except msgspec.MsgspecError as error:
        raise ParseError(f"tunnels: message of another worker: {error}") from error


def decode_content(raw: bytes) -> Content:
    """Errors: ``ParseError``, without any of the content, which holds secrets (T-13)."""
    try:
        return _content.decode(raw)
    except msgspec.MsgspecError:
        raise ParseError("tunnels: a delivery of another worker cannot be read") from None
