"""WireGuard peers of 4to6: the hash ``tfgateway:peers``. Not known to the old daemon.

One field a user, so that nobody can have two keys (P-18).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from tfgateway.errors import LayoutError
from tfgateway.ids import Tid

KEY_SIZE = 32
_LONGEST_TID = 19  # a signed 64-bit integer


@dataclass(frozen=True, slots=True)
class Peer:
    """A user as a WireGuard peer."""

    tid: Tid
    public_key: bytes
    """32 bytes."""


def encode_key(key: bytes) -> str:
    """Standard base64, as WireGuard writes keys."""
    return base64.b64encode(key).decode("ascii")


def decode_key(text: str) -> bytes:
    """32 bytes from standard base64 with padding. Errors: ``LayoutError``.

    The last digit has two bits that belong to nothing: several texts are one key, so compare keys, never texts.
    """
    try:
        key = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise LayoutError("not a WireGuard key: it is not base64") from None
    if len(key) != KEY_SIZE:
        raise LayoutError(f"not a WireGuard key: it has {len(key)} bytes, not {KEY_SIZE}")
    return key


def decode_peer(name: bytes, raw: bytes) -> Peer:
    """A field and its value. Errors: ``LayoutError``."""
    if not (name.isdigit() and len(name) <= _LONGEST_TID):
        raise LayoutError("peer: the field is not a user's tid")
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        raise LayoutError("not a WireGuard key: it is not base64") from None
    return Peer(Tid(name.decode("ascii")), decode_key(text))
