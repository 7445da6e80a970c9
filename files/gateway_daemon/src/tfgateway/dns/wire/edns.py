"""The OPT record: EDNS(0), RFC 6891. Pure."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from tfgateway.dns.wire import codes
from tfgateway.errors import ParseError

MIN_UDP: Final = 512
"""Bytes that every client takes (RFC 1035 §4.2.1, RFC 6891 §6.2.3)."""
VERSION: Final = 0

OPT: Final = struct.Struct("!BHHBBHH")
"""Root, type, size, upper bits of the rcode, version, flags, bytes of data."""
_OPTION: Final = struct.Struct("!HH")
_DNSSEC_OK: Final = 0x8000


class Edns(NamedTuple):
    """The content of a query's OPT record."""

    udp_size: int
    """Bytes of UDP payload that the client takes, at least MIN_UDP."""
    version: int
    dnssec_ok: bool
    cookie: bytes | None = None
    """Data of the COOKIE option (RFC 7873 §4), of any length."""
    nsid: bool = False
    """Which server is it? (RFC 5001)"""
    keepalive: bool = False
    """The client would keep the connection (RFC 7828)."""


def read(udp_size: int, ttl: int, data: bytes) -> Edns:
    """From the record's class, TTL and data. Unknown options are ignored (§6.1.2). Errors: ``ParseError``."""
    version = ttl >> 16 & 0xFF
    cookie: bytes | None = None
    nsid = keepalive = False
    if version == VERSION:  # what another version's data looks like is not known
        at = 0
        while at < len(data):
            if at + _OPTION.size > len(data):
                raise ParseError("EDNS option without length")
            code, length = _OPTION.unpack_from(data, at)
            start = at + _OPTION.size
            at = start + length
            if code == codes.OPTION_COOKIE and cookie is None:  # only the first counts (RFC 7873 §5.2)
                cookie = data[start:at]
            elif code == codes.OPTION_NSID:
                nsid = True
            elif code == codes.OPTION_KEEPALIVE:
                keepalive = True
        if at != len(data):
            raise ParseError("EDNS option is longer than its record")
    return Edns(max(udp_size, MIN_UDP), version, bool(ttl & _DNSSEC_OK), cookie, nsid, keepalive)


def option(code: int, data: bytes) -> bytes:
    """One option of an OPT record."""
    return _OPTION.pack(code, len(data)) + data


def reply_record(query: Edns, rcode: int, udp_size: int, options: bytes) -> bytes:
    """The OPT record of a reply: our size, the upper bits of the rcode, DO as it was asked (RFC 3225 §3), options."""
    flags = _DNSSEC_OK if query.dnssec_ok else 0
    return OPT.pack(0, codes.OPT, udp_size, rcode >> 4, VERSION, flags, len(options)) + options
