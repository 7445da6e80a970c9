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

    def added(self, data: bytes, host: str) -> bytes | None:
        """The head at the start of ``data`` with the field behind the request line; None: it was here before.

        The host is part of the field's value: a service may use another one of the same gateway. Other such fields
        stay: it is a list.
        """
        token = b"%b%08x" % (self._prefix, zlib.crc32(host.encode()))
        if token in data and _has_field(data, token):
            return None
        end = data.index(b"\n") + 1
        if end < 3:  # empty lines before the request
            end = data.index(b"\n", len(data) - len(data.lstrip(b"\r\n"))) + 1
        return b"%bCDN-Loop: %b\r\n%b" % (data[:end], token, data[end:])


def _has_field(data: bytes, token: bytes) -> bool:
    head = _HEAD_END.split(data.lstrip(b"\r\n"), maxsplit=1)[0]
    return any(token in line and line[: len(b"cdn-loop:")].lower() == b"cdn-loop:" for line in head.split(b"\n"))
