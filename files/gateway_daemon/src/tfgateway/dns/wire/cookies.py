"""Where a DNS cookie is made and checked: which clients have proved their address (RFC 7873, RFC 9018). Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hmac import compare_digest
from typing import Final, Literal, NamedTuple

from nacl.bindings import crypto_shorthash_siphash24

SECRET_SIZE: Final = 16
"""Bytes of a server secret (RFC 9018 §4.4)."""
CLIENT_SIZE: Final = 8
SIZE: Final = 24
"""Bytes of the COOKIE option of a reply: the client's part and ours."""
_SIZES: Final = frozenset({CLIENT_SIZE, *range(16, 41)})
"""Lengths that RFC 7873 §4 allows."""
_HEAD: Final = struct.Struct("!B3xI")
_VERSION: Final = 1
_MAX_AGE: Final = 3600
_RENEWED_AT: Final = 1800
_MAX_AHEAD: Final = 300
_SERIALS: Final = 2**32

Outcome = Literal["valid", "client", "bad"]
"""``valid``: ours, made for this address; ``client``: only the client's part; ``bad``: too old, of another server, or
made up."""


class Checked(NamedTuple):
    """The outcome of checking a COOKIE option."""

    outcome: Outcome
    reply: bytes
    """The data of the reply's COOKIE option: the same again, as long as it need not be renewed."""


def is_wellformed(option: bytes) -> bool:
    """Whether the data of the option has an allowed length. If not, the query is malformed (RFC 7873 §5.2.2)."""
    return len(option) in _SIZES


class Cookies:
    """Makes and checks server cookies without a memory of clients."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Sequence[bytes]) -> None:
        """secrets: of SECRET_SIZE bytes; the first one makes cookies, all are accepted (RFC 9018 §5)."""
        self._secrets = tuple(secrets)

    def check(self, option: bytes, client: bytes, now: int) -> Checked:
        """option: well-formed data of a COOKIE option; client: packed address; now: Unix seconds."""
        outcome: Outcome = "client"
        if len(option) > CLIENT_SIZE:
            outcome = "bad"
            if len(option) == SIZE and option[CLIENT_SIZE] == _VERSION:
                age = (now - int.from_bytes(option[12:16], "big") + _MAX_AHEAD) % _SERIALS - _MAX_AHEAD
                if age <= _MAX_AGE:
                    for secret in self._secrets:
                        if compare_digest(_hash(option[:16], client, secret), option[16:]):
                            if age < _RENEWED_AT and secret is self._secrets[0]:
                                return Checked("valid", option)
                            outcome = "valid"
                            break
        start = option[:CLIENT_SIZE] + _HEAD.pack(_VERSION, now % _SERIALS)
        return Checked(outcome, start + _hash(start, client, self._secrets[0]))


def renewed_at(option: bytes) -> int:
    """Unix seconds until which a valid cookie is repeated unchanged."""
    return int.from_bytes(option[12:16], "big") + _RENEWED_AT


def _hash(start: bytes, client: bytes, secret: bytes) -> bytes:
    """RFC 9018 §4.4: of client cookie, version, reserved bytes, timestamp and address."""
    digest: bytes = crypto_shorthash_siphash24(start + client, secret)
    return digest
