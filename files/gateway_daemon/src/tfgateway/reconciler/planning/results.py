"""Messages to the explorer: signed results and deletions, and how they wait in the outbox (pure).

An entry of the outbox never changes: what may have reached the explorer once must not be sent with another content.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import msgspec

from tfgateway.errors import SchemaError
from tfgateway.explorer.models import Result, ResultState
from tfgateway.explorer.signing import sign_result
from tfgateway.explorer.wire import RawJson
from tfgateway.identity.keys import Identity
from tfgateway.ids import Gwid
from tfgateway.redis_schema.reservations import RecordedResult, rfc3339, unix_seconds

_RESULT = "result:"
_DELETED = "deleted:"
_NANOSECONDS = 10**9


def result_field(identifier: Gwid) -> str:
    """Field of the outbox that holds the result of a reservation."""
    return _RESULT + identifier


def deleted_field(identifier: Gwid) -> str:
    """Field of the outbox that says that a reservation is to be reported as deleted, after its result."""
    return _DELETED + identifier


def is_field(field: str) -> bool:
    """Whether this is the name of a field of the outbox."""
    return field.startswith((_RESULT, _DELETED))


def of_field(field: str) -> Gwid:
    """The reservation that a field of the outbox is about."""
    return Gwid(field.partition(":")[2])


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """All that the outbox holds about one reservation."""

    id: Gwid
    result: Result | None = None
    deleted: bool = False


def make_result(
    identifier: Gwid,
    category: int,
    state: ResultState,
    message: str,
    identity: Identity,
    now: int,
    data: bytes = b"null",
) -> Result:
    """A signed result. data: one JSON value, compact. now: Unix nanoseconds."""
    return Result(
        category=category,
        workload_id=identifier,
        data_json=RawJson(data),
        signature=_signature(state, message, data, identity),
        state=state,
        message=message,
        epoch=now // _NANOSECONDS,
    )


@lru_cache(maxsize=256)
def _signature(state: ResultState, message: str, data: bytes, identity: Identity) -> str:
    """It covers no id: all successes have the same, and it takes as long to make as everything else of a step."""
    return sign_result(state, message, data, identity)


def recorded_result(result: Result, type_name: str, now: int) -> RecordedResult:
    """The recorded form of a result. now: Unix nanoseconds."""
    return RecordedResult(
        type=type_name,
        id=result.workload_id,
        created=rfc3339(*divmod(now, _NANOSECONDS)),
        state=result.state,
        message=result.message,
        data_json=bytes(result.data_json),
        signature=result.signature,
    )


def from_record(identifier: Gwid, category: int, recorded: RecordedResult, now: int) -> Result:
    """A result from its recorded form, to be sent again with the same content.

    now: Unix nanoseconds, of an answer that was recorded without its time.
    """
    return Result(
        category=category,
        workload_id=identifier,
        data_json=RawJson(recorded.data_json),
        signature=recorded.signature,
        state=recorded.state,
        message=recorded.message,
        epoch=unix_seconds(recorded.created) or now // _NANOSECONDS,
    )


def same_answer(known: Result | None, own: RecordedResult | Result) -> bool:
    """Whether the explorer has our result: what the signature covers, and the signature."""
    if known is None:
        return False
    return (known.state, known.message, known.signature) == (own.state, own.message, own.signature)


class _Stored(msgspec.Struct, frozen=True):
    """A result in the outbox. ``data`` is text, so that its bytes survive as they were signed."""

    category: int
    state: int
    message: str
    data: str
    signature: str
    epoch: int


def encode_result(result: Result) -> bytes:
    """The value of a ``result:`` field."""
    return msgspec.json.encode(
        _Stored(
            category=result.category,
            state=result.state,
            message=result.message,
            data=bytes(result.data_json).decode("utf-8"),
            signature=result.signature,
            epoch=int(result.epoch),
        )
    )


def decode_result(identifier: Gwid, raw: bytes) -> Result:
    """The result in a ``result:`` field. Errors: ``SchemaError``."""
    try:
        stored = msgspec.json.decode(raw, type=_Stored)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise SchemaError(f"outbox: {error}") from error
    return Result(
        category=stored.category,
        workload_id=identifier,
        data_json=RawJson(stored.data.encode()),
        signature=stored.signature,
        state=stored.state,
        message=stored.message,
        epoch=stored.epoch,
    )


def encode_deleted(now: int) -> bytes:
    """The value of a ``deleted:`` field: since when it waits. now: Unix nanoseconds."""
    return msgspec.json.encode({"since": now // _NANOSECONDS})


def read_outbox(fields: dict[str, bytes]) -> tuple[list[OutboxEntry], list[str]]:
    """Decode the outbox: what is waiting, and the fields that cannot be read."""
    results: dict[Gwid, Result] = {}
    deleted: set[Gwid] = set()
    damaged: list[str] = []
    for name, value in fields.items():
        kind, identifier = name.partition(":")[0], of_field(name)
        if kind == "deleted":
            deleted.add(identifier)
        elif kind == "result":
            try:
                results[identifier] = decode_result(identifier, value)
            except SchemaError:
                damaged.append(name)
        else:
            damaged.append(name)
    return [OutboxEntry(name, results.get(name), name in deleted) for name in results.keys() | deleted], damaged
