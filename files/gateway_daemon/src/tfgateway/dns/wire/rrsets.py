"""Resource records, rendered once: what a decoded element of the layout is on the wire. Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple, NewType

from tfgateway.dns.wire import codes, names
from tfgateway.dns.wire.names import Name, WireName
from tfgateway.errors import ParseError
from tfgateway.redis_schema.records import Address, Caa, Host, Mx, RecordSet, Soa, Srv, Text
from tfgateway.redis_schema.resource_records import ResourceRecord

_HEAD: Final = struct.Struct("!HHIH")
_ONE_ADDRESS: Final = _HEAD.size + 4
_OWNER: Final = 2
"""Bytes of the pointer to a record's owner in a message."""
MAX_DATA: Final = 64_000
"""Bytes that fit into one message (RFC 1035 §4.2.2) with names, OPT and signature."""
_ADDRESS_SIZES: Final = {codes.A: 4, codes.AAAA: 16}
_MAX_TTL: Final = 2**31 - 1  # RFC 2181 §8
_TTL_OF_NOTHING: Final = 360  # as the original serves what has neither a stored nor a configured one
_STRING: Final = 255  # RFC 1035 §3.3: longest <character-string>

TARGET_AT: Final = {codes.NS: 10, codes.CNAME: 10, codes.MX: 12, codes.SRV: 16}
"""Where the name of another host stands in the body of a record."""
_SERIAL_FROM_END: Final = 20
_MINIMUM_FROM_END: Final = 4

# Values of a synthesised SOA, seconds.
_REFRESH, _RETRY, _EXPIRE, _MINIMUM = 86_400, 7_200, 3_600_000, 300


Packed = NewType("Packed", bytes)
"""All records of a name without their owner, one after the other: they contain their types and lengths."""


class RRset(NamedTuple):
    """Records of one name and type (RFC 2181 §5): one TTL, no duplicates, in the stored order."""

    type: int
    bodies: tuple[bytes, ...]
    """Each record without its owner: type, class, TTL, length, data. Names in the data are not compressed."""
    targets: tuple[Name, ...] = ()
    """For the types of TARGET_AT: the name in each body."""


def pack(rrsets: Iterable[RRset]) -> Packed:
    """For ``unpack``."""
    return Packed(b"".join([body for rrset in rrsets for body in rrset.bodies]))


def unpack(packed: Packed) -> tuple[RRset, ...]:
    """What was packed."""
    if len(packed) == _ONE_ADDRESS and packed[1] == codes.A and not packed[0]:
        return (RRset(codes.A, (packed,)),)
    found: dict[int, list[bytes]] = {}
    at, end = 0, len(packed)
    while at < end:
        kind = int.from_bytes(packed[at : at + 2], "big")
        size = _HEAD.size + int.from_bytes(packed[at + 8 : at + 10], "big")
        found.setdefault(kind, []).append(packed[at : at + size])
        at += size
    return tuple([RRset(kind, tuple(bodies), _targets(kind, bodies)) for kind, bodies in found.items()])


def _targets(kind: int, bodies: Iterable[bytes]) -> tuple[Name, ...]:
    at = TARGET_AT.get(kind)
    return () if at is None else tuple([names.fold(body[at:]) for body in bodies])


class ZonePolicy(NamedTuple):
    """Settings that hold for all zones."""

    ttl: int
    """Ceiling and default of TTLs in seconds; 0: none."""
    name_servers: tuple[WireName, ...]
    """Names of the servers of zones that do not name their own; at least one."""
    rname: WireName = names.NONE
    """Mailbox in the SOA of zones that have none of their own; empty: ``hostmaster`` in the zone."""


def served_ttl(stored: int, ceiling: int) -> int:
    """The TTL rule of the original, within what RFC 2181 §8 allows."""
    if not stored or not ceiling:
        return min(stored or ceiling or _TTL_OF_NOTHING, _MAX_TTL)
    return min(stored, ceiling)


@lru_cache(maxsize=64)
def address_head(stored: int, ceiling: int) -> bytes:
    """The part of an A record that precedes the address. stored, ceiling: see ``served_ttl``."""
    return _HEAD.pack(codes.A, codes.CLASS_IN, served_ttl(stored, ceiling), 4)


