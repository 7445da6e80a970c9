"""Owners of zones: the values of the hash ``zone``."""

from __future__ import annotations

from tfgateway import gojson
from tfgateway.errors import SchemaError

_MAX_VALUE = 4096


def encode_zone_owner(owner: str) -> bytes:
    """owner: the gateway's node id for a managed domain, the decimal tid for a delegated one."""
    return gojson.encode({"Owner": owner})


def decode_zone_owner(raw: bytes) -> str:
    """The owner; empty: there is none. Errors: ``SchemaError``: a damaged value does not make the zone free."""
    if len(raw) > _MAX_VALUE:
        raise SchemaError(f"zone owner: larger than {_MAX_VALUE} bytes")
    try:
        owner = gojson.decode_object(raw).get("owner", "")
    except ValueError as error:
        raise SchemaError(f"zone owner: {error}") from error
    if not isinstance(owner, str):
        raise SchemaError("zone owner: not text")
    return owner
