"""When to poll again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.explorer import poll_delay

SECONDS = st.floats(0, 1000)


@pytest.mark.parametrize(
    ("took", "found_new", "expected"),
    [
        (30.0, False, 0.0),  # held until the wait was over: ask again
        (12.0, False, 0.0),  # held, and answered earlier than asked for by some cap in between
        (0.02, False, 9.98),  # wait is ignored: poll as ever
        (4.0, False, 6.0),  # the explorer stops: it is not asked again at once
        (7.0, True, 0.0),
        (0.02, True, 0.08),
    ],
)
def test_the_next_poll(took: float, found_new: bool, expected: float) -> None:
    assert poll_delay.delay(took, found_new=found_new, interval=10.0, chance=0.0) == pytest.approx(expected)


@given(took=SECONDS, found_new=st.booleans(), interval=st.floats(0.1, 1000), chance=st.floats(0, 1))
def test_an_explorer_is_never_hammered(took: float, found_new: bool, interval: float, chance: float) -> None:
    pause = poll_delay.delay(took, found_new=found_new, interval=interval, chance=chance)
    assert pause >= 0
    shortest = 0.1 if found_new else 0.9 * interval
    assert took + pause >= shortest - 1e-9
    assert pause <= interval


def test_gateways_do_not_poll_in_step() -> None:
    pauses = {poll_delay.delay(0.0, found_new=False, interval=10.0, chance=chance) for chance in (0.0, 0.5, 1.0)}
    assert pauses == {10.0, 9.5, 9.0}