def render(records: RecordSet, ttl: int) -> tuple[list[RRset], list[str]]:
    """The RRsets of a name but for its SOA, and one line for each element that DNS cannot carry.

    ttl: see ``ZonePolicy``.
    """
    problems: list[str] = []
    rrsets = []
    for kind, elements, encode in (
        (codes.A, records.a, _ipv4),
        (codes.AAAA, records.aaaa, _ipv6),
        (codes.CNAME, records.cname, _host),
        (codes.NS, records.ns, _host),
        (codes.MX, records.mx, _mx),
        (codes.TXT, records.txt, _txt),
        (codes.SRV, records.srv, _srv),
        (codes.CAA, records.caa, _caa),
    ):
        if elements:
            rrset = _rrset(kind, elements, encode, ttl, problems)
            if rrset.bodies:
                rrsets.append(rrset)
    return rrsets, problems


def merge(rrsets: list[RRset], added: Iterable[ResourceRecord], ceiling: int) -> tuple[list[RRset], list[str]]:
    """RRsets of a name with records that a user added, and one line for each that is not served.

    ceiling: of TTLs, see ``ZonePolicy``; unlike a stored 0 of the old layout, a user's 0 means 0.
    """
    problems: list[str] = []
    data: dict[int, dict[bytes, None]] = {}
    ttls: dict[int, int] = {}
    for rrset in rrsets:
        data[rrset.type] = {body[_HEAD.size :]: None for body in rrset.bodies}
        ttls[rrset.type] = int.from_bytes(rrset.bodies[0][4:8], "big")
    kept = {rrset.type for rrset in rrsets}
    for record in added:
        wire, kind = record.wire, record.type
        # What a reservation made afterwards is served; it is not for an older update to hide it.
        if kept and (kind == codes.CNAME or codes.CNAME in kept):
            problems.append(f"{codes.type_name(kind)}: an alias has no other records (RFC 1034 §3.6.2)")
            continue
        known = data.get(kind, {})
        if (reason := _unservable(kind, wire)) or (reason := _too_many(kind, wire, known)):
            problems.append(f"{codes.type_name(kind)}: {reason}")
            continue
        data.setdefault(kind, {})[wire] = None
        ttl = min(record.ttl, ceiling) if ceiling else record.ttl
        ttls[kind] = min(ttl, ttls.get(kind, _MAX_TTL))
    merged = []
    for kind, found in data.items():
        bodies = tuple(_body(kind, ttls[kind], item) for item in found)
        merged.append(RRset(kind, bodies, _targets(kind, bodies)))
    return merged, problems


def _unservable(kind: int, data: bytes) -> str:
    """Why data of a type cannot be served; empty: it can."""
    if kind in (codes.SOA, codes.OPT) or codes.TSIG - 1 <= kind <= codes.ANY:
        return "is no record of a user's"
    if len(data) != _ADDRESS_SIZES.get(kind, len(data)):
        return "address of another length"
    at = TARGET_AT.get(kind)
    if at is not None:
        try:
            if names.read(data, at - _HEAD.size) == len(data):
                return ""
        except ParseError:
            pass
        return "a name that cannot be read"
    return ""


def _too_many(kind: int, data: bytes, known: Iterable[bytes]) -> str:
    """Why it does not go with what the name has already; empty: it does."""
    sizes = [len(item) + _HEAD.size + _OWNER for item in known if item != data]
    if kind == codes.CNAME and sizes:
        return "more than one; only the first is served (RFC 2181 §10.1)"
    return "" if sum(sizes) + len(data) <= MAX_DATA else "more records than fit into one message"


def render_soa(stored: Soa | None, zone: Name, policy: ZonePolicy) -> tuple[RRset, list[str]]:
    """The SOA of ``zone`` with serial 0: as stored, synthesised when that is absent or unusable (D-1)."""
    if stored is not None:
        try:
            mname = names.from_text(stored.ns.encode())
            rname = names.from_text(stored.mbox.encode()) if stored.mbox else policy.rname or _hostmaster(zone)
        except ParseError as error:
            return render_soa(None, zone, policy)[0], [f"soa: {error}"]
        ttl, timers = stored.ttl, (stored.refresh, stored.retry, stored.expire, stored.minttl)
    else:
        mname, rname = policy.name_servers[0], policy.rname or _hostmaster(zone)
        ttl, timers = 0, (_REFRESH, _RETRY, _EXPIRE, _MINIMUM)
    data = mname + rname + struct.pack("!5I", 0, *timers)
    return RRset(codes.SOA, (_body(codes.SOA, served_ttl(ttl, policy.ttl), data),)), []


