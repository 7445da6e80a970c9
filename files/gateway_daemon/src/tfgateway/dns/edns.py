"""The OPT record: EDNS(0), RFC 6891. Pure."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from tfgateway.dns import codes
from tfgateway.errors import ParseError

MIN_UDP: Final = 512
"""Bytes that every client takes (RFC 1035 §4.2.1, RFC 6891 §6.2.3)."""
OPT_SIZE: Final = 11
"""Bytes of the OPT record of a reply."""
VERSION: Final = 0

_OPT: Final = struct.Struct("!BHHBBHH")
_OPTION: Final = struct.Struct("!HH")
_DNSSEC_OK: Final = 0x8000


class Edns(NamedTuple):
    """What the OPT record of a query says."""

    udp_size: int
    """Bytes of UDP payload that the client takes, at least MIN_UDP."""
    version: int
    dnssec_ok: bool


def read(udp_size: int, ttl: int, data: bytes) -> Edns:
    """From the record's class, TTL and data. Unknown options are ignored (§6.1.2). Errors: ``ParseError``."""
    version = ttl >> 16 & 0xFF
    if version == VERSION:  # what another version's data looks like is not known
        at = 0
        while at < len(data):
            if at + _OPTION.size > len(data):
                raise ParseError("EDNS option without length")
            _, length = _OPTION.unpack_from(data, at)
            at += _OPTION.size + length
        if at != len(data):
            raise ParseError("EDNS option is longer than its record")
    return Edns(max(udp_size, MIN_UDP), version, bool(ttl & _DNSSEC_OK))


def reply_record(query: Edns, rcode: int, udp_size: int) -> bytes:
    """The OPT record of a reply: our size, the upper bits of the rcode, DO as it was asked (RFC 3225 §3)."""
    flags = _DNSSEC_OK if query.dnssec_ok else 0
    return _OPT.pack(0, codes.OPT, udp_size, rcode >> 4, VERSION, flags, 0)
