from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from tfgateway.aio import together

from tests.support.waiting import soon


async def test_the_first_error_ends_all_and_is_raised() -> None:
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        raise OSError("redis is away")

    with pytest.raises(OSError, match="away"):
        await together(endless(), fails())
    assert ended.is_set()


async def test_none_is_left_behind_although_one_around_it_goes_on_cancelling() -> None:
    async def swallows() -> None:
        for _ in range(8):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    outer = asyncio.create_task(together(together(swallows(), swallows())))
    await soon(lambda: len(_named()) == 2)
    outer.cancel()
    with suppress(asyncio.CancelledError):
        await outer
    assert not _named()


def _named() -> set[asyncio.Task[None]]:
    return {task for task in asyncio.all_tasks() if "swallows" in repr(task.get_coro())}
