"""Waits for what other processes or tasks do; how long it takes says nothing about the code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LIMIT = 60.0
"""Seconds after which what never happens is a failure: far more than a slow machine needs."""


def until(
    condition: Callable[[], T],
    what: str,
    limit: float = LIMIT,
    *,
    pause: float = 0.02,
    running: Callable[[], bool] = lambda: True,
    log: Callable[[], str] = str,
) -> T:
    """The first true value of ``condition``; limit, pause: seconds.

    running: whether that which is waited for can still happen; log: what a failure shows. Errors: ``AssertionError``.
    """
    deadline = time.monotonic() + limit
    while not (value := condition()):
        if not running():
            value = condition()  # what it did last may have come between the two looks
            assert value, f"ended before {what}:\n{log()}"
            return value
        assert time.monotonic() < deadline, f"not within {limit:.0f} s: {what}\n{log()}"
        time.sleep(pause)
    return value


async def soon(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Returns when ``condition`` holds; the event loop goes on meanwhile. Errors: ``TimeoutError``."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - for what sets no event
            await asyncio.sleep(0.005)
