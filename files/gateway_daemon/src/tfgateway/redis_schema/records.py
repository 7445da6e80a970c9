"""The records of one name: a field of a zone hash.

Reading forgives: what is damaged costs itself, never its neighbours (D-2). Writing gives the bytes that the old gateway
would write and leaves alone what it does not understand (R-3).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Annotated, Any

import msgspec

from tfgateway import gojson
from tfgateway.errors import SchemaError
from tfgateway.ids import NodeId
from tfgateway.net.addresses import IPV4
from tfgateway.telemetry.text import printable

SUBDOMAIN_TTL = 3600
OWNER_TTL = 600

MAX_FIELD = 1024 * 1024
"""Bytes of a field that are looked at: far more than a DNS message can carry."""
_MAX_PROBLEMS = 16

_CANONICAL_IPV4 = re.compile(IPV4)
_GROUP = r"[1-9a-f][0-9a-f]{0,3}"
# Most canonical IPv6 texts, not all: those without a group that is zero. The others take the long way.
_CANONICAL_IPV6 = re.compile(
    rf"(?=(?:[^:]*:){{2,6}}[^:]+\Z){_GROUP}(?::{_GROUP})*::{_GROUP}(?::{_GROUP})*|{_GROUP}(?::{_GROUP}){{7}}"
)
_NO_ADDRESS = "<nil>"

Uint32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class _Record(msgspec.Struct, frozen=True, gc=False):
    """Base of the elements: immutable values, compared by content, small enough for a million of them."""


class Address(_Record, frozen=True, gc=False):
    """A or AAAA."""

    ip: str
    """Canonical text: dotted for A, RFC 5952 for AAAA."""
    ttl: Uint32 = 0
    """Seconds as stored; 0: none stored. The same in every element."""


class Text(_Record, frozen=True, gc=False):
    """TXT."""

    text: str
    """Never empty; of any length."""
    ttl: Uint32 = 0


class Host(_Record, frozen=True, gc=False):
    """CNAME or NS."""

    host: str
    """Ends with a dot (D-3); whether it is a name that DNS can carry is not checked here, in no type."""
    ttl: Uint32 = 0


class Mx(_Record, frozen=True, gc=False):
    """MX."""

    host: str
    preference: int = 0
    ttl: Uint32 = 0


class Srv(_Record, frozen=True, gc=False):
    """SRV."""

    target: str
    port: int = 0
    priority: int = 0
    weight: int = 0
    ttl: Uint32 = 0


class Caa(_Record, frozen=True, gc=False):
    """CAA, which is stored without a TTL."""

    flag: int
    tag: str
    value: str


class Soa(_Record, frozen=True, gc=False):
    """SOA without serial: that is not stored. Times in seconds."""

    ns: str
    mbox: str
    """Ends with a dot, or is empty when none is stored."""
    refresh: int = 0
    retry: int = 0
    expire: int = 0
    minttl: int = 0
    ttl: int = 0


class RecordSet(_Record, frozen=True, gc=False):
    """All records of one name."""

    a: tuple[Address, ...] = ()
    aaaa: tuple[Address, ...] = ()
    txt: tuple[Text, ...] = ()
    cname: tuple[Host, ...] = ()
    ns: tuple[Host, ...] = ()
    mx: tuple[Mx, ...] = ()
    srv: tuple[Srv, ...] = ()
    caa: tuple[Caa, ...] = ()
    soa: Soa | None = None


class _Ordinary(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What the gateways themselves write: decoded in one step."""

    a: tuple[Address, ...] = ()
    aaaa: tuple[Address, ...] = ()
    cname: tuple[Host, ...] = ()
    txt: tuple[Text, ...] = ()


_ordinary_decoder = msgspec.json.Decoder(_Ordinary)
_raw_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_elements = msgspec.json.Decoder(list[msgspec.Raw])


