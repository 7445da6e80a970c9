from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.explorer.models import Result, ResultState
from tfgateway.explorer.wire import RawJson
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.planning import results
from tfgateway.redis_schema.reservations import ZERO_TIME

NOW = 1_611_000_005_123_456_789
IDENTITY = Identity.from_seed(bytes(range(32)))


def test_results_are_signed_as_specified() -> None:
    # as an original gateway has signed it
    ok = results.make_result("311-1", 7, ResultState.OK, "", IDENTITY, NOW)
    assert ok.signature.startswith("dddab7b0efa75819")
    assert ok.epoch == 1_611_000_005
    message = "cannot add subdomain www to zone gw1.example: subdomain already reserved"
    error = results.make_result("311-1", 7, ResultState.ERROR, message, IDENTITY, NOW)
    assert error.signature.startswith("38ee27612d0a8f1f")


@given(
    message=st.text(),
    data=st.sampled_from([b"null", b'{"a": 1}', b'{"ips":["fd00::1"],"peers":[]}']),
    state=st.sampled_from([ResultState.ERROR, ResultState.OK]),
)
def test_a_result_survives_the_outbox_byte_for_byte(message: str, data: bytes, state: ResultState) -> None:
    message = message.encode("utf-8", "replace").decode()
    result = Result(
        category=7,
        workload_id="311-1",
        data_json=RawJson(data),
        signature="ab",
        state=state,
        message=message,
        epoch=NOW,
    )
    assert results.decode_result("311-1", results.encode_result(result)) == result


@given(raw=st.binary() | st.sampled_from([b"{}", b"[" * 10_000, b'{"category":"7"}', b"null"]))
def test_garbage_in_the_outbox_is_a_layout_error(raw: bytes) -> None:
    with pytest.raises(SchemaError):
        results.decode_result("311-1", raw)


def test_the_outbox_is_read_by_reservation() -> None:
    result = results.make_result("1-1", 7, ResultState.OK, "", IDENTITY, NOW)
    waiting, damaged = results.read_outbox(
        {
            "result:1-1": results.encode_result(result),
            "deleted:1-1": results.encode_deleted(NOW),
            "deleted:2-1": b"whatever",
            "result:3-1": b"garbage",
            "else": b"",
        }
    )
    assert sorted(waiting, key=lambda one: one.id) == [
        results.OutboxEntry("1-1", result, True),
        results.OutboxEntry("2-1", None, True),
    ]
    assert sorted(damaged) == ["else", "result:3-1"]


def test_same_answer_compares_what_is_signed() -> None:
    result = results.make_result("1-1", 7, ResultState.OK, "", IDENTITY, NOW)
    recorded = results.recorded_result(result, "subdomain", NOW)
    assert recorded.created == "2021-01-18T20:00:05.123456789Z"
    assert results.same_answer(result, recorded)
    assert results.from_record("1-1", 7, recorded, 2 * NOW) == result, "also its time"
    undated = replace(recorded, created=ZERO_TIME)
    assert results.from_record("1-1", 7, undated, NOW) == result
    assert not results.same_answer(None, recorded)
    other = results.make_result("1-1", 7, ResultState.ERROR, "no", IDENTITY, NOW)
    assert not results.same_answer(other, recorded)
