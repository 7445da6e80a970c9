"""Tasks that belong together, and how long to wait after a failure."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.aio import Backoff, first_of


async def test_the_first_that_is_done_ends_the_waiting_and_the_others_but_not_what_runs_beside() -> None:
    event, ended = asyncio.Event(), asyncio.Event()

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    beside = asyncio.create_task(asyncio.sleep(60))
    waiting = asyncio.create_task(first_of(for_ever(), event.wait(), beside=[beside]))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    event.set()
    await waiting
    async with asyncio.timeout(30):
        await ended.wait()
    assert not beside.done()
    beside.cancel()


async def test_an_error_of_what_runs_beside_is_raised() -> None:
    async def broken() -> None:
        raise ValueError("beside")

    with pytest.raises(ValueError, match="beside"):
        await first_of(asyncio.Event().wait(), beside=[asyncio.create_task(broken())])


def test_waits_double_up_to_the_longest_and_begin_again_after_success() -> None:
    bounds: list[tuple[float, float]] = []

    def spread(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    backoff = Backoff(first=1, longest=10, spread=spread)
    assert [backoff.failed() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.succeeded()
    assert backoff.failed() == 1
    assert all(low == high / 2 for low, high in bounds)


def test_it_survives_a_week_of_failures() -> None:
    backoff = Backoff()
    waits = [backoff.failed() for _ in range(20_000)]
    assert max(waits) <= 60
    assert min(waits[10:]) >= 30
    assert len(set(waits)) > 1000, "jittered"


@given(st.floats(0.1, 100), st.floats(0, 1))
def test_half_of_each_wait_is_by_chance(first: float, chance: float) -> None:
    longest = max(60.0, first)
    backoff = Backoff(first, longest, lambda low, high: low + chance * (high - low))
    delays = [backoff.failed() for _ in range(12)]
    for number, delay in enumerate(delays):
        whole = min(first * 2**number, longest)
        assert whole / 2 <= delay <= whole * 1.000001
    backoff.succeeded()
    assert backoff.failed() == delays[0]