def canonical_address(text: str) -> str | None:
    """An IP literal in the form that Go prints; ``None``: not an IP literal.

    An IPv4-mapped IPv6 literal becomes dotted IPv4. Zones (``%eth0``) and leading zeros are refused.
    """
    if _CANONICAL_IPV4.fullmatch(text) or _CANONICAL_IPV6.fullmatch(text):
        return text
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    if address.scope_id is not None:
        return None
    return str(address.ipv4_mapped or address)


def decode_records(raw: bytes) -> tuple[RecordSet, tuple[str, ...]]:
    """The records of a field, and one line for each element that had to be skipped. Never raises."""
    if len(raw) > MAX_FIELD:
        return RecordSet(), (f"larger than {MAX_FIELD} bytes",)
    try:
        found = _ordinary_decoder.decode(raw)
    except (ValueError, RecursionError):
        return _decode_tolerantly(raw)
    if (
        all(_CANONICAL_IPV4.fullmatch(item.ip) for item in found.a)
        and all(_CANONICAL_IPV6.fullmatch(item.ip) for item in found.aaaa)
        and all(item.host.endswith(".") for item in found.cname)
        and all(item.text for item in found.txt)
    ):
        return RecordSet(a=found.a, aaaa=found.aaaa, cname=found.cname, txt=found.txt), ()
    return _decode_tolerantly(raw)


def owner_record(node_id: NodeId, owner: str) -> bytes:
    """The ``__owner__`` field of a zone. owner: the gateway's node id, or the decimal tid."""
    text = gojson.encode({"identity": node_id, "owner": owner}).decode("utf-8")
    return gojson.encode({"txt": [{"text": text, "ttl": OWNER_TTL}]})


def edit_addresses(
    raw: bytes | None, *, remove: Collection[str], add: Sequence[str], ttl: int = SUBDOMAIN_TTL
) -> bytes | None:
    """The field ``raw`` (``None``: absent) without ``remove`` and with ``add``; ``None``: nothing is left.

    Addresses are compared by value; one that is there already stays as it is. Every other element, type and member
    keeps its bytes (R-3). Dropped are only ``<nil>`` addresses (R-4) and what no reader of this layout can use: a field
    that is no JSON object, what follows the object, an ``a`` or ``aaaa`` that is no list.
    Errors: ``SchemaError`` if ``add`` has something that is no IP literal.
    """
    there = members(raw)
    kept: dict[str, list[msgspec.Raw]] = {"a": [], "aaaa": []}
    present: set[str] = set()
    unwanted = {canonical_address(text) for text in remove} - {None}
    # Go takes "A" and "a" for the same member: two of them in the result would hide each other.
    for name in [name for name in there if name.lower() in kept]:
        for element in _elements(there.pop(name)):
            text = _stored_ip(element)
            address = canonical_address(text)
            if text == _NO_ADDRESS or address in unwanted:
                continue
            kept[name.lower()].append(element)
            present.add(address or "")
    for text in add:
        address = canonical_address(text)
        if address is None:
            raise SchemaError(f"'{printable(text)}' is not an IP address")
        if address not in present:
            present.add(address)
            element = msgspec.Raw(gojson.encode({"ip": address, "ttl": ttl}))
            kept["aaaa" if ":" in address else "a"].append(element)
    merged: dict[str, object] = {**there, **{name: elements for name, elements in kept.items() if elements}}
    return msgspec.json.encode(dict(sorted(merged.items()))) if merged else None


def members(raw: bytes | None) -> dict[str, msgspec.Raw]:
    """The members of a field, byte for byte where it is sound, what can be read of a damaged one."""
    try:
        return _raw_members.decode(raw or b"{}")
    except (ValueError, RecursionError):
        pass
    try:
        value, _ = gojson.decode_first(raw or b"")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return {}
    return {name: msgspec.Raw(gojson.encode(member)) for name, member in value.items()}


