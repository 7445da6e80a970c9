"""To wait for what other processes do, without a word about how long it should take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LIMIT = 60.0
"""Seconds after which what never happens is a failure: far more than a slow machine needs."""


def until(condition: Callable[[], T], what: str, limit: float = LIMIT) -> T:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {limit:.0f} s: {what}"
        time.sleep(0.02)
    return value


async def soon(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """The same while the event loop goes on. Errors: ``TimeoutError``."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
