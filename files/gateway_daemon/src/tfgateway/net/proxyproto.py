"""The PROXY protocol, versions 1 and 2: the visitor's address, for a target or from a trusted balancer (T-18).

https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass

from tfgateway.errors import ParseError
from tfgateway.net.addresses import IPAddress, plain

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # §2.2
_V1_START = b"PROXY "
_V1_LONGEST = 107  # §2.1, the line with its CR LF
_V2_LONGEST = 2048  # bytes behind the first 16: addresses and what else a balancer may add
_V1_LINE = re.compile(rb"PROXY (?:(UNKNOWN)(?: [^\r\n]*)?|TCP([46]) (\S+) (\S+) ([0-9]{1,5}) ([0-9]{1,5}))\r\n")
_LOCAL, _PROXY = 0, 1
_FORMS = {0x11: "!4s4sHH", 0x21: "!16s16sHH"}  # TCP over IPv4, over IPv6
_FAMILY = {4: 0x11, 6: 0x21}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Both ends of the visitor's connection: IP literals, IPv4 never inside IPv6, and ports."""

    source: str
    source_port: int
    destination: str
    destination_port: int


def encode(version: int, addresses: Addresses | None) -> bytes:
    """The header to be sent before anything else; ``version``: 1 or 2; ``addresses``: None: they are not known."""
    if addresses is None:
        return b"PROXY UNKNOWN\r\n" if version == 1 else _SIGNATURE + struct.pack("!BBH", 0x20 | _LOCAL, 0, 0)
    source, destination = ipaddress.ip_address(addresses.source), ipaddress.ip_address(addresses.destination)
    if source.version != destination.version:
        # A header has one family, and a balancer gave the two ends different ones.
        source, destination = _as_ipv6(source), _as_ipv6(destination)
    ports = addresses.source_port, addresses.destination_port
    if version == 1:
        line = f"PROXY TCP{source.version} {source} {destination} {ports[0]} {ports[1]}\r\n"
        return line.encode("ascii")
    packed = source.packed + destination.packed + struct.pack("!HH", *ports)
    return _SIGNATURE + struct.pack("!BBH", 0x20 | _PROXY, _FAMILY[source.version], len(packed)) + packed


def _as_ipv6(address: IPAddress) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(f"::ffff:{address}") if address.version == 4 else ipaddress.IPv6Address(int(address))


@dataclass(frozen=True, slots=True)
class Announced:
    """A header that was read."""

    addresses: Addresses | None
    """None: the sender is the client itself (a health check), or does not know."""
    length: int
    """Bytes of the header: the visitor's own bytes follow."""


def read(data: bytes | bytearray) -> Announced | None:
    """The header at the start of ``data``; None while more is needed. Errors: ``ParseError``."""
    if data[:1] == _SIGNATURE[:1]:
        return _read_v2(bytes(data))
    return _read_v1(bytes(data[:_V1_LONGEST]))


def _read_v1(data: bytes) -> Announced | None:
    if data[: len(_V1_START)] != _V1_START[: len(data)]:
        raise ParseError("no PROXY header")
    end = data.find(b"\n") + 1
    if not end:
        if len(data) >= _V1_LONGEST:
            raise ParseError("PROXY line without end")
        return None
    parts = _V1_LINE.fullmatch(data[:end])
    if not parts:
        raise ParseError("not a PROXY line")
    unknown, family, source, destination, source_port, destination_port = parts.groups()
    if unknown:
        return Announced(None, end)
    ends = _literal(source, family), _literal(destination, family)
    return Announced(_addresses(*ends, _port(source_port), _port(destination_port)), end)


def _addresses(source: IPAddress, destination: IPAddress, source_port: int, destination_port: int) -> Addresses:
    """IPv4 inside IPv6 (RFC 4291 §2.5.5.2), as a balancer with one socket for both announces it, is IPv4."""
    return Addresses(plain(str(source)), source_port, plain(str(destination)), destination_port)


def _literal(raw: bytes, family: bytes) -> IPAddress:
    kind = ipaddress.IPv4Address if family == b"4" else ipaddress.IPv6Address
    try:
        address = kind(raw.decode("ascii"))
    except ValueError:
        raise ParseError("not an address of the family in the PROXY line") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise ParseError("an address with a zone in the PROXY line")
    return address


def _port(raw: bytes) -> int:
    port = int(raw)
    if port > 65535:
        raise ParseError("not a port in the PROXY line")
    return port


def _read_v2(data: bytes) -> Announced | None:
    if data[:12] != _SIGNATURE[: len(data[:12])]:
        raise ParseError("no PROXY header")
    if len(data) < 16:
        return None
    version, family, length = struct.unpack_from("!BBH", data, 12)
    if version not in (0x20 | _LOCAL, 0x20 | _PROXY):
        raise ParseError("not version 2 of the PROXY protocol")
    if length > _V2_LONGEST:
        raise ParseError("PROXY header is too large")
    end = 16 + length
    if len(data) < end:
        return None
    if version == 0x20 | _LOCAL or family not in _FORMS:
        return Announced(None, end)  # §2.2: LOCAL, UNSPEC and unknown ones are accepted, the addresses skipped
    form = _FORMS[family]
    if length < struct.calcsize(form):
        raise ParseError("PROXY header is cut short")
    source, destination, source_port, destination_port = struct.unpack_from(form, data, 16)
    ends = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    return Announced(_addresses(*ends, source_port, destination_port), end)
