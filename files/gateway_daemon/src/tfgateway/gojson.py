"""JSON as Go programs write and read it."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def encode(value: object) -> bytes:
    """Compact JSON with members in the order given and Go's escapes: ``<``, ``>``, ``&``, U+2028 and U+2029."""
    raw = msgspec.json.encode(value)
    # These characters occur inside strings only, so that the whole text can be replaced.
    raw = raw.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return raw.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


def decode(raw: bytes) -> Any:
    """The one JSON value in ``raw``. Errors: ``ValueError``, also for nesting that is too deep."""
    value, rest = decode_first(raw)
    if rest:
        raise ValueError("data follows the JSON value")
    return value


def decode_first(raw: bytes) -> tuple[Any, bool]:
    """The first JSON value in ``raw``, and whether anything but white space follows it. Errors: ``ValueError``.

    What Go reads is read: broken UTF-8 and lone surrogates become U+FFFD. A number that fits nowhere becomes a float
    that is infinite, so that it spoils no more than its own member.
    """
    try:
        try:
            return msgspec.json.decode(raw), False
        except ValueError:
            return _decode_slowly(raw)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def decode_object(raw: bytes) -> dict[str, Any]:
    """The members of the JSON object ``raw`` as ``fold`` gives them; ``null`` is an empty object (as in Go).

    Errors: ``ValueError``.
    """
    value = decode(raw)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return fold(value)


def fold(members: dict[str, Any]) -> dict[str, Any]:
    """``members`` as Go sees them: names in lower case, the last of duplicates, ``null`` the same as absent."""
    return {name.lower(): value for name, value in members.items() if value is not None}


def _decode_slowly(raw: bytes) -> tuple[Any, bool]:
    text = raw.decode("utf-8", "replace").lstrip(" \t\r\n")
    value, end = json.JSONDecoder(parse_constant=_refuse).raw_decode(text)
    return _without_surrogates(value), bool(text[end:].strip(" \t\r\n"))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _without_surrogates(value: Any) -> Any:
    """``value`` in which every text can be encoded again."""
    if isinstance(value, str):
        return _LONE_SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(member) for name, member in value.items()}
    return value
