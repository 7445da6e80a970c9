"""CDN-Loop (RFC 8586): a request that has been here for the same host is refused, however it came back. Sans-IO."""

from __future__ import annotations

import re
import zlib
from hashlib import blake2s

_HEAD_END = re.compile(rb"\r?\n\r?\n")


class CdnLoop:
    """The field that this gateway adds to the first request of a connection, and looks for."""

    def __init__(self, key: bytes) -> None:
        """``key``: a secret that all workers of one gateway have, and no other gateway."""
        self._prefix = b"tfgateway-" + blake2s(key, digest_size=8, person=b"cdn-loop").hexdigest().encode() + b"-"

    def has(self, data: bytes, host: str) -> bool:
        """Whether the head at the start of ``data`` says that a request for ``host`` has been here."""
        token = self._token(host)
        if token not in data:
            return False
        head = _HEAD_END.split(data.lstrip(b"\r\n"), maxsplit=1)[0]
        return any(token in line and line[: len(b"cdn-loop:")].lower() == b"cdn-loop:" for line in head.split(b"\n"))

    def added(self, data: bytes, host: str) -> bytes:
        """``data`` with the field behind the request line. Others that are there stay: it is a list."""
        start = len(data) - len(data.lstrip(b"\r\n"))
        end = data.index(b"\n", start) + 1
        return b"%bCDN-Loop: %b\r\n%b" % (data[:end], self._token(host), data[end:])

    def _token(self, host: str) -> bytes:
        """The host is part of it: a service may use another one of the same gateway."""
        return b"%b%08x" % (self._prefix, zlib.crc32(host.encode()))
