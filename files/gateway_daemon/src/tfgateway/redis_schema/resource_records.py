"""The member ``rr`` of a zone's field: records that users made by DNS updates, of any type.

It is ours alone: old programs pass over members that they do not know. Each element is a record as RFC 3597 has it, by
number and in hex::

    {"a":[...],"rr":[{"type":16,"ttl":60,"data":"0568656c6c6f"}]}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from tfgateway.redis_schema.records import MAX_FIELD, members

MEMBER = "rr"
_MARK = b'"rr"'
MAX_DATA = 64_000
"""Bytes of the data of a record, and of all records of a name and type: what fits into one message."""


class ResourceRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a name."""

    type: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    ttl: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    """Seconds."""
    data: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})*\Z", max_length=2 * MAX_DATA)]
    """Hex of the data in wire form, names in it uncompressed."""

    @property
    def wire(self) -> bytes:
        """The data as bytes."""
        return bytes.fromhex(self.data)


_elements = msgspec.json.Decoder(list[msgspec.Raw])
_element = msgspec.json.Decoder(ResourceRecord)


def has_any(raw: bytes) -> bool:
    """Whether a field may have such records; quick, and wrong only in that it says so of others."""
    return _MARK in raw


def decode(raw: bytes) -> tuple[tuple[ResourceRecord, ...], tuple[str, ...]]:
    """The records in a field, and one line for each element that cannot be used. Never raises."""
    if not has_any(raw) or len(raw) > MAX_FIELD or (found := members(raw).get(MEMBER)) is None:
        return (), ()
    try:
        elements = _elements.decode(found)
    except (ValueError, RecursionError):
        return (), (f"{MEMBER}: not a list",)
    records, problems = [], []
    for index, element in enumerate(elements):
        try:
            records.append(_element.decode(element))
        except (ValueError, RecursionError):
            problems.append(f"{MEMBER}[{index}]: not a record of type, ttl and data")
    return tuple(records), tuple(problems)


def edit(raw: bytes | None, records: Sequence[ResourceRecord]) -> bytes | None:
    """The field ``raw`` (None: absent) with exactly these records, all else byte for byte; None: nothing is left."""
    kept: dict[str, object] = {name: value for name, value in members(raw).items() if name != MEMBER}
    if records:
        kept[MEMBER] = list(records)
    return msgspec.json.encode(dict(sorted(kept.items()))) if kept else None
