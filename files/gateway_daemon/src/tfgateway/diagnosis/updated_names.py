"""Names with records that users made by DNS updates, beside those of reservations."""

from __future__ import annotations

from dataclasses import dataclass

from tfgateway.dns.wire import codes
from tfgateway.reconciler.planning.inputs.rows import Actual
from tfgateway.redis_schema import resource_records
from tfgateway.redis_schema.keys import APEX_FIELD, zone_of_key
from tfgateway.telemetry.text import printable


@dataclass(frozen=True, slots=True)
class UpdatedName:
    """A name, and what redis has of it by updates."""

    name: str
    types: tuple[str, ...]
    """Of the records, each once."""
    records: int


def updated_names(actual: Actual) -> tuple[UpdatedName, ...]:
    """All of them, by name."""
    found = []
    for key, fields in actual.hashes.items():
        zone = zone_of_key(key.encode("utf-8", "surrogateescape"))
        if zone is None:
            continue
        for field, raw in fields.items():
            if not resource_records.has_any(raw) or not (records := resource_records.decode(raw)[0]):
                continue
            name = printable(zone if field == APEX_FIELD else f"{field}.{zone}")
            types = dict.fromkeys(codes.type_name(record.type).upper() for record in records)
            found.append(UpdatedName(name, tuple(types), len(records)))
    return tuple(sorted(found, key=lambda one: one.name))
