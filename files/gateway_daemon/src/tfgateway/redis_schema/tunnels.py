"""Values under ``tfgateway:tunnels:``: tunnel clients that a worker of the proxy has. Not known to the old daemon."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple

from tfgateway.errors import SchemaError

_LINE = re.compile(rb"([0-9a-f]{32}) (\d{1,12}) ([0-9a-f.:]{2,45})")


class Connected(NamedTuple):
    """A client that is connected."""

    since: int
    """Seconds since 1970."""
    source: str
    """Its IP literal."""


def fingerprint(secret: str) -> str:
    """The digest that stands for a secret: 32 hex digits. A reader of redis can read the secrets anyway."""
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


def encode_tunnels(clients: Mapping[str, Connected]) -> bytes:
    """Fingerprint -> client, as lines ``b"<fingerprint> 1767225600 203.0.113.7"``."""
    return b"\n".join(f"{name} {client.since} {client.source}".encode() for name, client in clients.items())


def decode_tunnels(raw: bytes) -> dict[str, Connected]:
    """What ``encode_tunnels`` wrote. Errors: ``SchemaError``."""
    clients = {}
    for line in raw.split(b"\n") if raw else ():
        found = _LINE.fullmatch(line)
        if found is None:
            raise SchemaError("tunnels: not a fingerprint, a time and an address")
        try:
            source = str(ipaddress.ip_address(found[3].decode()))
        except ValueError as error:
            raise SchemaError("tunnels: not an IP address") from error
        clients[found[1].decode()] = Connected(int(found[2]), source)
    return clients