def _elements(raw: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _raw_elements.decode(raw)
    except (ValueError, RecursionError):
        return []


def _stored_ip(element: msgspec.Raw) -> str:
    """The text of an address element; empty: it has none."""
    try:
        text = gojson.decode_object(bytes(element)).get("ip")
    except ValueError:
        return ""
    return text if isinstance(text, str) else ""


def _decode_tolerantly(raw: bytes) -> tuple[RecordSet, tuple[str, ...]]:
    """``decode_records`` for everything that the gateways do not write: by hand, by older versions, damaged."""
    if not raw.strip():
        return RecordSet(), ()
    problems: list[str] = []
    try:
        value, rest = gojson.decode_first(raw)
    except ValueError as error:
        return RecordSet(), (printable(f"no JSON: {error}"),)
    if rest:
        problems.append("data follows the JSON object")
    if value is None:
        value = {}
    if not isinstance(value, dict):
        return RecordSet(), ("not a JSON object",)
    members = gojson.fold(value)
    lists = {name: tuple(_decode_list(name, members.get(name), problems)) for name in _ELEMENTS}
    soa = _decode_soa(members.get("soa"), problems)
    if len(problems) > _MAX_PROBLEMS:
        problems[_MAX_PROBLEMS:] = [f"and {len(problems) - _MAX_PROBLEMS} more"]
    return RecordSet(**lists, soa=soa), tuple(problems)


def _decode_list(name: str, value: object, problems: list[str]) -> Iterator[Any]:
    if value is None:
        return
    if not isinstance(value, list):
        problems.append(f"{name}: not a list")
        return
    for index, element in enumerate(value):
        if element is None:
            continue  # the old gateway writes null for what it destroyed: there is nothing to repair
        try:
            yield _ELEMENTS[name](_element(element))
        except SchemaError as error:
            problems.append(f"{name}[{index}]: {error}")


def _decode_soa(value: object, problems: list[str]) -> Soa | None:
    if value is None:
        return None
    try:
        element = _element(value)
        if not element.get("ns"):
            return None  # the zone gets a synthesised one
        times = {name: _number(element, name, 32) for name in ("refresh", "retry", "expire", "minttl", "ttl")}
        return Soa(ns=_host(element, "ns"), mbox=_host(element, "mbox") if element.get("mbox") else "", **times)
    except SchemaError as error:
        problems.append(f"soa: {error}")
        return None


def _element(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SchemaError("not an object")
    return gojson.fold(value)


def _text(element: dict[str, Any], name: str) -> str:
    value = element.get(name, "")
    if not isinstance(value, str):
        raise SchemaError(f"{name} is not text")
    if not value:
        raise SchemaError(f"no {name}")
    return value


def _host(element: dict[str, Any], name: str) -> str:
    host = _text(element, name)
    return host if host.endswith(".") else host + "."


def _number(element: dict[str, Any], name: str, bits: int) -> int:
    value = element.get(name, 0)
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise SchemaError(f"{name} is not a number of {bits} bits")
    return value


def _ttl(element: dict[str, Any]) -> int:
    return _number(element, "ttl", 32)


def _address(element: dict[str, Any], *, ipv6: bool) -> Address:
    text = _text(element, "ip")
    address = canonical_address(text)
    if address is None:
        raise SchemaError(f"'{printable(text, 60)}' is not an IP address")
    if (":" in address) != ipv6:
        raise SchemaError(f"{address} is of the other family")
    return Address(address, _ttl(element))


_ELEMENTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a": lambda e: _address(e, ipv6=False),
    "aaaa": lambda e: _address(e, ipv6=True),
    "txt": lambda e: Text(_text(e, "text"), _ttl(e)),
    "cname": lambda e: Host(_host(e, "host"), _ttl(e)),
    "ns": lambda e: Host(_host(e, "host"), _ttl(e)),
    "mx": lambda e: Mx(_host(e, "host"), _number(e, "preference", 16), _ttl(e)),
    "srv": lambda e: Srv(
        _host(e, "target"), _number(e, "port", 16), _number(e, "priority", 16), _number(e, "weight", 16), _ttl(e)
    ),
    "caa": lambda e: Caa(_number(e, "flag", 8), _text(e, "tag"), _text(e, "value")),
}
