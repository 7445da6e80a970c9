"""Recorded reservations: the values of ``tfgateway_reservations``.

The old daemon and ours take turns on this hash, so that what one writes the other reads.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from tfgateway import gojson, versioned
from tfgateway.errors import SchemaError
from tfgateway.ids import Gwid, NodeId, Tid

FOREVER = 2**63 - 1
"""``duration`` of every reservation, nanoseconds."""
ZERO_TIME = "0001-01-01T00:00:00Z"
"""What Go writes for a time that was never set."""

_VERSION = versioned.Version(1, 0, 0)
_MAX_VALUE = 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_T = TypeVar("_T", str, int, bool)


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """The answer that was given to the explorer."""

    type: str
    id: str
    created: str
    """RFC 3339; nanoseconds and a local offset may be there (``rfc3339`` makes one)."""
    state: int
    """0 error, 1 ok, 2 deleted."""
    message: str = ""
    data_json: bytes = b"null"
    """One JSON value, compact, as Go writes it: it is part of what was signed."""
    signature: str = ""
    """Hex."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One reservation as a gateway provisioned it."""

    id: Gwid
    """The same as the hash field; for a migrated workload that of the one that it replaces."""
    node_id: NodeId
    user_id: Tid
    type: str
    """``proxy``, ``reverse_proxy``, ``subdomain``, ``domain_delegate`` or ``gateway4to6``."""
    data: dict[str, Any] | None
    """The members in the order in which they are written; ``None``: absent."""
    created: str
    """RFC 3339, the explorer's epoch."""
    signature: bytes = b""
    """The ASCII hex text of the customer's signature."""
    reference: str = ""
    result: RecordedResult | None = None
    """``None``: not answered yet, stored as Go's zero value."""
    version: int = 2
    """Of the workload."""
    to_delete: bool = False
    duration: int = FOREVER
    """Nanoseconds."""


_NO_RESULT = RecordedResult(type="", id="", created=ZERO_TIME, state=0)


def rfc3339(seconds: int, nanoseconds: int = 0) -> str:
    """Unix time as Go prints it in UTC: ``2021-01-18T20:00:05.123456789Z``, without needless zeros.

    nanoseconds: 0 to 999999999. Errors: ``SchemaError`` outside of the years 1 to 9999.
    """
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise SchemaError(f"{seconds} seconds are outside of the years 1 to 9999") from None
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{moment.replace(tzinfo=None).isoformat()}{fraction}Z"


def unix_seconds(text: str) -> int:
    """Unix time of an RFC 3339 text, fractions dropped; 0: it is none, or before 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))


def encode_reservation(reservation: Recorded) -> bytes:
    """The bytes that the old daemon writes: version, one JSON object, line feed."""
    result = reservation.result or _NO_RESULT
    members: dict[str, object] = {
        "id": reservation.id,
        "node_id": reservation.node_id,
        "user_id": reservation.user_id,
        "type": reservation.type,
    }
    if reservation.data is not None:
        members["data"] = reservation.data
    members["created"] = reservation.created
    members["duration"] = reservation.duration
    if reservation.signature:
        members["signature"] = base64.b64encode(reservation.signature).decode("ascii")
    members["to_delete"] = reservation.to_delete
    members["reference"] = reservation.reference
    members["result"] = {
        "type": result.type,
        "id": result.id,
        "created": result.created,
        "state": result.state,
        "message": result.message,
        "data_json": msgspec.Raw(result.data_json),
        "signature": result.signature,
    }
    members["version"] = reservation.version
    return versioned.join(_VERSION, gojson.encode(members)) + b"\n"


def decode_reservation(raw: bytes) -> Recorded:
    """A stored reservation of any version up to 1.0.0, or of none.

    Errors: ``SchemaError``. Readers of the hash set that one entry aside and go on (P-17).
    """
    if len(raw) > _MAX_VALUE:
        raise SchemaError(f"reservation: larger than {_MAX_VALUE} bytes")
    version, payload = versioned.split(raw)
    # Pre-releases sort before their release: only the three numbers decide.
    if version is not None and version[:3] > _VERSION[:3]:
        raise SchemaError(f"reservation: version {version.major}.{version.minor}.{version.patch} is newer than 1.0.0")
    try:
        members = gojson.decode_object(payload)
        signature = base64.b64decode(_get(members, "signature", ""), validate=True)
    except ValueError as error:
        raise SchemaError(f"reservation: {error}") from error
    data = members.get("data")
    if data is not None and not isinstance(data, dict):
        raise SchemaError("reservation: data is not an object")
    if not _get(members, "id", ""):
        raise SchemaError("reservation: no id")
    return Recorded(
        id=Gwid(_get(members, "id", "")),
        node_id=NodeId(_get(members, "node_id", "")),
        user_id=Tid(_get(members, "user_id", "")),
        type=_get(members, "type", ""),
        data=data,
        created=_get(members, "created", ZERO_TIME),
        duration=_get(members, "duration", 0),
        signature=signature,
        to_delete=_get(members, "to_delete", False),
        reference=_get(members, "reference", ""),
        result=_decode_result(members.get("result")),
        version=_get(members, "version", 0),
    )


def _decode_result(value: object) -> RecordedResult | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise SchemaError("reservation: result is not an object")
    members = gojson.fold(value)
    result = RecordedResult(
        type=_get(members, "type", ""),
        id=_get(members, "id", ""),
        created=_get(members, "created", ZERO_TIME),
        state=_get(members, "state", 0),
        message=_get(members, "message", ""),
        data_json=gojson.encode(members.get("data_json")),
        signature=_get(members, "signature", ""),
    )
    return None if result == _NO_RESULT else result


def _get(members: dict[str, Any], name: str, default: _T) -> _T:
    """A member of the type of ``default``, which stands for an absent one."""
    value = members.get(name, default)
    if type(value) is not type(default):
        raise SchemaError(f"reservation: {name} is not of type {type(default).__name__}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise SchemaError(f"reservation: {name} is out of range")
    return value
