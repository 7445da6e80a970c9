"""Polls against an explorer that answers what it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from tfgateway.errors import ExplorerError, ExplorerUnavailable
from tfgateway.explorer.client import ExplorerClient
from tfgateway.reconciler.explorer_side.poller import Follower


def item(number: int, action: int = 3, **members: Any) -> dict[str, Any]:
    given = {"id": number, "workload_id": 1, "node_id": "G", "workload_type": 7, "domain": f"n{number}.gw1.example"}
    return given | {"customer_tid": 7, "ips": ["203.0.113.5"], "next_action": action} | members


@dataclass
class Server:
    """``pages`` answers a poll by its ``from``; ``single`` a question for one workload."""

    url: str = ""
    asked: list[int] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    pages: Callable[[int], object] = lambda _start: []
    single: dict[str, object] = field(default_factory=dict)
    singles: list[str] = field(default_factory=list)
    late: Callable[[web.Request], Awaitable[web.Response]] | None = None

    async def poll(self, request: web.Request) -> web.Response:
        start = int(request.query["from"])
        self.asked.append(start)
        self.waits.append(request.query.get("wait", ""))
        answer = self.pages(start)
        if isinstance(answer, web.Response):
            return answer
        assert isinstance(answer, list)
        ids = [one["id"] for one in answer if isinstance(one, dict)]
        return web.json_response(answer, headers={"x-last-id": str(max([start, *ids]))})

    async def one(self, request: web.Request) -> web.Response:
        name = request.match_info["gwid"]
        self.singles.append(name)
        if self.late is not None:
            return await self.late(request)
        if name not in self.single:
            return web.json_response({"error": "mongo: no documents in result"}, status=404)
        answer = self.single[name]
        return answer if isinstance(answer, web.Response) else web.json_response(answer)


@pytest.fixture
async def server(serve: Any) -> Server:
    made = Server()
    made.url = await serve(
        ("GET", "/api/v1/reservations/nodes/{node}/workloads", made.poll),
        ("GET", "/api/v1/reservations/nodes/workloads/{gwid}", made.one),
    )
    return made


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def follower(server: Server, clock: Clock) -> AsyncIterator[Follower]:
    async with ExplorerClient(server.url, timeout=2) as client:
        yield Follower(client, "G", 3600, clock)


def known(follower: Follower) -> list[str]:
    return [name for name, _ in follower.desired.items()]


async def test_pages_are_read_to_the_end_and_then_only_news(follower: Follower, server: Server) -> None:
    everything = [item(number) for number in range(1, 8)]
    server.pages = lambda start: [one for one in everything if one["id"] >= start][:3]
    await follower.poll()
    assert server.asked == [0, 4, 7, 8]
    assert len(known(follower)) == 7
    assert follower.desired.complete
    server.asked.clear()
    await follower.poll()
    assert server.asked == [8]
    everything.append(item(9))
    await follower.poll()
    assert server.asked == [8, 8, 10]
    assert "9-1" in known(follower)


async def test_only_news_are_waited_for_and_what_is_repeated_is_none(follower: Follower, server: Server) -> None:
    everything = [item(1), item(2)]
    server.pages = lambda start: [one for one in everything if one["id"] >= start] or [item(1, 4)]
    assert await follower.poll(7)
    assert server.waits == ["", ""], "a listing is not held back"
    assert not await follower.poll(7)
    assert server.waits[2:] == ["7"]
    everything.append(item(3))
    assert await follower.poll(7)
    assert server.waits[3:] == ["7", ""]


async def test_p8_ids_that_went_backwards_are_listed_again(follower: Follower, server: Server, clock: Clock) -> None:
    """The explorer was restored from a backup, or an item had an id that nobody gave out."""
    everything = [item(1), item(10**17), item(10**30)]

    def pages(start: int) -> object:
        shown = [one for one in everything if one["id"] >= start]
        last = max([start, *(one["id"] for one in shown)]) if shown else 7
        return web.Response(text=json.dumps(shown), headers={"x-last-id": str(min(last, 10**17))})

    server.pages = pages
    await follower.poll()
    assert server.asked == [0, 10**17 + 1]
    everything[1:] = [item(7)]
    await follower.poll()
    assert known(follower) == ["1-1", "7-1"]
    asked = len(server.asked)
    clock.now = 200
    await follower.poll()
    assert server.asked[asked:] == [8], "and no more often than that"


def explorer(server: Server, count: int, last: int | None = None) -> None:
    """It has given out ids up to ``last``; of this node are 1 to ``count``."""

    def pages(start: int) -> object:
        shown = [item(number) for number in range(max(start, 1), count + 1)]
        headers = {"x-last-id": str(shown[-1]["id"] if shown else last or count)}
        return web.Response(text=json.dumps(shown), headers=headers)

    server.pages = pages


@pytest.mark.parametrize(
    ("count", "last"),
    [(3, 3), (5, 8), (3, 1_000_003)],
    ids=["its last id is below ours", "its last id is below what it was", "a copy of our explorer skips a million"],
)
async def test_an_explorer_that_was_restored_is_listed_within_a_poll(
    follower: Follower, server: Server, clock: Clock, count: int, last: int
) -> None:
    explorer(server, 5, 9)
    await follower.poll()
    await follower.poll()
    server.asked.clear()
    explorer(server, count, last)
    await follower.poll()
    assert server.asked == [6, 0, count + 1]
    assert len(known(follower)) == count
    # One that goes back and forth is not listed with every poll.
    server.asked.clear()
    for other in (9, 5, 9, 5):
        explorer(server, 5, other)
        await follower.poll()
    assert 0 not in server.asked
    clock.now = 61
    await follower.poll()
    assert 0 in server.asked


async def test_an_id_that_nobody_gave_out_is_a_listing_a_minute(
    follower: Follower, server: Server, clock: Clock
) -> None:
    """What is new has lower ids, and is not seen by polls."""

    def pages(start: int) -> object:
        shown = [one for one in (item(1), item(10**17)) if one["id"] >= start]
        return web.Response(text=json.dumps(shown), headers={"x-last-id": str(shown[-1]["id"] if shown else 7)})

    server.pages = pages
    for now, listings in ((0, 1), (0, 1), (59, 1), (61, 2), (61, 2), (100, 2), (122, 3)):
        clock.now = now
        await follower.poll()
        assert server.asked.count(0) == listings, now


async def test_ids_that_others_are_given_are_no_reason_to_list_everything(follower: Follower, server: Server) -> None:
    for last in (5, 5, 900, 500_000):
        explorer(server, 5, last)
        await follower.poll()
    assert server.asked.count(0) == 1


async def test_an_explorer_that_was_away_is_listed_within_two_minutes(
    follower: Follower, server: Server, clock: Clock
) -> None:
    """It may have been restored from a copy that lacks no id."""
    explorer(server, 5)
    await follower.poll()
    await follower.poll()
    working, server.pages = server.pages, lambda _start: web.Response(status=500, text="{}")
    with pytest.raises(ExplorerError):
        await follower.poll()
    server.pages = working
    server.asked.clear()
    await follower.poll()
    clock.now = 59
    await follower.poll()
    assert 0 not in server.asked
    clock.now = 120
    await follower.poll()
    assert server.asked.count(0) == 1


async def test_a_listing_in_which_the_explorer_was_restored_begins_anew(
    follower: Follower, server: Server, clock: Clock
) -> None:
    """It shows the deletions of before, until it is away; and then what the backup has."""
    explorer(server, 5, 9)
    await follower.poll()

    def pages(start: int) -> object:
        return [item(1, action=4)] if start == 0 else web.Response(status=500, text="{}")

    server.pages = pages
    clock.now = 3600
    with pytest.raises(ExplorerError):
        await follower.poll()
    assert follower.desired.get("1-1").next_action == 3  # type: ignore[union-attr]
    explorer(server, 3, 3)
    await follower.poll()
    assert {name: wanted.next_action for name, wanted in follower.desired.items()} == {f"{n}-1": 3 for n in (1, 2, 3)}


async def test_a_late_answer_to_a_question_does_not_undo_a_listing(
    follower: Follower, server: Server, clock: Clock
) -> None:
    await follower.poll()
    asked, released = asyncio.Event(), asyncio.Event()

    async def answers(_request: web.Request) -> web.Response:
        asked.set()
        await released.wait()
        return web.json_response(item(1, action=6))

    server.late = answers
    asking = asyncio.create_task(follower.ask_for(["1-1"]))
    await asked.wait()
    server.pages = lambda start: [item(1)] if start <= 1 else []
    clock.now = 3600
    await follower.poll()
    released.set()
    await asking
    assert follower.desired.get("1-1").next_action == 3  # type: ignore[union-attr]


async def test_queued_items_are_taken_and_do_not_move_the_position(follower: Follower, server: Server) -> None:
    server.pages = lambda start: [item(5)] if start <= 5 else [item(2, action=0), item(5, action=4)]
    await follower.poll()
    assert server.asked == [0, 6]
    assert known(follower) == ["2-1", "5-1"]
    assert follower.desired.get("5-1").next_action == 4  # type: ignore[union-attr]
    server.asked.clear()
    await follower.poll()
    await follower.poll()
    assert server.asked == [6, 6]


@pytest.mark.parametrize("last_id", [0, 10**17])
async def test_a_last_id_that_makes_no_sense_moves_nothing(follower: Follower, server: Server, last_id: int) -> None:
    def pages(start: int) -> object:
        body = json.dumps([item(5)] if start <= 5 else [])
        return web.Response(text=body, headers={"x-last-id": str(last_id)})

    server.pages = pages
    await follower.poll()
    await follower.poll()
    assert server.asked == [0, 6, 6]


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=500, text="{}"),
        lambda: web.Response(text="<html>maintenance</html>", headers={"x-last-id": "9"}),
        lambda: web.Response(text='[{"id": 7', headers={"x-last-id": "9"}),
        lambda: web.Response(text="[" * 100_000, headers={"x-last-id": "9"}),
        lambda: web.Response(text="[]"),
        lambda: web.json_response({"error": "go away"}, status=403),
    ],
)
async def test_p15_a_listing_that_fails_goes_on_where_it_stopped(
    follower: Follower, server: Server, answer: Callable[[], web.Response]
) -> None:
    broken = True

    def pages(start: int) -> object:
        if start > 3 and broken:
            return answer()
        return [one for one in (item(3), item(7)) if one["id"] >= start][:1]

    server.pages = pages
    for _ in range(2):
        with pytest.raises(ExplorerError):
            await follower.poll()
    assert not follower.desired.complete
    assert follower.desired.unlisted(["1-1"]) == []
    broken = False
    server.asked.clear()
    await follower.poll()
    assert server.asked == [4, 8]
    assert follower.desired.complete
    assert known(follower) == ["3-1", "7-1"]


async def test_p2_a_poisoned_item_does_not_spoil_its_page(follower: Follower, server: Server) -> None:
    bad = [item(4, ips="no list"), 5, None, "text", item(6, workload_type=12), item(8, node_id="H")]
    server.pages = lambda start: [item(3), *bad, item(9)] if start == 0 else []
    await follower.poll()
    assert known(follower) == ["3-1", "4-1", "6-1", "9-1"]


async def test_p23_an_explorer_that_never_answers_is_given_up(server: Server, clock: Clock) -> None:
    async def silence(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)
        writer.close()

    silent = await asyncio.start_server(silence, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with ExplorerClient(url, timeout=0.2) as client:
        with pytest.raises(ExplorerUnavailable, match="no answer in"):
            await Follower(client, "G", 3600, clock).poll()
    silent.close()


async def test_a_listing_without_an_end_is_given_up(
    follower: Follower, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfgateway.reconciler.explorer_side.poller._MOST_PAGES", 20)
    server.pages = lambda start: [item(start + 1)]
    with pytest.raises(ExplorerUnavailable, match="does not end"):
        await follower.poll()
    assert not follower.desired.complete


async def test_a_listing_is_repeated_after_the_interval(follower: Follower, server: Server, clock: Clock) -> None:
    everything = [item(3), item(7)]
    server.pages = lambda start: [one for one in everything if one["id"] >= start]
    await follower.poll()
    del everything[0]
    clock.now = 3599
    await follower.poll()
    assert known(follower) == ["3-1", "7-1"]
    clock.now = 3600
    await follower.poll()
    assert known(follower) == ["7-1"]
    assert follower.desired.unlisted(["3-1", "7-1"]) == ["3-1"]


async def test_what_is_not_listed_is_asked_for_one_by_one(follower: Follower, server: Server) -> None:
    await follower.poll()
    server.single = {
        "1-1": item(1, action=6),
        "2-1": item(2),
        "3-1": item(3, node_id="H"),
        "4-1": item(5),
        "5-1": web.Response(status=500, text="oops"),
        "6-1": web.json_response({"error": "no"}, status=401),
        "7-1": web.Response(text="not json"),
    }
    names = [f"{number}-1" for number in range(1, 9)]
    await follower.ask_for(follower.desired.unlisted(names))
    assert known(follower) == ["1-1", "2-1"]
    assert follower.desired.get("1-1").next_action == 6  # type: ignore[union-attr]
    assert follower.desired.unknown == {"3-1", "4-1", "8-1"}
    # What could not be found out is asked for again, the rest is not.
    assert follower.desired.unlisted(names) == ["5-1", "6-1", "7-1"]
