"""JSON as Go programs read and write it (spec README §4), for msgspec structs.

Reading: object keys in any case, unknown keys ignored, ``null`` leaves the zero value, the last duplicate wins,
text that is no UTF-8 becomes U+FFFD. Writing: compact.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from tfgateway.errors import ParseError

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
Int64 = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
UInt16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
UInt32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class RawJson(bytes):
    """One JSON value kept as the bytes that were received: a signature covers it (spec identity §5)."""

    __slots__ = ()


class _ZeroTime(int):
    """Go's zero time: written as ``0``, signed as the seconds of 0001-01-01 (spec explorer-api §§2, 8)."""

    __slots__ = ()


ZERO_TIME: int = _ZeroTime(-62135596800)
_DATE = "date"
Date = Annotated[int, _DATE]
"""Unix seconds; ``ZERO_TIME`` when absent."""

_Json = bytes | msgspec.Raw
_Reader = Callable[[_Json], Any]
_Struct = TypeVar("_Struct", bound=msgspec.Struct)

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder()
# One escape sequence at a time from the left, so that an escaped backslash never hides or fakes a surrogate.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def _hook(value: object) -> object:
    if isinstance(value, RawJson):
        return msgspec.Raw(value)
    if value is ZERO_TIME:
        return 0
    raise NotImplementedError(f"{type(value).__name__} has no JSON form here")


_ENCODER = msgspec.json.Encoder(enc_hook=_hook)


def encode(value: object) -> bytes:
    """Compact JSON of a struct, a list of structs or plain objects; ``RawJson`` goes in as it is."""
    return _ENCODER.encode(value)


def repair_text(raw: bytes) -> bytes:
    """``raw`` with bytes that are no UTF-8 and lone surrogate escapes replaced by U+FFFD, as Go's decoder does."""
    text = raw.decode("utf-8", "replace").encode()
    return _ESCAPE.sub(lambda match: b"\\ufffd" if match[1] else match[0], text)


def elements(raw: _Json) -> list[msgspec.Raw]:
    """The values of a JSON array (``null`` is an empty one), each undecoded. Errors: ``ParseError``."""
    return [] if _is_null(raw) else _guarded(_ARRAY.decode, raw)


def members(raw: _Json) -> dict[str, msgspec.Raw]:
    """The values of a JSON object by lower-case key, each undecoded. Errors: ``ParseError``."""
    return {key.lower(): value for key, value in _guarded(_OBJECT.decode, raw).items()}


def decode(raw: _Json, kind: type[_Struct]) -> _Struct:
    """A struct from a JSON object. Errors: ``ParseError`` that names the member."""
    return from_members(members(raw), kind)


def from_members(values: dict[str, msgspec.Raw], kind: type[_Struct]) -> _Struct:
    """As ``decode``, from what ``members`` returned."""
    fields: dict[str, Any] = {}
    for name, reader in _readers(kind).items():
        value = values.get(name)
        if value is None:
            continue
        try:
            fields[name] = reader(value)
        except ParseError as error:
            raise ParseError(f"{name}: {error}") from error
    return kind(**fields)


def _is_null(raw: _Json) -> bool:
    return bytes(raw).strip() == b"null"


def _guarded(decoder: Callable[[_Json], Any], raw: _Json) -> Any:
    try:
        return decoder(raw)
    except RecursionError:
        raise ParseError("nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ParseError(str(error)) from error


@cache
def _readers(kind: type[msgspec.Struct]) -> dict[str, _Reader]:
    hints = get_type_hints(kind, include_extras=True)
    return {field: _reader(hints[field]) for field in kind.__struct_fields__}


def _reader(hint: Any) -> _Reader:
    """A function from the undecoded member to its value."""
    if _DATE in getattr(hint, "__metadata__", ()):
        return _date
    if hint is RawJson:
        return lambda raw: RawJson(bytes(raw).strip())
    if get_origin(hint) is tuple:
        item = _reader(get_args(hint)[0])
        return lambda raw: tuple(item(element) for element in elements(raw))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return lambda raw: hint() if _is_null(raw) else decode(raw, hint)
    scalar = msgspec.json.Decoder(hint).decode
    zero = (get_args(hint)[0] if get_origin(hint) is Annotated else hint)()
    return lambda raw: zero if _is_null(raw) else _guarded(scalar, raw)


_DATE_TEXT = re.compile(
    r"(?:(?P<year>[0-9]{2}|[0-9]{4})/(?P<month>[0-9]{2})/(?P<day>[0-9]{2})"
    r"|(?P<day2>[0-9]{2})/(?P<month2>[0-9]{2})/(?P<year2>[0-9]{4}))"
    r"(?: (?P<hour>[0-9]{1,2})(?P<half>am|pm)?:(?P<minute>[0-9]{1,2}))?"
)


def _date(raw: _Json) -> int:
    """Seconds from a number or one of the texts of spec explorer-api §2 (but ``MM/DD``, which needs a clock)."""
    value = _guarded(_ANY.decode, raw)
    if value == "":
        return ZERO_TIME
    if isinstance(value, int | float) and not isinstance(value, bool) and INT64_MIN <= value <= INT64_MAX:
        return int(value)
    match = _DATE_TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ParseError("not a date")
    year, month, day = (int(match[name] or match[f"{name}2"]) for name in ("year", "month", "day"))
    hour = int(match["hour"] or 0)
    if match["half"]:
        hour = hour % 12 + (12 if match["half"] == "pm" else 0)
    minute = int(match["minute"] or 0)
    year += 2000 if year < 100 else 0
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(max(year, 1), month)[1] and hour < 24 and minute < 60):
        raise ParseError("no such date")
    return calendar.timegm((year, month, day, hour, minute, 0))