def render_name_servers(policy: ZonePolicy) -> RRset:
    """The NS records of a zone that does not name its own servers (D-1)."""
    ttl = served_ttl(0, policy.ttl)
    hosts = dict.fromkeys(policy.name_servers)
    bodies = tuple(_body(codes.NS, ttl, host) for host in hosts)
    return RRset(codes.NS, bodies, tuple(names.fold(host) for host in hosts))


def with_serial(soa: RRset, serial: int) -> RRset:
    """The same SOA with another serial."""
    body = soa.bodies[0]
    at = len(body) - _SERIAL_FROM_END
    return RRset(codes.SOA, (body[:at] + serial.to_bytes(4, "big") + body[at + 4 :],))


def for_denial(soa: RRset) -> RRset:
    """The SOA as it goes with NXDOMAIN and NODATA: TTL min(SOA TTL, minimum) (RFC 2308 §3)."""
    body = soa.bodies[0]
    ttl = min(body[4:8], body[-_MINIMUM_FROM_END:])  # big endian: bytes compare as the numbers do
    return RRset(codes.SOA, (body[:4] + ttl + body[8:],))


def chaos_text(text: bytes) -> RRset:
    """A TXT record of class CHAOS, never to be cached. text: at most 255 bytes."""
    data = b"%c%b" % (len(text), text)
    return RRset(codes.TXT, (_HEAD.pack(codes.TXT, codes.CLASS_CH, 0, len(data)) + data,))


def _rrset(
    kind: int, elements: Iterable[Any], encode: Callable[[Any], bytes], ceiling: int, problems: list[str]
) -> RRset:
    """One RRset: unusable elements and duplicates left out, the smallest TTL for all (RFC 2181 §5.2)."""
    data: dict[bytes, None] = {}
    ttl = _MAX_TTL
    for element in elements:
        try:
            encoded = encode(element)
            if len(encoded) > MAX_DATA:
                raise ParseError("more data than a record can hold")
        except ParseError as error:
            problems.append(f"{codes.type_name(kind)}: {error}")
            continue
        data[encoded] = None
        # D-13: CAA elements have no TTL of their own, the normal rule gives the default.
        ttl = min(ttl, served_ttl(getattr(element, "ttl", 0), ceiling))
    if kind == codes.CNAME and len(data) > 1:
        problems.append("cname: more than one; only the first is served (RFC 2181 §10.1)")
        data = dict.fromkeys(list(data)[:1])
    if (size := sum(len(item) + _HEAD.size + _OWNER for item in data)) > MAX_DATA:
        problems.append(f"{codes.type_name(kind)}: {size} bytes of records, which no message can carry")
    bodies = tuple(_body(kind, ttl, item) for item in data)
    return RRset(kind, bodies, _targets(kind, bodies))


def _body(kind: int, ttl: int, data: bytes) -> bytes:
    return _HEAD.pack(kind, codes.CLASS_IN, ttl, len(data)) + data


def _hostmaster(zone: Name) -> bytes:
    name = b"\x0ahostmaster" + zone
    return name if len(name) <= names.MAX_NAME else zone


def _ipv4(element: Address) -> bytes:
    return bytes(map(int, element.ip.split(".")))  # the layout has checked it; ipaddress would do so again, slowly


def _ipv6(element: Address) -> bytes:
    return ipaddress.IPv6Address(element.ip).packed


def _host(element: Host) -> bytes:
    return names.from_text(element.host.encode())


def _mx(element: Mx) -> bytes:
    return element.preference.to_bytes(2, "big") + names.from_text(element.host.encode())


def _txt(element: Text) -> bytes:
    """D-15: the bytes as they are, in strings of 255, without an empty one at the end."""
    text = element.text.encode()
    parts = [text[at : at + _STRING] for at in range(0, len(text), _STRING)]
    return b"".join([b"%c%b" % (len(part), part) for part in parts])


def _srv(element: Srv) -> bytes:
    target = names.from_text(element.target.encode())
    return struct.pack("!HHH", element.priority, element.weight, element.port) + target


def _caa(element: Caa) -> bytes:
    tag, value = element.tag.encode(), element.value.encode()
    # RFC 8659 §4.1: letters and digits, and a length that fits its byte.
    if not tag.isalnum() or not tag.isascii() or len(tag) > _STRING:
        raise ParseError("tag is not of letters and digits")
    return b"%c%c%b%b" % (element.flag, len(tag), tag, value)
