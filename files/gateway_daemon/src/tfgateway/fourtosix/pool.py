"""Keys and addresses of 4to6, all of them derived from the gateway's seed. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Interface
from typing import Literal

import nacl.bindings

from tfgateway.ids import Tid

PREFIX_LENGTH = 64

KeySource = Literal["seed", "derived"]
"""``seed``: the seed itself is the private key, as users of the old gateway know it. ``derived``: a key that reveals
nothing about the seed (C-3)."""

_DERIVED = b"tfgateway-4to6"  # C-6: a prefix that no other use of the seed has; 16 bytes at most
_HALF = 8


@dataclass(frozen=True, slots=True)
class AddressPool:
    """The keys and addresses of one gateway."""

    seed: bytes = field(repr=False)
    """32 bytes; secret."""
    key_source: KeySource = "seed"

    @property
    def private_key(self) -> bytes:
        """The Curve25519 scalar of the interface, not clamped: WireGuard does that. Secret."""
        if self.key_source == "derived":
            return hashlib.blake2b(key=self.seed, person=_DERIVED, digest_size=32).digest()
        return self.seed

    @property
    def public_key(self) -> bytes:
        """X25519 of the clamped private key: not the converted ed25519 key of sealed secrets."""
        return nacl.bindings.crypto_scalarmult_base(self.private_key)

    @property
    def gateway(self) -> IPv6Interface:
        """The gateway's own address, ``::1`` of the subnet."""
        return IPv6Interface((int.from_bytes(self._prefix() + bytes(7) + b"\1"), PREFIX_LENGTH))

    def address_of(self, tid: Tid) -> IPv6Address:
        """The one address of a user, whatever the number of their reservations."""
        return IPv6Address(self._prefix() + _md5(self.seed + tid.encode())[:_HALF])

    def _prefix(self) -> bytes:
        return b"\xfd" + _md5(self.seed)[: _HALF - 1]


def _md5(data: bytes) -> bytes:
    # Spreads what is secret or random already; no attacker gains by a collision (C-5).
    return hashlib.md5(data, usedforsecurity=False).digest()
