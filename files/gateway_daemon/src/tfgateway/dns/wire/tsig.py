"""Transaction signatures (RFC 8945): verifies queries and signs responses. Pure.

Never on the path of ordinary queries: secondaries and users alone sign. The digests are dnspython's; the record around
them is read and written here, for messages that are bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import dns.exception
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.tsig

from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.errors import ParseError

ALGORITHMS: Final = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1")
_FUDGE: Final = 300
"""Seconds that clocks may differ (RFC 8945 §10)."""
_BADSIG, _BADKEY, _BADTIME = 16, 17, 18
_HEAD: Final = struct.Struct("!HHIH")
_ARCOUNT: Final = slice(10, 12)
_OTHER_SIZE: Final = 6

Keys = Mapping[Name, dns.tsig.Key]
"""Name of a key -> the key."""


class TsigContext:
    """A signed request and the messages that answer it."""

    def __init__(self, key: dns.tsig.Key, rdata: dns.rdtypes.ANY.TSIG.TSIG, error: int) -> None:
        self._key = key
        self._rdata = rdata
        self._error = error
        self._context: object = None
        size = dns.tsig.mac_sizes[key.algorithm] if error in (0, _BADTIME) else 0
        self.outcome = {0: "valid", _BADSIG: "badsig", _BADKEY: "badkey", _BADTIME: "badtime"}[error]
        """What the metric calls it."""
        self.size = len(key.name.to_wire() or b"") + _HEAD.size + len(key.algorithm.to_wire() or b"") + 16 + size
        """Bytes that ``sign`` adds at most to one message."""
        if error == _BADTIME:
            self.size += _OTHER_SIZE

    @property
    def rcode(self) -> int:
        """NOERROR: the request is signed with a known key."""
        return codes.NOTAUTH if self._error else codes.NOERROR

    @property
    def key(self) -> Name:
        """Name of the key that the request was signed with; empty: it was not."""
        return names.NONE if self._error else names.fold(self._key.name.to_wire() or b"")

    @property
    def mac(self) -> bytes:
        """The request's signature."""
        return bytes(self._rdata.mac)

    def sign(self, message: bytes, now: int) -> bytes:
        """The message with its TSIG record; the first one answers the request, those after it the one before."""
        other = now.to_bytes(_OTHER_SIZE, "big") if self._error == _BADTIME else b""
        time = self._rdata.time_signed if self._error else now
        rdata = self._rdata.replace(time_signed=time, fudge=_FUDGE, error=self._error, other=other, mac=b"")
        if self._error in (0, _BADTIME):
            rdata, self._context = dns.tsig.sign(  # type: ignore[no-untyped-call]
                message, self._key, rdata, time, self._rdata.mac, self._context, multi=not self._error
            )
        data = rdata.to_wire() or b""
        owner = self._key.name.to_wire() or b""
        count = int.from_bytes(message[_ARCOUNT], "big") + 1
        record = owner + _HEAD.pack(codes.TSIG, codes.CLASS_ANY, 0, len(data)) + data
        return message[:10] + count.to_bytes(2, "big") + message[12:] + record


def algorithm(message: bytes, at: int) -> str:
    """The algorithm that the TSIG record at ``at`` names, such as ``hmac-sha256``. Errors: ``ParseError``."""
    start = names.read(message, at) + _HEAD.size
    return names.to_text(names.fold(message[start : names.read(message, start)])).decode("ascii").rstrip(".")


def verify(message: bytes, at: int, keys: Keys, now: int) -> TsigContext:
    """The session of a request whose last record, at ``at``, is a TSIG; now: Unix seconds. Errors: ``ParseError``."""
    end = names.read(message, at)
    if end + _HEAD.size > len(message):
        raise ParseError("message ends within the TSIG record")
    _, rrclass, ttl, length = _HEAD.unpack_from(message, end)
    if rrclass != codes.CLASS_ANY or ttl:
        raise ParseError("TSIG record is not of class ANY with TTL 0")
    name = dns.name.from_wire(message, at)[0]
    try:
        rdata = dns.rdata.from_wire(dns.rdataclass.ANY, dns.rdatatype.TSIG, message, end + _HEAD.size, length)
    except dns.exception.DNSException as error:
        raise ParseError("TSIG record cannot be read") from error
    assert isinstance(rdata, dns.rdtypes.ANY.TSIG.TSIG)  # noqa: S101 - the type that was asked for
    key = keys.get(names.fold(message[at:end]))
    if key is None or key.algorithm != rdata.algorithm:
        return TsigContext(dns.tsig.Key(name, b"", rdata.algorithm), rdata, _BADKEY)
    if rdata.original_id != int.from_bytes(message[:2], "big"):
        message = rdata.original_id.to_bytes(2, "big") + message[2:]
    try:
        dns.tsig.validate(message, key, key.name, rdata, now, b"", at)  # type: ignore[no-untyped-call]
    except dns.tsig.BadTime:
        return TsigContext(key, rdata, _BADTIME)
    except (dns.tsig.BadSignature, dns.tsig.PeerError, dns.exception.FormError):
        return TsigContext(key, rdata, _BADSIG)
    # However much its sender allows for: what is remembered of signatures is of no more time than this.
    return TsigContext(key, rdata, 0 if abs(rdata.time_signed - now) <= _FUDGE else _BADTIME)
