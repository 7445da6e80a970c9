"""Tasks that belong together, and how long to wait after a failure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine
from typing import Any


async def together(*jobs: Coroutine[Any, Any, object]) -> None:
    """Run all as tasks; raise what the first that fails raised, once the others have ended too."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
    for task in done:
        task.result()


async def first_of(*waited: Coroutine[Any, Any, object], beside: Collection[asyncio.Task[Any]] = ()) -> None:
    """Wait until one of ``waited`` is done, and cancel the others. Errors: its own, and those of tasks ``beside``.

    beside: tasks that keep running, and end by an error only.
    """
    tasks = [asyncio.create_task(job) for job in waited]
    try:
        done, _ = await asyncio.wait([*tasks, *beside], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel until it works: redis-py sends through ``wait_for``, which can lose a cancellation (Python < 3.12).

    Being cancelled meanwhile, as by another ``together`` around this one, leaves none of them behind.
    """
    running = set(tasks)
    cancelled = False
    while running:
        for task in running:
            task.cancel()
        try:
            await asyncio.wait(running, timeout=0.05)
        except asyncio.CancelledError:
            cancelled = True
        running = {task for task in running if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marked as retrieved: only the first one is raised
    if cancelled:
        raise asyncio.CancelledError


class Backoff:
    """Delays after failures in a row: doubling, bounded, half of each by chance, so that a fleet does not come in step.

    first, longest: seconds. spread: picks a number between two, replaced where chance must not play.
    """

    def __init__(
        self, first: float = 1.0, longest: float = 60.0, spread: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first = first
        self._longest = longest
        self._spread = spread
        self._failures = 0

    def failed(self) -> float:
        """Seconds to wait after one more failure in a row."""
        # The exponent is bounded before the power is taken: after a week away it would not fit a float.
        ceiling = min(self._first * 2.0 ** min(self._failures, 30), self._longest)
        self._failures += 1
        return self._spread(ceiling / 2, ceiling)

    def succeeded(self) -> None:
        """Start again from the shortest wait."""
        self._failures = 0
