"""The head of the first HTTP/1.x request of a connection: which host it is for (RFC 9112 §3, RFC 9110 §5).

Only the first request chooses the service; what follows on the connection goes to the same target, whatever its Host
says (T-11). The bytes are kept: the target gets them as they came, with one field of ours (``cdn_loop``).
"""

from __future__ import annotations

import re

import msgspec

from tfgateway.errors import ParseError
from tfgateway.proxy.parse.hosts import authority_host

MAX_HEAD = 64 * 1024
"""Bytes of a head, its empty line included (T-5)."""
MAX_LINES = 256
"""Lines of a head."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~\x80-\xff]+) HTTP/1\.([0-9])")
_OTHER_VERSION = re.compile(_TOKEN + rb" [!-~\x80-\xff]+ HTTP/[02-9](?:\.[0-9])?")
# No space before the colon (§5.1), no line folding (§5.2): both make two readers disagree about the host.
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"):([^\x00\r]*)")
# Absolute-form, scheme "://" authority, of §3.2.2.
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*://([^/?#]+)(?:[/?#].*)?")
# A whole head as nearly all are: only CR LF, nothing before it. What is tried again takes linear time: there is one way
# to read each line. The lines themselves are not possessive: before Python 3.11.5 such a group would match nothing.
_USUAL_HEAD = re.compile(
    rb"(" + _TOKEN + rb"+) (/[!-~\x80-\xff]*+) HTTP/1\.1((?:\r\n" + _TOKEN + rb"+:[^\x00\r\n]*+)+)\r\n\r\n"
)
_HTTP2_PREFACE_LINE = b"PRI * HTTP/2.0"  # RFC 9113 §3.4
_FIRST_OCTETS = frozenset(b"!#$%&'*+-.^_`|~0123456789\r\n") | frozenset(range(65, 91)) | frozenset(range(97, 123))


class Http2Preface(ParseError):
    """A client that begins with HTTP/2 without having asked: it can be refused in its own protocol."""


class HeadTooLarge(ParseError):
    """More bytes or lines than ``MAX_HEAD`` or ``MAX_LINES`` (RFC 6585 §5)."""


class VersionNotSupported(ParseError):
    """A request line of another version than HTTP/1.x (RFC 9110 §15.6.6)."""


class NotImplementedHere(ParseError):
    """A method that a gateway of services does not offer: CONNECT (RFC 9110 §9.3.6, §15.6.2)."""


class RequestHead(msgspec.Struct, frozen=True):
    """What routing needs of a request head."""

    method: str
    host: str
    """As ``hosts.host_name`` gives it; "" when the request names none, which HTTP/1.0 allows."""


def read_usual_head(data: bytes) -> RequestHead | None:
    """The head at the start of ``data`` if it is complete, as nearly all are, and names one host plainly.

    None decides nothing: ask ``RequestHeadParser``, which gives the same answer where this one gives any.
    """
    parts = _USUAL_HEAD.match(data, 0, MAX_HEAD)
    if not parts:
        return None
    method, _, fields = parts.groups()
    lower = fields.lower()
    at = lower.find(b"\nhost:") + 6
    if at < 6 or lower.find(b"\nhost:", at) >= 0 or fields.count(b"\n") >= MAX_LINES - 1 or method == b"CONNECT":
        return None
    end = fields.find(b"\r", at)
    value = fields[at:end] if end >= 0 else fields[at:]
    return RequestHead(method.decode("ascii"), authority_host(value.strip(b" \t")))


class RequestHeadParser:
    """Finds the request head at the start of a byte stream, line by line as it arrives."""

    def __init__(self) -> None:
        self.received = bytearray()
        """Every byte that was fed, also those behind the head."""
        self._line_start = 0
        self._searched = 0
        self._request: tuple[bytes, bytes, bytes] | None = None
        self._lines = 0
        self._host: str | None = None

    def feed(self, data: bytes) -> RequestHead | None:
        """Take the next bytes: the head once it is complete, ``None`` while more is needed.

        Errors: ``ParseError`` when the stream cannot become a head that names at most one host within ``MAX_HEAD``
        bytes and ``MAX_LINES`` lines, of a class of its own where HTTP has a status for the reason. Do not feed again
        after an answer or an error.
        """
        self.received += data
        head = self._advance(min(len(self.received), MAX_HEAD))
        if head is None and len(self.received) >= MAX_HEAD:
            raise HeadTooLarge("request head is too large")
        return head

    def _advance(self, limit: int) -> RequestHead | None:
        """Read complete lines that end before offset ``limit``."""
        if self.received and self.received[0] not in _FIRST_OCTETS:
            # TLS or rubbish need not wait for a line feed that may never come.
            raise ParseError("not an HTTP request")
        while (line_feed := self.received.find(b"\n", self._searched, limit)) >= 0:
            # A lone LF ends a line too (§2.2); a CR anywhere else is refused with the line.
            line = bytes(self.received[self._line_start : line_feed]).removesuffix(b"\r")
            self._line_start = self._searched = line_feed + 1
            self._lines += 1
            if self._lines > MAX_LINES:
                raise HeadTooLarge("request head has too many lines")
            if self._request is None:
                self._request_line(line)
            elif line:
                self._field_line(line)
            else:
                return self._finish(self._request)
        self._searched = max(self._searched, limit)
        return None

    def _request_line(self, line: bytes) -> None:
        if not line:
            return  # empty lines before the request are skipped (§2.2)
        if line == _HTTP2_PREFACE_LINE:
            raise Http2Preface("HTTP/2 without negotiation")
        parts = _REQUEST_LINE.fullmatch(line)
        if not parts:
            if _OTHER_VERSION.fullmatch(line):
                raise VersionNotSupported("not HTTP/1.x")
            raise ParseError("not an HTTP/1.x request line")
        method, target, minor = parts.groups()
        if method == b"CONNECT":
            raise NotImplementedHere("CONNECT is not served")
        self._request = method, target, minor

    def _field_line(self, line: bytes) -> None:
        parts = _FIELD_LINE.fullmatch(line)
        if not parts:
            raise ParseError("not a header field")
        name, value = parts.groups()
        if name.lower() == b"host":
            if self._host is not None:
                raise ParseError("more than one Host field")
            self._host = authority_host(value.strip(b" \t"))

    def _finish(self, request: tuple[bytes, bytes, bytes]) -> RequestHead:
        method, target, minor = request
        if self._host is None and minor != b"0":
            raise ParseError("HTTP/1.1 without a Host field")
        host = self._host or ""
        if target[:1] != b"/" and target != b"*":
            absolute = _ABSOLUTE.fullmatch(target)
            if not absolute:
                raise ParseError("not a request target")
            host = authority_host(absolute.group(1))
            if not host or host != (self._host or host):
                raise ParseError("request target and Host field name different hosts")
        return RequestHead(method.decode("ascii"), host)
