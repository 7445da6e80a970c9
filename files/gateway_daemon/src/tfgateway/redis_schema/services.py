"""Proxy entries: the values under ``/tcprouter/service/``."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tfgateway import gojson
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.keys import service_key

_MAX_VALUE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Service:
    """The target of a domain's visitors, as stored: the proxy checks address and ports when it routes."""

    addr: str = ""
    """IP literal of the target; empty: a reverse tunnel."""
    clientsecret: str = field(default="", repr=False)
    """Secret of the tunnel in clear; empty: a plain proxy."""
    tlsport: int = 0
    httpport: int = 0
    user: str = ""
    """Decimal tid of the owner; empty: made by hand, and not to be touched."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    Key: str
    Value: str


class _Members(msgspec.Struct, forbid_unknown_fields=True):
    addr: str
    clientsecret: str
    tlsport: Any
    httpport: Any
    user: str = ""


_ENTRY, _MEMBERS = msgspec.json.Decoder(_Entry), msgspec.json.Decoder(_Members)


def encode_service(domain: str, service: Service) -> bytes:
    """The bytes that the old gateway writes; ``Key`` repeats the redis key, and is not read."""
    inner = gojson.encode(
        {
            "addr": service.addr,
            "clientsecret": service.clientsecret,
            "tlsport": service.tlsport,
            "httpport": service.httpport,
            "user": service.user,
        }
    )
    return gojson.encode({"Key": service_key(domain), "Value": base64.b64encode(inner).decode("ascii")})


def decode_service(raw: bytes) -> Service:
    """A stored entry, members in any case, unknown ones ignored. Errors: ``SchemaError``."""
    if len(raw) > _MAX_VALUE:
        raise SchemaError(f"service: larger than {_MAX_VALUE} bytes")
    return _usual(raw) or _any(raw)


def _usual(raw: bytes) -> Service | None:
    """An entry that is written as all gateways write them, at a quarter of the time: there may be a million.

    None says nothing: ask ``_any``, which gives the same answer where this one gives any.
    """
    try:
        found = _MEMBERS.decode(base64.b64decode(_ENTRY.decode(raw).Value, validate=True))
    except ValueError:
        return None
    for port in (found.tlsport, found.httpport):
        if type(port) is not int or not 0 <= port <= 65535:
            return None
    return Service(found.addr, found.clientsecret, found.tlsport, found.httpport, found.user)


def _any(raw: bytes) -> Service:
    try:
        value = gojson.decode_object(raw).get("value", "")
        members = gojson.decode_object(base64.b64decode(value, validate=True))
    except (ValueError, TypeError) as error:
        raise SchemaError(f"service: {error}") from error
    return Service(
        addr=_text(members, "addr"),
        clientsecret=_text(members, "clientsecret"),
        tlsport=_integer(members, "tlsport"),
        httpport=_integer(members, "httpport"),
        user=_text(members, "user"),
    )


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name, "")
    if not isinstance(value, str):
        raise SchemaError(f"service: {name} is not text")
    return value


def _integer(members: dict[str, Any], name: str) -> int:
    value = members.get(name, 0)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise SchemaError(f"service: {name} is not an integer")
    return value
