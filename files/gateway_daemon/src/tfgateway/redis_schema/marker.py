"""The string ``tfgateway:marker``: which data set redis holds, and how far it has come. Ours, not the old daemon's.

With it, readers distinguish what a gateway wrote from a redis that lost its data, that came up with older data, or
that is another gateway's. Written by the reconciler::

    1 <node id> <incarnation> <counter> <passes> <writer> <base> <previous> live

* the **incarnation** is random, and made anew whenever the reconciler finds that redis does not hold what it wrote;
* the **counter** is raised by every script that writes rows (its Lua is ``RAISER``);
* **passes** are the full passes that came to their end with all that the explorer had granted recorded; 0: the data
  set is still being filled;
* the **writer** is random, and made anew by every process that writes; **base** is the counter that it began with:
  a data set that went back and was written on by another process has a greater counter again, but a lower base;
* **previous** is the incarnation that this one takes the place of; ``-``: not known; ``*``: any, since an operator
  said so;
* the last word is ``retired`` once an operator gave redis back to the old programs, which raise nothing.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from tfgateway.errors import SchemaError
from tfgateway.ids import NodeId
from tfgateway.redis_schema.keys import MARKER

NONE: Final = "-"
ANY: Final = "*"
LONGEST: Final = 300
"""Bytes of a marker; ``GETRANGE`` to here is one byte more."""
_MOST: Final = 2**53 - 1
"""Of a counter: as far as the numbers of a script in redis go."""

_FORM: Final = re.compile(
    rb"1 ([!-~]{1,64}) ([0-9a-f]{32}) (\d{1,16}) (\d{1,16}) "
    rb"([0-9a-f]{16}) (\d{1,16}) ([0-9a-f]{32}|[-*]) (live|retired)"
)

RAISER: Final = f"""
local function raised()
  local marker = redis.pcall('GETRANGE', '{MARKER}', 0, {LONGEST})
  if type(marker) ~= 'string' or #marker > {LONGEST} then return '' end
  local head, counter, rest = string.match(marker, '^(1 %S+ %x+ )(%d+)( .+)$')
  if not head or #counter > 16 or tonumber(counter) >= {_MOST} then return '' end
  marker = head .. string.format('%.0f', tonumber(counter) + 1) .. rest
  redis.call('SET', '{MARKER}', marker)
  return marker
end
"""
"""A function for a script that has written rows: raises the counter; the marker then, or '' when there is none."""


class Marker(NamedTuple):
    """The fields of a marker."""

    node_id: NodeId
    incarnation: str
    """32 hex digits."""
    counter: int = 0
    passes: int = 0
    writer: str = "0" * 16
    """16 hex digits."""
    base: int = 0
    previous: str = NONE
    """An incarnation, ``NONE`` or ``ANY``."""
    retired: bool = False


class Mismatch(StrEnum):
    """Why what redis holds is not what was seen there before, or what came of it."""

    ABSENT = "absent"
    """There is no marker: the data were lost, or old programs wrote them."""
    UNREADABLE = "unreadable"
    FOREIGN = "foreign"
    """It is another gateway's."""
    REPLACED = "replaced"
    """It is another data set of this gateway."""
    OLDER = "older"
    """It is the same data set at an earlier time."""


def encode_marker(marker: Marker) -> bytes:
    """The marker in the form above."""
    *parts, retired = marker
    return " ".join(["1", *map(str, parts), "retired" if retired else "live"]).encode()


def decode_marker(raw: bytes) -> Marker:
    """What ``encode_marker`` wrote. Errors: ``SchemaError``."""
    found = _FORM.fullmatch(raw) if len(raw) <= LONGEST else None
    if found is None:
        raise SchemaError("not a marker of this version")
    node_id, incarnation, *numbers, previous, state = (part.decode("ascii") for part in found.groups())
    counter, passes, base = (int(numbers[at]) for at in (0, 1, 3))
    if max(counter, passes, base) > _MOST:
        raise SchemaError("marker: a number that is too great")
    return Marker(NodeId(node_id), incarnation, counter, passes, numbers[2], base, previous, state == "retired")


def read_marker(raw: bytes) -> Marker | Mismatch:
    """The marker in a reply to ``GETRANGE``, whatever it holds."""
    if not raw:
        return Mismatch.ABSENT
    try:
        return decode_marker(raw)
    except SchemaError:
        return Mismatch.UNREADABLE


def mismatch(seen: Marker, found: Marker | Mismatch) -> Mismatch | None:
    """Why ``found`` does not follow from ``seen``; None: it is a later state of the same data set, or replaces it.

    Only a data set that is filled takes another's place.
    """
    if isinstance(found, Mismatch):
        return found
    if found.passes and found.previous in (seen.incarnation, ANY):
        return None
    if found.node_id != seen.node_id:
        return Mismatch.FOREIGN
    if found.incarnation != seen.incarnation:
        return Mismatch.REPLACED
    if found.counter < seen.counter or found.passes < seen.passes:
        return Mismatch.OLDER
    # Another process began before what was seen, so with older data; a full pass has put that right.
    forked = found.writer != seen.writer and found.base < seen.counter
    return Mismatch.OLDER if forked and found.passes == seen.passes else None
