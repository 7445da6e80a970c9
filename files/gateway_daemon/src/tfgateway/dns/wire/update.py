"""Reading an UPDATE message (RFC 2136): zone, prerequisites and updates. Pure.

Not on the path of queries: names and data are read by dnspython, which checks the form of every type that it knows.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name
from tfgateway.dns.wire.query import HEADER
from tfgateway.errors import ParseError

MAX_RECORDS: Final = 1000
"""Records of a message that are looked at."""
_ZONE_TAIL: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_MAX_TTL: Final = 2**31 - 1


class Record(NamedTuple):
    """A record of the prerequisite or update section."""

    name: Name
    type: int
    rrclass: int
    ttl: int
    """Seconds."""
    data: bytes
    """In wire form, names in it uncompressed; empty where the section names no data."""


class Update(NamedTuple):
    """An UPDATE message."""

    zone: Name
    zone_class: int
    prerequisites: tuple[Record, ...]
    updates: tuple[Record, ...]


class TooManyRecords(ParseError):
    """More than are looked at."""


def read(message: bytes) -> Update:
    """The update in a message; its additional section is passed over. Errors: ``ParseError``: FORMERR."""
    if len(message) < HEADER.size:
        raise ParseError("message is too short")
    _, _, zones, prerequisites, updates, _ = HEADER.unpack_from(message)
    if zones != 1:
        raise ParseError("an update is of one zone")
    if prerequisites + updates > MAX_RECORDS:
        raise TooManyRecords(f"more than {MAX_RECORDS} records")
    zone, at = _name(message, HEADER.size)
    if at + _ZONE_TAIL.size > len(message):
        raise ParseError("message ends within the zone section")
    kind, zone_class = _ZONE_TAIL.unpack_from(message, at)
    if kind != codes.SOA:
        raise ParseError("the zone section names no SOA")
    at += _ZONE_TAIL.size
    sections: list[tuple[Record, ...]] = []
    for count in (prerequisites, updates):
        found = []
        for _ in range(count):
            record, at = _record(message, at)
            found.append(record)
        sections.append(tuple(found))
    return Update(zone, zone_class, *sections)


def canonical(kind: int, data: bytes) -> bytes:
    """The data as it is compared: names in it folded (RFC 2136 §1.1, RFC 4034 §6.2). Errors: ``ParseError``."""
    return _parsed(kind, data, 0, len(data)).to_digestable()


def data_text(kind: int, data: bytes) -> str:
    """The data as text (RFC 1035 §5.1). Errors: ``ParseError``."""
    return _parsed(kind, data, 0, len(data)).to_text()


def _record(message: bytes, at: int) -> tuple[Record, int]:
    name, at = _name(message, at)
    if at + _RECORD.size > len(message):
        raise ParseError("message ends within a record")
    kind, rrclass, ttl, length = _RECORD.unpack_from(message, at)
    at += _RECORD.size
    if at + length > len(message):
        raise ParseError("message ends within a record's data")
    if ttl > _MAX_TTL:
        ttl = 0  # RFC 2181 §8
    data = b"" if not length else _parsed(kind, message, at, length).to_wire() or b""
    return Record(name, kind, rrclass, ttl, data), at + length


def _name(message: bytes, at: int) -> tuple[Name, int]:
    try:
        name, used = dns.name.from_wire(message, at)
    except (dns.exception.DNSException, IndexError, struct.error) as error:
        raise ParseError("a name cannot be read") from error
    return names.fold(name.to_wire() or b""), at + used


def _parsed(kind: int, message: bytes, at: int, length: int) -> dns.rdata.Rdata:
    try:
        return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(kind), message, at, length)
    except (dns.exception.DNSException, ValueError, IndexError, struct.error) as error:
        raise ParseError(f"data of type {kind} cannot be read") from error
