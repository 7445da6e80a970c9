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
from tfgateway.reconciler.explorer_side.poller import Poller


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
async def poller(server: Server, clock: Clock) -> AsyncIterator[Poller]:
    async with ExplorerClient(server.url, timeout=2) as client:
        yield Poller(client, "G", 3600, clock)


def known(poller: Poller) -> list[str]:
    return [name for name, _ in poller.desired.items()]


async def test_pages_are_read_to_the_end_and_then_only_news(poller: Poller, server: Server) -> None:
    everything = [item(number) for number in range(1, 8)]
    server.pages = lambda start: [one for one in everything if one["id"] >= start][:3]
    await poller.poll()
    assert server.asked == [0, 4, 7, 8]
    assert len(known(poller)) == 7
    assert poller.desired.complete
    server.asked.clear()
    await poller.poll()
    assert server.asked == [8]
    everything.append(item(9))
    await poller.poll()
    assert server.asked == [8, 8, 10]
    assert "9-1" in known(poller)


async def test_only_news_are_waited_for_and_what_is_repeated_is_none(poller: Poller, server: Server) -> None:
    everything = [item(1), item(2)]
    server.pages = lambda start: [one for one in everything if one["id"] >= start] or [item(1, 4)]
    assert await poller.poll(7)
    assert server.waits == ["", ""], "a listing is not held back"
    assert not await poller.poll(7)
    assert server.waits[2:] == ["7"]
    everything.append(item(3))
    assert await poller.poll(7)
    assert server.waits[3:] == ["7", ""]


async def test_p8_ids_that_went_backwards_are_listed_again(poller: Poller, server: Server, clock: Clock) -> None:
    """The explorer was restored from a backup, or an item had an id that nobody gave out."""
    everything = [item(1), item(10**17), item(10**30)]

    def pages(start: int) -> object:
        shown = [one for one in everything if one["id"] >= start]
        last = max([start, *(one["id"] for one in shown)]) if shown else 7
        return web.Response(text=json.dumps(shown), headers={"x-last-id": str(min(last, 10**17))})

    server.pages = pages
    await poller.poll()
    assert server.asked == [0, 10**17 + 1]
    everything[1:] = [item(7)]
    await poller.poll()
    assert known(poller) == ["1-1", "7-1"]
    asked = len(server.asked)
    clock.now = 200
    await poller.poll()
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
    poller: Poller, server: Server, clock: Clock, count: int, last: int
) -> None:
    explorer(server, 5, 9)
    await poller.poll()
    await poller.poll()
    server.asked.clear()
    explorer(server, count, last)
    await poller.poll()
    assert server.asked == [6, 0, count + 1]
    assert len(known(poller)) == count
    # One that goes back and forth is not listed with every poll.
    server.asked.clear()
    for other in (9, 5, 9, 5):
        explorer(server, 5, other)
        await poller.poll()
    assert 0 not in server.asked
    clock.now = 61
    await poller.poll()
    assert 0 in server.asked


async def test_an_id_that_nobody_gave_out_is_a_listing_a_minute(poller: Poller, server: Server, clock: Clock) -> None:
    """What is new has lower ids, and is not seen by polls."""

    def pages(start: int) -> object:
        shown = [one for one in (item(1), item(10**17)) if one["id"] >= start]
        return web.Response(text=json.dumps(shown), headers={"x-last-id": str(shown[-1]["id"] if shown else 7)})

    server.pages = pages
    for now, listings in ((0, 1), (0, 1), (59, 1), (61, 2), (61, 2), (100, 2), (122, 3)):
        clock.now = now
        await poller.poll()
        assert server.asked.count(0) == listings, now


async def test_ids_that_others_are_given_are_no_reason_to_list_everything(poller: Poller, server: Server) -> None:
    for last in (5, 5, 900, 500_000):
        explorer(server, 5, last)
        await poller.poll()
    assert server.asked.count(0) == 1


async def test_an_explorer_that_was_away_is_listed_within_two_minutes(
    poller: Poller, server: Server, clock: Clock
) -> None:
    """It may have been restored from a copy that lacks no id."""
    explorer(server, 5)
    await poller.poll()
    await poller.poll()
    working, server.pages = server.pages, lambda _start: web.Response(status=500, text="{}")
    with pytest.raises(ExplorerError):
        await poller.poll()
    server.pages = working
    server.asked.clear()
    await poller.poll()
    clock.now = 59
    await poller.poll()
    assert 0 not in server.asked
    clock.now = 120
    await poller.poll()
    assert server.asked.count(0) == 1


async def test_a_listing_in_which_the_explorer_was_restored_begins_anew(
    poller: Poller, server: Server, clock: Clock
) -> None:
    """It shows the deletions of before, until it is away; and then what the backup has."""
    explorer(server, 5, 9)
    await poller.poll()

    def pages(start: int) -> object:
        return [item(1, action=4)] if start == 0 else web.Response(status=500, text="{}")

    server.pages = pages
    clock.now = 3600
    with pytest.raises(ExplorerError):
        await poller.poll()
    assert poller.desired.get("1-1").next_action == 3  # type: ignore[union-attr]
    explorer(server, 3, 3)
    await poller.poll()
    assert {name: wanted.next_action for name, wanted in poller.desired.items()} == {f"{n}-1": 3 for n in (1, 2, 3)}


