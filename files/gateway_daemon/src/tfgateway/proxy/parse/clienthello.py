"""The first message of a TLS client: which name it asks for (RFC 8446 §4.1.2, RFC 6066 §3).

Nothing is decrypted and nothing is changed: the bytes are kept, so that the target gets them as they came. An encrypted
ClientHello (ECH) shows its outer name here. What does not choose the service is not read: offered protocols
(ALPN, ``acme-tls/1`` among them) are a matter of the target.
"""

from __future__ import annotations

import struct

import msgspec

from tfgateway.errors import ParseError
from tfgateway.proxy.parse.hosts import host_name

MAX_HELLO = 64 * 1024
"""Bytes from the first of the connection to the last of the hello, record headers included (T-7)."""

HANDSHAKE_RECORD = 22  # ContentType, RFC 8446 §5.1
_MAX_FRAGMENT = 2**14
_CLIENT_HELLO = 1  # HandshakeType
_EXT_SERVER_NAME = 0
_HOST_NAME = 0  # NameType, RFC 6066 §3
_EXTENSION = struct.Struct("!HH")  # type, length
_ONE_NAME = struct.Struct("!HBH")  # length of the list, type and length of its only name


class ClientHello(msgspec.Struct, frozen=True):
    """What routing needs of a ClientHello."""

    server_name: str
    """The SNI host name, lower case, no final dot; "" when the client names none."""


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

        Errors: ``ParseError`` when the stream cannot become a ClientHello of at most ``MAX_HELLO`` bytes. Do not feed
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

    def _complete_body(self) -> bytes | None:
        """The body of the handshake message, or None while it is incomplete."""
        if self._message[0] != _CLIENT_HELLO:
            raise ParseError("the first handshake message is not a ClientHello")
        if len(self._message) < 4:
            return None
        end = 4 + int.from_bytes(self._message[1:4])
        if end > MAX_HELLO:
            raise ParseError("ClientHello is too large")
        return bytes(self._message[4:end]) if len(self._message) >= end else None


_CUT_SHORT = "ClientHello is cut short"


def read_usual_hello(data: bytes) -> ClientHello | None:
    """The hello at the start of ``data`` if it is all there in one record, as most are.

    None decides nothing: ask ``ClientHelloParser``, which gives the same answer. Errors: ``ParseError``.
    """
    if len(data) < 9 or data[0] != HANDSHAKE_RECORD or data[1] != 3 or data[5] != _CLIENT_HELLO:
        return None
    end = 5 + (data[3] << 8 | data[4])
    message_end = 9 + (data[6] << 16 | data[7] << 8 | data[8])
    if not message_end <= end <= len(data) or end > 5 + _MAX_FRAGMENT:
        return None
    return _decode(data[9:message_end])


class _Reader:
    """Reads vectors of the TLS presentation language (RFC 8446 §3.4) from one buffer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ParseError(_CUT_SHORT)
        part = self._data[self._at : end]
        self._at = end
        return part

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width))

    def vector(self, width: int, *, least: int = 0) -> bytes:
        """A vector with a length of ``width`` bytes and at least ``least`` bytes of content."""
        length = self.number(width)
        if length < least:
            raise ParseError("a vector of the ClientHello is too short")
        return self.take(length)

    def end(self) -> None:
        if self:
            raise ParseError("ClientHello has bytes too many")


def _decode(body: bytes) -> ClientHello:
    """The body of the message. Without ``_Reader``, which costs as much as all else that is done for a connection."""
    size = len(body)
    try:
        at = 35 + body[34]  # legacy_version, random, session id
        if body[34] > 32:
            raise ParseError("session id of the ClientHello is too long")
        ciphers = body[at] << 8 | body[at + 1]
        if ciphers < 2:
            raise ParseError("a vector of the ClientHello is too short")
        if ciphers % 2:
            raise ParseError("cipher suites of the ClientHello are cut short")
        at += 2 + ciphers
        if not body[at]:
            raise ParseError("a vector of the ClientHello is too short")
        at += 1 + body[at]  # compression methods
        if at == size:
            return ClientHello("")  # before TLS 1.3 the whole block may be missing
        if at + 2 + (body[at] << 8 | body[at + 1]) != size:
            raise ParseError("extensions of the ClientHello are not as long as they say")
    except IndexError:
        raise ParseError(_CUT_SHORT) from None
    return _extensions(body, at + 2)


def _extensions(body: bytes, at: int) -> ClientHello:
    """What the extensions from offset ``at`` to the end say."""
    size = len(body)
    name = ""
    seen = set()
    while at < size:
        if at + 4 > size:
            raise ParseError(_CUT_SHORT)
        kind, length = _EXTENSION.unpack_from(body, at)
        at += 4 + length
        if at > size:
            raise ParseError(_CUT_SHORT)
        if kind in seen:
            # Two readers of a doubled extension could disagree about the name (RFC 8446 §4.2).
            raise ParseError("ClientHello repeats an extension")
        seen.add(kind)
        if kind == _EXT_SERVER_NAME:
            name = _server_name(body[at - length : at])
    return ClientHello(name)


def _server_name(data: bytes) -> str:
    """The host name of a ServerNameList, "" when it holds only names of other types."""
    length = len(data)
    if length > 5 and data[2] == _HOST_NAME and _ONE_NAME.unpack_from(data) == (length - 2, _HOST_NAME, length - 5):
        return host_name(data[5:])
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
            found = host_name(name)
    return found
