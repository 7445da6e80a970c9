"""Public keys of WireGuard peers as text. Pure."""

from __future__ import annotations

import base64
import binascii

from tfgateway.errors import SchemaError

KEY_SIZE = 32


def encode_key(key: bytes) -> str:
    """Standard base64, as WireGuard writes keys."""
    return base64.b64encode(key).decode("ascii")


def decode_key(text: str) -> bytes:
    """32 bytes from standard base64 with padding. Errors: ``SchemaError``.

    The last digit has two bits that belong to nothing: several texts are one key, so compare keys, never texts.
    """
    try:
        key = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise SchemaError("not a WireGuard key: it is not base64") from None
    if len(key) != KEY_SIZE:
        raise SchemaError(f"not a WireGuard key: it has {len(key)} bytes, not {KEY_SIZE}")
    if not any(key):
        raise SchemaError("not a WireGuard key: it is all zeros, which to WireGuard means no key")
    return key
