"""WireGuard peers of 4to6: the hash ``tfgateway:peers``. Not known to the old daemon.

One field a user, so that nobody can have two keys (P-18).
"""

from __future__ import annotations

from dataclasses import dataclass

from tfgateway.errors import SchemaError
from tfgateway.ids import Tid
from tfgateway.wireguard_key import decode_key

_LONGEST_TID = 19  # a signed 64-bit integer


@dataclass(frozen=True, slots=True)
class Peer:
    """A user as a WireGuard peer."""

    tid: Tid
    public_key: bytes
    """32 bytes."""


def decode_peer(name: bytes, raw: bytes) -> Peer:
    """A field and its value. Errors: ``SchemaError``."""
    if not (name.isdigit() and len(name) <= _LONGEST_TID):
        raise SchemaError("peer: the field is not a user's tid")
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        raise SchemaError("not a WireGuard key: it is not base64") from None
    return Peer(Tid(name.decode("ascii")), decode_key(text))
