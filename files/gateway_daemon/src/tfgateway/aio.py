"""Groups of tasks that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any


async def together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run all; raise what the first that fails raised, once the others have ended too."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(tasks)
    for task in done:
        task.result()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
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