async def test_a_late_answer_to_a_question_does_not_undo_a_listing(
    poller: Poller, server: Server, clock: Clock
) -> None:
    await poller.poll()
    asked, released = asyncio.Event(), asyncio.Event()

    async def answers(_request: web.Request) -> web.Response:
        asked.set()
        await released.wait()
        return web.json_response(item(1, action=6))

    server.late = answers
    asking = asyncio.create_task(poller.ask_for(["1-1"]))
    await asked.wait()
    server.pages = lambda start: [item(1)] if start <= 1 else []
    clock.now = 3600
    await poller.poll()
    released.set()
    await asking
    assert poller.desired.get("1-1").next_action == 3  # type: ignore[union-attr]


async def test_queued_items_are_taken_and_do_not_move_the_position(poller: Poller, server: Server) -> None:
    server.pages = lambda start: [item(5)] if start <= 5 else [item(2, action=0), item(5, action=4)]
    await poller.poll()
    assert server.asked == [0, 6]
    assert known(poller) == ["2-1", "5-1"]
    assert poller.desired.get("5-1").next_action == 4  # type: ignore[union-attr]
    server.asked.clear()
    await poller.poll()
    await poller.poll()
    assert server.asked == [6, 6]


@pytest.mark.parametrize("last_id", [0, 10**17])
async def test_a_last_id_that_makes_no_sense_moves_nothing(poller: Poller, server: Server, last_id: int) -> None:
    def pages(start: int) -> object:
        body = json.dumps([item(5)] if start <= 5 else [])
        return web.Response(text=body, headers={"x-last-id": str(last_id)})

    server.pages = pages
    await poller.poll()
    await poller.poll()
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
    poller: Poller, server: Server, answer: Callable[[], web.Response]
) -> None:
    broken = True

    def pages(start: int) -> object:
        if start > 3 and broken:
            return answer()
        return [one for one in (item(3), item(7)) if one["id"] >= start][:1]

    server.pages = pages
    for _ in range(2):
        with pytest.raises(ExplorerError):
            await poller.poll()
    assert not poller.desired.complete
    assert poller.desired.unlisted(["1-1"]) == []
    broken = False
    server.asked.clear()
    await poller.poll()
    assert server.asked == [4, 8]
    assert poller.desired.complete
    assert known(poller) == ["3-1", "7-1"]


async def test_p2_a_poisoned_item_does_not_spoil_its_page(poller: Poller, server: Server) -> None:
    bad = [item(4, ips="no list"), 5, None, "text", item(6, workload_type=12), item(8, node_id="H")]
    server.pages = lambda start: [item(3), *bad, item(9)] if start == 0 else []
    await poller.poll()
    assert known(poller) == ["3-1", "4-1", "6-1", "9-1"]


async def test_p23_an_explorer_that_never_answers_is_given_up(server: Server, clock: Clock) -> None:
    async def silence(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)
        writer.close()

    silent = await asyncio.start_server(silence, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with ExplorerClient(url, timeout=0.2) as client:
        with pytest.raises(ExplorerUnavailable, match="no answer in"):
            await Poller(client, "G", 3600, clock).poll()
    silent.close()


async def test_a_listing_without_an_end_is_given_up(
    poller: Poller, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfgateway.reconciler.explorer_side.poller._MOST_PAGES", 20)
    server.pages = lambda start: [item(start + 1)]
    with pytest.raises(ExplorerUnavailable, match="does not end"):
        await poller.poll()
    assert not poller.desired.complete


async def test_a_listing_is_repeated_after_the_interval(poller: Poller, server: Server, clock: Clock) -> None:
    everything = [item(3), item(7)]
    server.pages = lambda start: [one for one in everything if one["id"] >= start]
    await poller.poll()
    del everything[0]
    clock.now = 3599
    await poller.poll()
    assert known(poller) == ["3-1", "7-1"]
    clock.now = 3600
    await poller.poll()
    assert known(poller) == ["7-1"]
    assert poller.desired.unlisted(["3-1", "7-1"]) == ["3-1"]


async def test_what_is_not_listed_is_asked_for_one_by_one(poller: Poller, server: Server) -> None:
    await poller.poll()
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
    await poller.ask_for(poller.desired.unlisted(names))
    assert known(poller) == ["1-1", "2-1"]
    assert poller.desired.get("1-1").next_action == 6  # type: ignore[union-attr]
    assert poller.desired.unknown == {"3-1", "4-1", "8-1"}
    # What could not be found out is asked for again, the rest is not.
    assert poller.desired.unlisted(names) == ["5-1", "6-1", "7-1"]
