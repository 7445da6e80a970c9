"""How long the texts and lists of a posted object may be, for all endpoints: what is stored is sent to many. Pure."""

from __future__ import annotations

from types import MappingProxyType

import msgspec

_TEXT = 4096  # bytes; the longest that clients send are error messages and tunnel secrets in hex, below 1000
_TEXTS = MappingProxyType(
    {
        "json": 16 * 1024,  # a pool's order with a hundred gateways
        "data_json": 16 * 1024,  # a gateway's answer, in which a 4to6 peer takes 200
        "payload": 64 * 1024,  # verified and not stored
    }
)
_ITEMS = 100  # addresses, managed domains, gateways of a pool, signers, wallets


def problem(posted: msgspec.Struct) -> str | None:
    """Which member of a posted object is too long, or not storable; None when none is."""
    for name in posted.__struct_fields__:
        value = getattr(posted, name)
        members = value if isinstance(value, tuple) else (value,)
        if len(members) > _ITEMS:
            return f"{name} has more than {_ITEMS} items"
        most = _TEXTS.get(name, _TEXT)
        for member in members:
            if isinstance(member, str | bytes) and _size(member) > most:
                return f"{name} is longer than {most} bytes"
            if isinstance(member, str) and "\0" in member:
                return f"{name} has a NUL character"  # which PostgreSQL does not store
            if isinstance(member, msgspec.Struct) and (inner := problem(member)):
                return f"{name}: {inner}"
    return None


def _size(text: str | bytes) -> int:
    return len(text.encode()) if isinstance(text, str) else len(text)
