"""The handshake of a client on the first stream of its session: its secret. Sans-IO."""

from __future__ import annotations

from tfgateway.errors import ParseError

_MAGIC = b"\x11\x11"
_HEAD = 4
MAX_SECRET = 65_519
"""Bytes: with its head it has to fit into one frame of an old client."""


def encode_handshake(secret: bytes) -> bytes:
    """The bytes to send, all of them in one data frame (T-14). Errors: ``ValueError``."""
    if not 1 <= len(secret) <= MAX_SECRET:
        raise ValueError(f"a secret has 1 to {MAX_SECRET} bytes")
    return _MAGIC + len(secret).to_bytes(2) + secret


class HandshakeParser:
    """Finds the secret, in any number of pieces; neither fewer nor more bytes than announced are taken (T-14)."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes | memoryview) -> bytes | None:
        """Take the next bytes: the secret once it is complete, ``None`` while more is needed.

        Errors: ``ParseError``, without any part of the secret in its text (T-13).
        """
        self._received += data
        if not _MAGIC.startswith(self._received[: len(_MAGIC)]):
            raise ParseError("handshake: wrong magic")
        if len(self._received) < _HEAD:
            return None
        length = int.from_bytes(self._received[2:_HEAD])
        if not 1 <= length <= MAX_SECRET:
            raise ParseError(f"handshake: a secret of {length} bytes")
        found = len(self._received) - _HEAD
        if found > length:
            raise ParseError("handshake: more bytes than announced")
        return bytes(self._received[_HEAD:]) if found == length else None
