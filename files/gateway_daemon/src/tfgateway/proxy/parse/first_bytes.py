"""The first bytes of a connection: an optional PROXY header, then a ClientHello or an HTTP request head. Sans-IO.

What the target gets is kept as it came; only a PROXY header is taken off, and later a CDN-Loop field added.
"""

from __future__ import annotations

import msgspec

from tfgateway.errors import ParseError
from tfgateway.net import proxyproto
from tfgateway.net.proxyproto import Addresses
from tfgateway.proxy import refusals
from tfgateway.proxy.parse.clienthello import HANDSHAKE_RECORD, ClientHelloParser, read_usual_hello
from tfgateway.proxy.parse.httphead import (
    HeadTooLarge,
    Http2Preface,
    NotImplementedHere,
    RequestHeadParser,
    VersionNotSupported,
    read_usual_head,
)
from tfgateway.proxy.protocol import HTTP, TLS, Protocol
from tfgateway.proxy.refusals import Refusal, Refused

_UNREADABLE: dict[type[ParseError], Refusal] = {
    HeadTooLarge: refusals.HEAD_TOO_LARGE,
    Http2Preface: refusals.HTTP2_PREFACE,
    NotImplementedHere: refusals.NOT_IMPLEMENTED,
    VersionNotSupported: refusals.VERSION_NOT_SUPPORTED,
}


class Request(msgspec.Struct, frozen=True):
    """What a connection asks for."""

    protocol: Protocol
    """Which of the two ports of a service takes it."""
    method: str
    """Of the HTTP request; "" for TLS."""
    host: str
    """As ``hosts.host_name`` gives it; "" when none is named."""
    data: bytes
    """All that was fed, without the PROXY header: the target gets it first."""


class FirstBytes:
    """Reads the first bytes of one connection, over any number of segments."""

    __slots__ = ("_header", "_hello", "_listener", "_request", "_rest", "speaks")

    def __init__(self, listener: Protocol, *, after_header: bool = False) -> None:
        """``listener``: the port it came in at; ``after_header``: it begins with a PROXY header."""
        self._listener = listener
        self._header: bytes | None = b"" if after_header else None  # so far; None: none is expected any more
        self._rest = b""  # what came behind the header
        self._hello: ClientHelloParser | None = None
        self._request: RequestHeadParser | None = None
        self.speaks: Protocol | None = None
        """The protocol in which a refusal is understood; None: nothing was read yet, or neither of the two."""

    def feed(self, data: bytes) -> Request | Addresses | None:
        """Take the next bytes; None: more are needed.

        ``Addresses``: those of a PROXY header; ``feed(b"")`` goes on with what came behind it. Errors: ``Refused``. Do
        not feed again after a request or an error.
        """
        if self._header is not None:
            addresses = self._read_header(self._header + data)
            if addresses is not None or self._header is not None:
                return addresses
            data = b""
        if self._rest:
            data, self._rest = self._rest + data, b""
        if not data:
            return None
        try:
            return self._read_hello(data) if self._listener is TLS else self._read_request(data)
        except ParseError as error:
            raise Refused(_UNREADABLE.get(type(error), refusals.BAD_REQUEST), str(error)) from error

    def discard(self) -> None:
        """Forget what was read: nothing more will be fed."""
        self._hello = self._request = None
        self._rest = b""

    def _read_header(self, data: bytes) -> Addresses | None:
        """What a complete header says; None: it is not complete, or says nothing."""
        try:
            header = proxyproto.read(data)
        except ParseError as error:
            raise Refused(refusals.BAD_PROXY_HEADER, str(error)) from error
        if header is None:
            self._header = data
            return None
        self._header = None
        self._rest = data[header.length :]
        return header.addresses

    def _read_hello(self, data: bytes) -> Request | None:
        parser = self._hello
        if parser is None:
            if data[0] != HANDSHAKE_RECORD:
                # No TLS: nameless, and for the plain port of CATCH_ALL.
                return Request(HTTP, "", "", data)
            self.speaks = TLS
            usual = read_usual_hello(data)
            if usual is not None:
                return Request(TLS, "", usual.server_name, data)
            parser = self._hello = ClientHelloParser()
        hello = parser.feed(data)
        if hello is None:
            return None
        self._hello = None
        return Request(TLS, "", hello.server_name, bytes(parser.received))

    def _read_request(self, data: bytes) -> Request | None:
        parser = self._request
        if parser is None:
            self.speaks = HTTP
            usual = read_usual_head(data)
            if usual is not None:
                return Request(HTTP, usual.method, usual.host, data)
            parser = self._request = RequestHeadParser()
        head = parser.feed(data)
        if head is None:
            return None
        self._request = None
        return Request(HTTP, head.method, head.host, bytes(parser.received))
