"""What the reconciler writes about itself: its age, whoever sets the clock, and what other releases make of it."""

from __future__ import annotations

import msgspec
import pytest
from tfgateway.instant import NANOSECONDS, Instant
from tfgateway.reconciler.status import ReconcilerStatus, decode_status

HOUR = 3600
NOW = Instant(1_700_000_000 * NANOSECONDS, "this boot", 100_000.0)


def later(seconds: float, *, ahead: float = 0) -> Instant:
    return Instant(NOW.unix_ns + round((seconds + ahead) * NANOSECONDS), NOW.boot, NOW.uptime + seconds)


@pytest.mark.parametrize("ahead", [0, 2 * HOUR, -2 * HOUR, 365 * 24 * HOUR])
def test_a_reconciler_that_is_silent_is_so_whatever_the_clock_says(ahead: float) -> None:
    status = ReconcilerStatus(last_poll=NOW.unix, polled=NOW, last_success=NOW.unix, succeeded=NOW)
    found = decode_status(msgspec.json.encode(status))
    assert found == status
    assert found.since_poll(later(90, ahead=ahead)) == found.since_success(later(90, ahead=ahead)) == 90


def test_of_an_older_release_the_clock_is_all_there_is() -> None:
    found = decode_status(b'{"version":"1","last_poll":1700000000.5,"last_success":1700000001.5}')
    assert found is not None
    assert found.since_poll(later(90)) == 89.5
    assert found.since_success(later(90)) == 88.5


def test_what_is_shown_is_what_is_written_but_for_ages() -> None:
    data = ReconcilerStatus(version="1", last_poll=NOW.unix, polled=NOW, succeeded=NOW).as_data()
    assert data == {
        "version": "1",
        "last_poll": 1_700_000_000.0,
        "last_success": 0,
        "last_error": "",
        "outbox": 0,
        "held": "",
        "repaired": 0,
        "clock": "",
        "directory": {"state": "pending", "reason": "", "pin": ""},
    }
