"""Explorer objects (msgspec structs) from and to JSON: Go's tolerance, the explorer's dates, raw result data."""

from __future__ import annotations

import calendar
import re
from typing import Annotated, Any, TypeVar

import msgspec

from tfgateway import gojson
from tfgateway.errors import ParseError

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
UInt32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
UInt16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
Date = Int64
"""Unix seconds; ``ZERO_TIME`` when absent."""

_RAW_MEMBER = "data_json"
_DATE_MEMBERS = frozenset({"epoch", "created", "updated", "last_updated"})
_DEEPEST = 5  # levels below which nothing of ours is found: list, workload, signatures, approval, member
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class RawJson(bytes):
    """One JSON value as bytes that are written as they are: a signature covers them."""

    __slots__ = ()


class _ZeroTime(int):
    """Go's zero time: written as ``0``, signed as the seconds of 0001-01-01."""

    __slots__ = ()


ZERO_TIME: int = _ZeroTime(-62135596800)


def _hook(value: object) -> object:
    if isinstance(value, RawJson):
        return msgspec.Raw(value)
    if isinstance(value, _ZeroTime):
        return 0
    raise NotImplementedError(f"{type(value).__name__} has no JSON form here")


_ENCODER = msgspec.json.Encoder(enc_hook=_hook)


def encode(value: object) -> bytes:
    """Compact JSON of a struct, a list of structs or plain objects."""
    return _ENCODER.encode(value)


def decode(value: object, kind: type[_Struct]) -> _Struct:
    """A struct from what ``gojson.decode`` gave. Errors: ``ParseError`` that names the member."""
    if not isinstance(value, dict):
        raise ParseError("not a JSON object")
    try:
        return msgspec.convert(_prepared(value, _DEEPEST), type=kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ParseError(str(error)) from error


def raw_member(raw: bytes, name: str) -> bytes:
    """The bytes of one member of a JSON object as received; ``null`` when absent. Errors: ``ParseError``."""
    try:
        members = _RAW_MEMBERS.decode(raw)
    except (ValueError, RecursionError) as error:
        raise ParseError(str(error)) from error
    found = [bytes(value) for key, value in members.items() if key.lower() == name]
    return found[-1] if found else b"null"


_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _prepared(value: Any, depth: int) -> Any:
    """``value`` with names as Go matches them, dates as numbers and result data as bytes."""
    if not depth:
        return value
    if isinstance(value, list):
        return [_prepared(item, depth - 1) for item in value]
    if not isinstance(value, dict):
        return value
    members: dict[str, Any] = {}
    for name, member in gojson.fold(value).items():
        if name == _RAW_MEMBER:
            members[name] = RawJson(gojson.encode(member))
        elif name in _DATE_MEMBERS:
            if member != "":
                members[name] = _seconds(member)
        else:
            members[name] = _prepared(member, depth - 1)
    return members


_DATE_TEXT = re.compile(
    r"(?:(?P<year>[0-9]{2}|[0-9]{4})/(?P<month>[0-9]{2})/(?P<day>[0-9]{2})"
    r"|(?P<day2>[0-9]{2})/(?P<month2>[0-9]{2})/(?P<year2>[0-9]{4}))"
    r"(?: (?P<hour>[0-9]{1,2})(?P<half>am|pm)?:(?P<minute>[0-9]{1,2}))?"
)


def _seconds(value: object) -> int:
    """Unix seconds of a date as the explorer accepts it (but ``MM/DD``, which needs a clock)."""
    if isinstance(value, int | float) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return int(value)
    match = _DATE_TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ParseError("not a date")
    year, month, day = (int(match[name] or match[f"{name}2"]) for name in ("year", "month", "day"))
    hour, minute = int(match["hour"] or 0), int(match["minute"] or 0)
    if match["half"]:
        hour = hour % 12 + (12 if match["half"] == "pm" else 0)
    year += 2000 if year < 100 else 0
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1] and hour < 24 and minute < 60):
        raise ParseError("no such date")
    return calendar.timegm((year, month, day, hour, minute, 0))
