"""The message on channel ``tfgateway:news`` with the zone fields and the marker that a transaction wrote.

Old programs do not read it.

A message is made by the script that writes (its Lua is ``PUBLISHER``) or is sent in the same MULTI, so that it is sent
if and only if the fields were written, and before any client is notified of the changed keys. It is a sequence of
parts, each an operation and two or three netstrings (length, colon, bytes)::

    +3:gw.3:www16:{"a":[{"ip":...    field written: key, field, value
    -3:gw.3:www                      field removed: key, field
    !3:gw.                           the key is gone: its last field was removed

One more field of the first form, ``tfgateway:marker`` with an empty field name, says which data set was written
(``redis_schema.marker``); readers that do not know it have no such key, and pass over it.
"""

from __future__ import annotations

from typing import Final

from tfgateway.errors import SchemaError
from tfgateway.redis_schema.keys import MARKER

CHANNEL: Final = b"tfgateway:news"
MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes of one message; what a bigger one would have said is found by reading the keys again."""

Changes = dict[bytes, dict[bytes, bytes | None] | None]
"""Key -> field -> value (None: removed); None: the key is gone."""

PUBLISHER: Final = f"""
local news, removed_from = {{}}, {{}}
local function netstring(text) return #text .. ':' .. text end
local function is_zone(key) return string.sub(key, -1) == '.' end
local function wrote(key, field, value)
  if is_zone(key) then news[#news + 1] = '+' .. netstring(key) .. netstring(field) .. netstring(value) end
end
local function removed(key, field)
  if is_zone(key) then news[#news + 1] = '-' .. netstring(key) .. netstring(field); removed_from[key] = true end
end
local function publish(marker)
  for key in pairs(removed_from) do
    if redis.call('EXISTS', key) == 0 then news[#news + 1] = '!' .. netstring(key) end
  end
  if #news > 0 and #marker > 0 then
    news[#news + 1] = '+' .. netstring('{MARKER}') .. netstring('') .. netstring(marker)
  end
  local message = table.concat(news)
  if #message > 0 and #message <= {MAX_MESSAGE} then redis.pcall('PUBLISH', '{CHANNEL.decode()}', message) end
end
"""
"""Functions for a script: ``wrote`` and ``removed`` for each field, ``publish`` with the marker, or '', at the end."""


def encode_changes(changes: Changes) -> bytes:
    """The message for writes without a script; empty when it exceeds ``MAX_MESSAGE``: readers read the keys again."""
    parts: list[bytes] = []
    for key, fields in changes.items():
        if fields is None:
            parts += [b"!", _netstring(key)]
            continue
        for field, value in fields.items():
            parts += [b"-" if value is None else b"+", _netstring(key), _netstring(field)]
            parts += [] if value is None else [_netstring(value)]
    message = b"".join(parts)
    return message if len(message) <= MAX_MESSAGE else b""


def decode_changes(raw: bytes) -> Changes:
    """The changes in a message. Errors: ``SchemaError``: it is invalid as a whole."""
    found: Changes = {}
    at = 0
    while at < len(raw):
        operation = raw[at : at + 1]
        key, at = _read_netstring(raw, at + 1)
        if operation == b"!":
            found[key] = None
            continue
        field, at = _read_netstring(raw, at)
        value: bytes | None = None
        if operation == b"+":
            value, at = _read_netstring(raw, at)
        elif operation != b"-":
            raise SchemaError("changes: unknown operation")
        fields = found.get(key)
        if fields is None:
            fields = found[key] = {}
        fields[field] = value
    return found


def _netstring(text: bytes) -> bytes:
    return b"%d:%b" % (len(text), text)


def _read_netstring(raw: bytes, at: int) -> tuple[bytes, int]:
    """A netstring without its comma, and its end."""
    colon = raw.find(b":", at, at + 9)
    length = raw[at:colon]
    if colon < 0 or not length.isdigit():
        raise SchemaError("changes: no length")
    end = colon + 1 + int(length)
    if end > len(raw):
        raise SchemaError("changes: ends early")
    return raw[colon + 1 : end], end
