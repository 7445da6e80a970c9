"""When requests may begin: at once, until there are too many in a turn of the loop; then networks take turns."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from tfgateway.explorer.server.connections import ConnectionLimits, LimitedConnection
from tfgateway.explorer.server.fair_turns import FairTurns


async def _begin(turns: FairTurns, network: str, begun: list[str]) -> None:
    await turns.wait(network)
    begun.append(network)


def _tasks(turns: FairTurns, networks: str, begun: list[str]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(_begin(turns, network, begun)) for network in networks]


async def test_few_requests_begin_in_the_turn_in_which_they_come() -> None:
    begun: list[str] = []
    tasks = _tasks(FairTurns(4), "aaab", begun)
    await asyncio.sleep(0)
    assert begun == ["a", "a", "a", "b"]
    await asyncio.gather(*tasks)


async def test_no_turn_begins_more_than_it_may() -> None:
    turns, begun = FairTurns(4), list[str]()
    tasks = _tasks(turns, "a" * 50, begun)
    before = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        assert len(begun) - before <= 4
        before = len(begun)
    assert len(begun) == 50


async def test_a_network_does_not_wait_for_the_flood_of_another() -> None:
    turns, begun = FairTurns(4), list[str]()
    tasks = _tasks(turns, "a" * 1000 + "b" + "a" * 1000 + "bc", begun)
    await asyncio.gather(*tasks)
    # The first turn was the flood's, since nobody else had come when it began.
    assert [begun.index("b"), begun.index("c")] == [5, 6]
    assert len(begun) == 2003


async def test_one_that_is_cancelled_takes_no_place() -> None:
    turns, begun = FairTurns(1), list[str]()
    tasks = _tasks(turns, "abcd", begun)
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert begun == ["a", "d"]


async def test_one_whose_client_has_gone_takes_no_place_and_is_not_kept() -> None:
    """Those that connect, ask and reset again and again left a request each that nobody waited for."""
    turns, begun = FairTurns(1), list[str]()
    limits = ConnectionLimits(10, 1000, lambda _limit: None)
    connection = LimitedConnection(web.Server(_no_request), limits, loop=asyncio.get_running_loop())
    connection.connection_made(_Transport())
    first, last = _tasks(turns, "ab", begun)
    gone = asyncio.create_task(turns.wait("a", connection))
    await asyncio.sleep(0)
    connection.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await gone
    await asyncio.gather(first, last)
    assert begun == ["a", "b"]


class _Transport(asyncio.Transport):
    """Of a client that has gone."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del high, low

    def is_closing(self) -> bool:
        return True

    def close(self) -> None:
        pass


async def _no_request(_request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError


async def test_there_is_room_again_when_the_loop_has_turned() -> None:
    turns, begun = FairTurns(2), list[str]()
    for _ in range(5):
        tasks = _tasks(turns, "aa", begun)
        await asyncio.sleep(0)
        assert all(task.done() for task in tasks) or len(begun) % 2 == 0
        await asyncio.gather(*tasks)
    assert len(begun) == 10
