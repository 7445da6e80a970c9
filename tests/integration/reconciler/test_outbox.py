"""Delivery to an explorer that fails in every way a server can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import ResultState, Subdomain
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.outbox import Outbox
from tfgateway.reconciler.planning import results
from tfgateway.reconciler.planning.inputs.desired import Desired
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.connection import connect
from tfgateway.redis_schema.keys import OUTBOX

from tests.support.processes import RedisServer
from tests.support.waiting import soon

IDENTITY = Identity.from_seed(bytes(range(32)))


@dataclass
class Server:
    """An explorer that answers PUT and DELETE as it is told, by gwid; every call is kept."""

    url: str = ""
    status: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        name = request.match_info["gwid"]
        self.calls.append((request.method, name, await request.read()))
        status = self.status.get(name, 201 if request.method == "PUT" else 200)
        if status >= 500:
            return web.Response(status=status, text="<html>")
        return web.json_response(None if status < 300 else {"error": "told so"}, status=status)

    def order(self) -> list[tuple[str, str]]:
        return [(method, name) for method, name, _ in self.calls]


@pytest.fixture
async def server(serve: Any) -> Server:
    made = Server()
    made.url = await serve(("*", "/api/v1/reservations/nodes/{node}/workloads/{gwid}", made.handle))
    return made


@dataclass
class Post:
    redis: Any
    outbox: Outbox
    desired: Desired

    async def put(self, name: str, *, deleted: bool = False, state: ResultState = ResultState.OK) -> None:
        result = results.make_result(name, 7, state, "", IDENTITY, 10**18)
        await self.redis.hset(OUTBOX, results.result_field(name), results.encode_result(result))
        if deleted:
            await self.redis.hset(OUTBOX, results.deleted_field(name), results.encode_deleted(10**18))
        number, _, own = name.partition("-")
        self.desired.merge(Subdomain(id=int(number), workload_id=int(own), node_id=IDENTITY.node_id, next_action=3))

    async def waiting(self) -> set[str]:
        return {name.decode() for name in await self.redis.hkeys(OUTBOX)}


@pytest.fixture
async def post(redis_server: RedisServer, server: Server) -> AsyncIterator[Post]:
    redis = connect(redis_server.url, timeout=30)
    desired = Desired(IDENTITY.node_id)
    async with ExplorerClient(server.url, identity=IDENTITY, key_id=IDENTITY.node_id, timeout=2) as client:
        yield Post(redis, Outbox(Store(redis), client, IDENTITY.node_id, desired), desired)
    await redis.aclose()


async def test_p16_the_result_goes_before_the_deletion_and_both_are_acknowledged(post: Post, server: Server) -> None:
    await post.put("1-1", deleted=True, state=ResultState.ERROR)
    assert await post.outbox.flush()
    assert server.order() == [("PUT", "1-1"), ("DELETE", "1-1")]
    assert await post.waiting() == set()
    wanted = post.desired.get("1-1")
    assert wanted is not None
    assert (wanted.next_action, wanted.result.state) == (6, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [500, 502, 429, 401, 403])
async def test_p16_what_is_not_acknowledged_waits_with_the_same_content(
    post: Post, server: Server, status: int
) -> None:
    server.status["1-1"] = status
    await post.put("1-1", deleted=True)
    await post.put("2-1")
    assert not await post.outbox.flush()
    assert await post.waiting() == {"result:1-1", "deleted:1-1"}, "the other one was delivered"
    assert ("DELETE", "1-1") not in server.order(), "the deletion waits for its result"
    del server.status["1-1"]
    assert await post.outbox.flush()
    bodies = [body for method, name, body in server.calls if (method, name) == ("PUT", "1-1")]
    # A refused signature is tried in the old form at once, unless another request was accepted before.
    assert len(bodies) in ((2, 3) if status == 401 else (2,))
    assert len(set(bodies)) == 1
    assert await post.waiting() == set()


@pytest.mark.parametrize("status", [400, 404])
async def test_p16_what_the_explorer_will_never_take_does_not_wait_for_ever(
    post: Post, server: Server, status: int
) -> None:
    server.status["1-1"] = status
    await post.put("1-1", deleted=True)
    assert await post.outbox.flush()
    assert await post.waiting() == set()


async def test_p16_one_bad_item_does_not_hold_the_others_up(post: Post, server: Server) -> None:
    names = [f"{number}-1" for number in range(1, 60)]
    for name in names:
        await post.put(name)
    server.status["1-1"] = server.status["2-1"] = 500
    await post.outbox.flush()
    assert await post.waiting() == {"result:1-1", "result:2-1"}


async def test_p16_an_explorer_that_is_away_is_not_asked_for_every_item(post: Post, server: Server) -> None:
    for number in range(1, 101):
        await post.put(f"{number}-1")
        server.status[f"{number}-1"] = 503
    assert not await post.outbox.flush()
    assert len(server.calls) < 20
    assert len(await post.waiting()) == 100


async def test_entries_that_nobody_can_read_are_dropped(post: Post, server: Server) -> None:
    await post.redis.hset(OUTBOX, mapping={"result:1-1": "garbage", "noise": "x"})
    await post.put("2-1")
    assert await post.outbox.flush()
    assert server.order() == [("PUT", "2-1")]
    assert await post.waiting() == set()


async def test_p16_it_delivers_by_itself_when_there_is_news_and_after_failures(post: Post, server: Server) -> None:
    server.status["1-1"] = 500
    task = asyncio.create_task(post.outbox.run())
    try:
        await post.put("1-1")
        post.outbox.wake()
        await soon(lambda: server.calls)
        del server.status["1-1"]
        while await post.waiting():  # noqa: ASYNC110 - the server is not to be changed for the test
            await asyncio.sleep(0.01)
    finally:
        task.cancel()
