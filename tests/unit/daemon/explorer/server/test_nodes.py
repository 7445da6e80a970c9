"""The node side: poll, results, deletions (E-1)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from tfgateway.explorer import signing
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Proxy, ResultState, Subdomain
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.storage import rows
from tfgateway.identity.keys import Identity

from tests.support.waiting import soon


def _ids(answer: Any) -> list[tuple[int, int]]:
    return [(item["id"], item["next_action"]) for item in answer.json]


async def _page(grid: Any, start: int, query: str = "") -> tuple[list[tuple[int, int]], str]:
    answer = await grid.poll(start, query)
    assert answer.status == 200
    return _ids(answer), answer.headers["x-last-id"]


async def test_an_empty_explorer(grid: Any) -> None:
    answer = await grid.poll(0)
    assert (answer.text, answer.headers["x-last-id"]) == ("[]\n", "0")


async def test_live_workloads_from_an_id_on(grid: Any) -> None:
    for _ in range(3):
        await grid.create()
    assert await _page(grid, 0) == ([(1, 3), (2, 3), (3, 3)], "3")
    assert await _page(grid, 2) == ([(2, 3), (3, 3)], "3")


async def test_queued_items_come_again_until_they_are_answered(grid: Any) -> None:
    for _ in range(3):
        await grid.create()
    # Nothing lives beyond 3: what nobody has answered for yet is delivered again, as it was when it was queued.
    for _ in range(2):
        assert await _page(grid, 4) == ([(1, 0), (2, 0), (3, 0)], "4")
    assert (await grid.put("2-1", grid.result())).status == 201
    assert await _page(grid, 4) == ([(1, 0), (3, 0)], "4")
    assert (await grid.put("1-1", grid.result())).status == 201
    assert (await grid.gone("3-1")).status == 200
    # With nothing at all, the last id ever given out.
    assert await _page(grid, 4) == ([], "3")
    assert await _page(grid, 1000) == ([], "3")


async def test_a_queued_id_above_from_is_the_last_id(grid: Any) -> None:
    await grid.create()
    await grid.create()
    assert (await grid.gone("2-1")).status == 200
    assert (await grid.put("1-1", grid.result(ResultState.OK))).status == 201
    await grid.delete(1)
    assert await _page(grid, 0) == ([(1, 4)], "1")
    assert await _page(grid, 2) == ([(1, 4)], "2")


async def test_a_deletion_reaches_a_node_that_is_far_ahead(grid: Any) -> None:
    for number in range(1, 4):
        await grid.create()
        assert (await grid.put(f"{number}-1", grid.result())).status == 201
    assert await _page(grid, 4) == ([], "3")
    await grid.delete(1)
    assert await _page(grid, 4) == ([(1, 4)], "4")
    assert (await grid.gone("1-1")).status == 200
    assert await _page(grid, 4) == ([], "3")


async def test_a_late_ok_does_not_swallow_the_deletion(grid: Any) -> None:
    await grid.create()
    await grid.delete(1)
    assert (await grid.put("1-1", grid.result())).status == 201
    assert await _page(grid, 5) == ([(1, 4)], "5")


async def test_a_page_ends_at_200(grid: Any) -> None:
    for number in range(201):
        await grid.create(domain=f"n{number}.gw1.example")
    page, last = await _page(grid, 0)
    assert (len(page), last) == (200, "200")
    page, last = await _page(grid, 201)
    assert (page, last) == ([(201, 3)], "201")
    page, last = await _page(grid, 202)
    assert (len(page), last) == (200, "202")


async def test_other_nodes_see_nothing(grid: Any, stranger: Identity) -> None:
    await grid.create()
    answer = await grid.call("GET", f"/reservations/nodes/{stranger.node_id}/workloads?from=0")
    assert answer.json == []


@pytest.mark.parametrize("query", ["", "?from=", "?from=-1", "?from=x", "?from=1.0", f"?from={'9' * 30}", "?from=٣"])
async def test_from_must_be_digits(grid: Any, query: str) -> None:
    assert (await grid.call("GET", f"/reservations/nodes/{grid.node_id}/workloads{query}")).status == 404


@pytest.mark.parametrize("wait", ["x", "-1", "nan", "inf"])
async def test_wait_must_be_a_time(grid: Any, wait: str) -> None:
    assert (await grid.poll(0, f"&wait={wait}")).status == 400


async def test_a_workload_by_gwid(grid: Any) -> None:
    await grid.create(workload_id=5)
    answer = await grid.call("GET", "/reservations/nodes/workloads/1-5")
    assert answer.json["domain"] == "www.gw1.example"
    for gwid in ("1-1", "2-5", "1", "1-x", "1-5-1"):
        assert (await grid.call("GET", f"/reservations/nodes/workloads/{gwid}")).status == 404


# Results


async def test_an_ok_result(grid: Any) -> None:
    await grid.create()
    grid.explorer.now += 9
    answer = await grid.put("1-1", grid.result(data=b'{"a": 1.0}'))
    assert (answer.status, answer.text) == (201, "null\n")
    answer = await grid.call("GET", "/reservations/workloads/1")
    assert answer.json["next_action"] == 3
    result = answer.json["result"]
    assert (result["state"], result["workload_id"], result["node_id"]) == (1, "1-1", grid.node_id)
    assert result["epoch"] == 1611000009
    assert result["data_json"] == {"a": 1.0}


async def test_an_error_result_asks_for_deletion_and_keeps_its_message(grid: Any) -> None:
    await grid.create()
    message = "cannot add subdomain www: <taken> & gone ü\n"
    assert (await grid.put("1-1", grid.result(ResultState.ERROR, message))).status == 201
    stored = await grid.get(1)
    assert (stored["next_action"], stored["result"]["state"], stored["result"]["message"]) == (4, 0, message)
    assert (await grid.gone("1-1")).text == "null\n"
    stored = await grid.get(1)
    assert (stored["next_action"], stored["result"]["state"], stored["result"]["message"]) == (6, 2, message)


async def test_a_late_result_does_not_bring_a_deleted_workload_back(grid: Any) -> None:
    await grid.create()
    assert (await grid.gone("1-1")).status == 200
    for state in (ResultState.ERROR, ResultState.OK):
        assert (await grid.put("1-1", grid.result(state))).status == 201
        stored = await grid.get(1)
        assert (stored["next_action"], stored["result"]["state"]) == (6, 2)


async def test_answers_for_unknown_workloads(grid: Any) -> None:
    await grid.create()
    for gwid in ("2-1", "1-2"):
        for answer in (await grid.put(gwid, grid.result()), await grid.gone(gwid)):
            assert (answer.status, answer.error) == (404, "mongo: no documents in result")


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"state":2}', b'{"state":7}', b'{"state":"1"}', b'{"message":5}'])
async def test_results_that_are_none(grid: Any, body: bytes) -> None:
    await grid.create()
    assert (await grid.put("1-1", body)).status == 400


async def test_e1_a_result_must_be_signed_by_its_node(grid: Any, stranger: Identity) -> None:
    await grid.create()
    good = grid.result()
    forged = good.replace(
        signing.sign_result(ResultState.OK, "", b"null", grid.node).encode(),
        signing.sign_result(ResultState.OK, "", b"null", stranger).encode(),
    )
    for body in (forged, good.replace(b'"state":1', b'"state":0'), good.replace(b'"message":""', b'"message":"x"')):
        answer = await grid.put("1-1", body)
        assert (answer.status, answer.error) == (401, "unauthorized access: result: signature does not match")
    answer = await grid.put("1-1", good.replace(b'"signature":"', b'"signature":"zz'))
    assert answer.status == 401
    assert (await grid.get(1))["result"]["workload_id"] == ""


async def test_c4_a_copied_signature_is_not_enough(grid: Any, stranger: Identity) -> None:
    """All successes of a node have the same signature: who sends one has to be the node as well."""
    await grid.create()
    answer = await grid.put("1-1", grid.result(), by=stranger)
    assert answer.status in (401, 403)
    assert (await grid.get(1))["result"]["workload_id"] == ""
    assert (await grid.put("1-1", grid.result())).status == 201


@pytest.mark.parametrize("data", [b"null", b'{"b": 1.50, "a":"\\u0041"}', b"[1,\t2]", b'"<&>"', b"1e3"])
async def test_e1_the_signature_covers_the_data_as_it_was_sent(grid: Any, data: bytes) -> None:
    await grid.create()
    body = grid.result(data=data)
    assert (await grid.put("1-1", body)).status == 201
    assert (await grid.put("1-1", body.replace(data, data + b" "))).status == 201  # white space around is not the data
    if b" " in data:
        assert (await grid.put("1-1", body.replace(data, data.replace(b" ", b"  ")))).status == 401


async def test_e1_results_and_deletions_need_the_nodes_signature(grid: Any, stranger: Identity) -> None:
    await grid.create()
    path = f"/reservations/nodes/{grid.node_id}/workloads/1-1"
    assert (await grid.call("PUT", path, grid.result())).status == 401
    assert (await grid.call("DELETE", path)).status == 401
    assert (await grid.put("1-1", grid.result(), by=stranger)).status == 403
    assert (await grid.gone("1-1", by=stranger)).status == 403
    assert (await grid.get(1))["next_action"] == 3


async def test_e1_a_node_answers_for_its_own_workloads_only(grid: Any, stranger: Identity) -> None:
    await grid.create()
    path = f"/reservations/nodes/{stranger.node_id}/workloads/1-1"
    by = (stranger, stranger.node_id)
    signature = signing.sign_result(ResultState.ERROR, "", b"null", stranger)
    body = {"state": 0, "message": "", "data_json": None, "signature": signature}
    for answer in (await grid.call("PUT", path, body, by=by), await grid.call("DELETE", path, by=by)):
        assert (answer.status, answer.error) == (403, "the workload belongs to another node")
    assert (await grid.get(1))["next_action"] == 3


# Long polling


async def _waiting(grid: Any, start: int) -> asyncio.Task[Any]:
    """A poll that is being held back."""
    task = asyncio.create_task(grid.poll(start, "&wait=60"))
    await asyncio.sleep(0.1)
    assert grid.explorer.long_polls._watchers
    assert not task.done()
    return task


async def test_wait_is_answered_as_soon_as_there_is_news(grid: Any) -> None:
    task = await _waiting(grid, 0)
    await grid.create()
    async with asyncio.timeout(30):
        assert _ids(await task) == [(1, 3)]
    assert (await grid.put("1-1", grid.result())).status == 201
    task = await _waiting(grid, 2)
    await grid.delete(1)
    async with asyncio.timeout(30):
        assert _ids(await task) == [(1, 4)]


async def test_wait_is_answered_at_once_when_there_is_something(grid: Any) -> None:
    await grid.create()
    async with asyncio.timeout(30):
        assert await _page(grid, 0, "&wait=60") == ([(1, 3)], "1")
        # Not yet delivered from the queue: news for a node that is ahead.
        assert await _page(grid, 2, "&wait=60") == ([(1, 0)], "2")


async def test_wait_is_not_answered_with_the_same_queue_again(grid: Any) -> None:
    await grid.create()
    assert await _page(grid, 2) == ([(1, 0)], "2")
    task = await _waiting(grid, 2)
    await grid.create(Proxy)
    async with asyncio.timeout(30):
        assert _ids(await task) == [(2, 3)]


async def test_wait_ends_with_what_is_queued(grid: Any) -> None:
    await grid.create()
    assert await _page(grid, 2) == ([(1, 0)], "2")
    assert await _page(grid, 2, "&wait=0.01") == ([(1, 0)], "2")


async def test_wait_is_not_disturbed_by_other_nodes(grid: Any, stranger: Identity) -> None:
    assert (await grid.register_gateway(stranger)).status == 201
    pool = await grid.reserve_pool(grid.user, grid.tid, [stranger.node_id])
    task = await _waiting(grid, 0)
    await grid.create(Subdomain, node_id=stranger.node_id, pool_id=pool)
    await asyncio.sleep(0.05)
    assert not task.done()
    await grid.create()
    async with asyncio.timeout(30):
        assert _ids(await task) == [(2, 3)]


async def test_waiting_polls_are_answered_when_the_explorer_stops(grid: Any) -> None:
    task = await _waiting(grid, 0)
    async with asyncio.timeout(30):
        await grid.explorer.server.close()
        assert (await task).status == 200


async def test_nothing_is_remembered_about_polls_that_are_over(grid: Any) -> None:
    for number in range(5):
        await grid.call("GET", f"/reservations/nodes/n{number}/workloads?from=0&wait=0.001")
    assert not grid.explorer.long_polls._watchers
    assert not grid.explorer.long_polls._delivered


async def test_more_polls_than_may_wait_are_answered_at_once(start_explorer: Any) -> None:
    explorer = await start_explorer(max_waiting=1)
    path = "/reservations/nodes/N/workloads?from=0&wait=60"
    first = asyncio.create_task(explorer.call("GET", path))
    await soon(lambda: explorer.long_polls.waiting)
    async with asyncio.timeout(30):
        assert (await explorer.call("GET", path)).json == []
    assert not first.done()
    explorer.long_polls.publish("N")
    assert (await first).json == []
    assert explorer.long_polls.waiting == 0


async def test_e12_a_page_of_the_largest_workloads_can_be_read(lenient: Any) -> None:
    """One user's bloated workloads must not keep a gateway from all the others."""
    assert (await lenient.post(lenient.workload(description="x" * 4097))).status == 400
    large = "x" * (ExplorerPolicy().max_body - 2000)  # as older releases took it
    for _ in range(ExplorerPolicy().poll_page):
        workload_id = await lenient.create()
        await lenient.explorer.database.write(
            lambda connection, workload_id=workload_id: rows.change_workload(
                connection, msgspec.structs.replace(rows.workload(connection, workload_id), description=large)
            )
        )
    async with ExplorerClient(lenient.explorer.url) as client:
        page = await client.poll(lenient.node_id, 0)
    assert [item.description for item in page.items] == [large] * ExplorerPolicy().poll_page
    assert page.last_id == workload_id
