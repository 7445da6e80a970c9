"""Values of the hash ``tfgateway:serials``: serials of zones and digests of their data. Not known to the old daemon."""

from __future__ import annotations

import re
from typing import NamedTuple

from tfgateway.errors import SchemaError

_FORM = re.compile(rb"(\d{1,10}) ([0-9a-f]{32})")


class Issued(NamedTuple):
    """A serial that was given out."""

    serial: int
    """32 bits."""
    digest: int
    """128 bits of the zone's data."""


def encode_issued(issued: Issued) -> bytes:
    """``b"1767225600 0123456789abcdef0123456789abcdef"``."""
    return b"%d %032x" % issued


def decode_issued(raw: bytes) -> Issued:
    """What ``encode_issued`` wrote. Errors: ``SchemaError``."""
    found = _FORM.fullmatch(raw)
    if found is None or (serial := int(found[1])) >= 2**32:
        raise SchemaError("not a serial and a digest")
    return Issued(serial, int(found[2], 16))
