"""The first message of a TLS client: which name it asks for (RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301 §3.1).

Nothing is decrypted and nothing is changed: the bytes are kept, so that the target gets them as they came. An encrypted
ClientHello (ECH) shows its outer name here, and ACME's ``acme-tls/1`` is a protocol like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tfgateway.errors import ParseError
from tfgateway.proxy.hosts import host_name

MAX_HELLO = 64 * 1024
"""Octets from the first of the connection to the last of the hello, record headers included (T-7)."""

HANDSHAKE_RECORD = 22  # ContentType, RFC 8446 §5.1
_MAX_FRAGMENT = 2**14
_CLIENT_HELLO = 1  # HandshakeType
_EXT_SERVER_NAME = 0
_EXT_ALPN = 16
_HOST_NAME = 0  # NameType, RFC 6066 §3


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What routing needs of a ClientHello."""

    server_name: str
    """The SNI host name, lower case, no final dot; "" when the client names none."""
    alpn: tuple[bytes, ...]
    """Offered application protocols, best first; empty without the extension."""


class ClientHelloParser:
    """Finds the ClientHello at the start of a byte stream, over any number of segments and records (T-7)."""

    def __init__(self) -> None:
        self.received = bytearray()
        """Every byte that was fed, also those behind the hello."""
        self._message = bytearray()
        self._position = 0
        self._left_of_record = 0

    def feed(self, data: bytes) -> ClientHello | None:
        """Take the next bytes: the hello once it is complete, ``None`` while more is needed.

        Errors: ``ParseError`` when the stream cannot become a ClientHello of at most ``MAX_HELLO`` octets. Do not feed
        again after an answer or an error.
        """
        self.received += data
        hello = self._advance(min(len(self.received), MAX_HELLO))
        if hello is None and len(self.received) >= MAX_HELLO:
            raise ParseError("ClientHello is too large")
        return hello

    def _advance(self, limit: int) -> ClientHello | None:
        """Read on, but not beyond offset ``limit``."""
        while self._left_of_record or self._open_record(limit):
            end = min(self._position + self._left_of_record, limit)
            if end == self._position:
                break
            self._message += self.received[self._position : end]
            self._left_of_record -= end - self._position
            self._position = end
            body = self._complete_body()
            if body is not None:
                return _decode(body)
        return None

    def _open_record(self, limit: int) -> bool:
        """Read a record header (RFC 8446 §5.1): False when it is not all there."""
        header = self.received[self._position : min(self._position + 5, limit)]
        if header and header[0] != HANDSHAKE_RECORD:
            raise ParseError("not a TLS handshake record")
        if len(header) < 5:
            return False
        length = int.from_bytes(header[3:5])
        if header[1] != 3 or not 0 < length <= _MAX_FRAGMENT:
            raise ParseError("not a TLS record header")
        self._position += 5
        self._left_of_record = length
        return True

    def _complete_body(self) -> memoryview | None:
        """The body of the handshake message, or None while it is incomplete."""
        if self._message[0] != _CLIENT_HELLO:
            raise ParseError("the first handshake message is not a ClientHello")
        if len(self._message) < 4:
            return None
        end = 4 + int.from_bytes(self._message[1:4])
        if end > MAX_HELLO:
            raise ParseError("ClientHello is too large")
        return memoryview(self._message)[4:end] if len(self._message) >= end else None


class _Reader:
    """Reads vectors of the TLS presentation language (RFC 8446 §3.4) from one buffer."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> memoryview:
        end = self._at + count
        if end > len(self._data):
            raise ParseError("ClientHello is cut short")
        part = self._data[self._at : end]
        self._at = end
        return part

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width))

    def vector(self, width: int, *, least: int = 0) -> memoryview:
        """A vector with a length of ``width`` octets and at least ``least`` octets of content."""
        length = self.number(width)
        if length < least:
            raise ParseError("a vector of the ClientHello is too short")
        return self.take(length)

    def end(self) -> None:
        if self:
            raise ParseError("ClientHello has bytes too many")


def _decode(body: memoryview) -> ClientHello:
    hello = _Reader(body)
    hello.take(2 + 32)  # legacy_version, random
    if len(hello.vector(1)) > 32:
        raise ParseError("session id of the ClientHello is too long")
    if len(hello.vector(2, least=2)) % 2:
        raise ParseError("cipher suites of the ClientHello are cut short")
    hello.vector(1, least=1)  # compression methods
    name = ""
    alpn: tuple[bytes, ...] = ()
    if hello:  # before TLS 1.3 the whole block may be missing
        seen = set()
        for kind, data in _extensions(hello.vector(2)):
            if kind in seen:
                # Two readers of a doubled extension could disagree about the name (RFC 8446 §4.2).
                raise ParseError("ClientHello repeats an extension")
            seen.add(kind)
            if kind == _EXT_SERVER_NAME:
                name = _server_name(data)
            elif kind == _EXT_ALPN:
                alpn = _alpn(data)
        hello.end()
    return ClientHello(name, alpn)


def _extensions(block: memoryview) -> Iterator[tuple[int, memoryview]]:
    reader = _Reader(block)
    while reader:
        kind = reader.number(2)
        yield kind, reader.vector(2)


def _server_name(data: memoryview) -> str:
    """The host name of a ServerNameList, "" when it holds only names of other types."""
    extension = _Reader(data)
    names = _Reader(extension.vector(2, least=1))
    extension.end()
    found = ""
    while names:
        kind = names.number(1)
        name = names.vector(2, least=1)
        if kind == _HOST_NAME:
            if found:
                raise ParseError("ClientHello asks for two names")
            found = host_name(bytes(name))
    return found


def _alpn(data: memoryview) -> tuple[bytes, ...]:
    extension = _Reader(data)
    protocols = _Reader(extension.vector(2, least=2))
    extension.end()
    found = []
    while protocols:
        found.append(bytes(protocols.vector(1, least=1)))
    return tuple(found)
