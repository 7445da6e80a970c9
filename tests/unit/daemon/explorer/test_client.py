"""The client against our own server, and against servers that are broken or hostile."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tfgateway.errors import ExplorerRefused, ExplorerUnavailable, IdentityError
from tfgateway.explorer import signing, user
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import (
    Farm,
    Gateway,
    Location,
    NextAction,
    Proxy,
    Result,
    ResultState,
    Subdomain,
    Undecodable,
    User,
    WorkloadCounts,
)
from tfgateway.explorer.user import Account, WorkloadStatus
from tfgateway.identity.keys import Identity

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _node_client(grid: Any) -> ExplorerClient:
    clock = lambda: grid.explorer.now  # noqa: E731
    return ExplorerClient(grid.explorer.url, identity=grid.node, key_id=grid.node_id, clock=clock)


def _user_client(grid: Any) -> ExplorerClient:
    clock = lambda: grid.explorer.now  # noqa: E731
    return ExplorerClient(grid.explorer.url, identity=grid.user, key_id=str(grid.tid), clock=clock)


async def test_a_gateways_life(grid: Any) -> None:
    async with _node_client(grid) as client:
        entry = Gateway(
            node_id=grid.node_id,
            farm_id=1,
            os_version="x",
            public_key_hex=grid.node.public_key.hex(),
            location=Location(city="Ghent"),
        )
        await client.register_gateway(entry)
        await client.send_uptime(grid.node_id, 60)
        await client.send_counters(grid.node_id, WorkloadCounts(proxy=1))
        (listed,) = await client.gateways()
        assert (listed.uptime, listed.workloads.proxy) == (60, 1)

        assert (await client.poll(grid.node_id, 0)).items == ()
        await grid.create()
        await grid.create(Proxy)
        page = await client.poll(grid.node_id, 1, wait=5)
        assert [type(item) for item in page.items] == [Subdomain, Proxy]
        assert page.last_id == 2

        signature = signing.sign_result(ResultState.ERROR, "no", b"null", grid.node)
        await client.put_result(grid.node_id, "1-1", Result(state=ResultState.ERROR, message="no", signature=signature))
        assert (await client.node_workload("1-1")).result.message == "no"
        await client.delete_reservation(grid.node_id, "1-1")
        assert (await client.workload(1)).next_action == NextAction.DELETED
        assert (await client.user(grid.tid)).pubkey == grid.user.public_key.hex()


async def test_result_data_arrives_as_it_was_signed(grid: Any) -> None:
    data = b'{"ips":["fd00::1"],"b": 1.0}'
    await grid.create()
    async with _node_client(grid) as client:
        signature = signing.sign_result(ResultState.OK, "", data, grid.node)
        await client.put_result(grid.node_id, "1-1", Result(state=ResultState.OK, data_json=data, signature=signature))
        assert json.loads((await client.workload(1)).result.data_json) == json.loads(data)


async def test_a_users_life(grid: Any) -> None:
    account = Account(grid.user, grid.tid)
    async with _user_client(grid) as client:
        wanted = Subdomain(node_id=grid.node_id, domain="www.gw1.example", ips=("192.0.2.1",))
        grid.explorer.now += 5
        made = await user.reserve(client, account, wanted, clock=lambda: 1611000000)
        assert (made.id, made.pool_id) == (1, grid.pool)
        assert (await client.workload(1)).epoch == 1611000005
        assert user.status(await user.wait_for_outcome(client, 1, 0))[0] is WorkloadStatus.PENDING
        assert (await grid.put("1-1", grid.result())).status == 201
        assert user.status(await user.wait_for_outcome(client, 1, 30)) == (WorkloadStatus.DEPLOYED, "")
        await user.delete(client, account, 1)
        assert user.status(await client.workload(1)) == (WorkloadStatus.DELETING, "")
        assert (await grid.gone("1-1")).status == 200
        assert user.status(await client.workload(1)) == (WorkloadStatus.DELETED, "")

        failed = await user.reserve(client, account, wanted)
        assert (await grid.put("2-1", grid.result(ResultState.ERROR, "taken"))).status == 201
        assert user.status(await user.wait_for_outcome(client, failed.id, 30)) == (WorkloadStatus.FAILED, "taken")
        assert (await grid.gone("2-1")).status == 200
        assert user.status(await client.workload(2)) == (WorkloadStatus.FAILED, "taken")
        with pytest.raises(ExplorerRefused, match="signed already"):
            await user.delete(client, account, 1)


async def test_a_pool_is_found_or_created(grid: Any, stranger: Identity) -> None:
    assert (await grid.register_gateway(stranger)).status == 201
    async with _user_client(grid) as client:
        assert await user.find_pool(client, grid.tid, grid.node_id) == grid.pool
        created = await user.find_pool(client, grid.tid, stranger.node_id)
        assert created == grid.pool + 1
        assert await user.find_pool(client, grid.tid, stranger.node_id) == created


async def test_registering_twice_is_harmless(grid: Any, stranger: Identity) -> None:
    async with _user_client(grid) as client:
        again = await user.register(client, grid.user, "Alice.3bot", "alice.3bot@example.com")
        assert again.id == grid.tid
        with pytest.raises(ExplorerRefused) as refused:
            await user.register(client, stranger, "alice.3bot", "mallory@example.com")
        assert refused.value.status == 409
        assert await user.farm(client, grid.tid, "alice", "none") == 1
        with pytest.raises(ExplorerRefused):
            await user.farm(client, grid.tid + 1, "alice", "none")


async def test_lists_are_fetched_to_their_end(start_explorer: Any, stranger: Identity) -> None:
    explorer = await start_explorer(max_page=2)
    async with ExplorerClient(explorer.url, identity=stranger, key_id="1") as client:
        for number in range(5):
            await client.register_user(
                User(name=f"user{number}", email=f"{number}@example.com", pubkey=stranger.public_key.hex()), stranger
            )
        for number in range(3):
            farm = Farm(name=f"farm{number}", threebot_id=1, wallet_addresses=({"asset": "", "address": ""},))  # type: ignore[arg-type]
            assert await client.create_farm(farm) == number + 1
        assert len(await client._all("/users")) == 5


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://h", "http://h/api/v1"),
        ("http://h/", "http://h/api/v1"),
        ("http://h/explorer?x=1", "http://h/api/v1"),
        ("https://h:1/api/v1/", "https://h:1/api/v1"),
        ("http://h/below/api/v1", "http://h/below/api/v1"),
    ],
)
def test_a_path_that_is_not_the_apis_is_replaced(given: str, base: str) -> None:
    assert ExplorerClient(given)._base == base


async def test_a_signed_call_needs_an_identity(explorer: Any) -> None:
    async with ExplorerClient(explorer.url) as client:
        with pytest.raises(IdentityError):
            await client.send_uptime("x", 1)


# Other servers


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Call it with a handler for every request; the URL of its server."""
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        servers.append(TestServer(app))
        await servers[-1].start_server()
        return str(servers[-1].make_url(""))

    yield start
    for server in servers:
        await server.close()


async def _answer(serve: Any, status: int, body: bytes, headers: dict[str, str] | None = None) -> ExplorerClient:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return ExplorerClient(await serve(handler), max_answer=10_000)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"error":"broken"}'),
        (503, b"<html>"),
        (429, b'{"error":"slow down"}'),
        (408, b'{"error":"slow"}'),
        (404, b"<html>a proxy's page</html>"),
        (404, b'{"detail":"not the explorer"}'),
        (400, b"[1]"),
        (200, b"<html>"),
        (200, b'{"id":'),
        (200, b"[]"),
        (200, b'{"id":"seven"}'),
        (200, b"[" * 9_000),
        (200, b'{"name":"' + b"x" * 10_000 + b'"}'),
        (204, b""),
        (201, b'{"id":7}'),
    ],
)
async def test_worth_trying_again(serve: Any, status: int, body: bytes) -> None:
    async with await _answer(serve, status, body) as client:
        with pytest.raises(ExplorerUnavailable):
            await client.user(7)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409])
async def test_refused_with_the_explorers_words(serve: Any, status: int) -> None:
    async with await _answer(serve, status, b'{"error":"no \\u001b[31m luck"}') as client:
        with pytest.raises(ExplorerRefused) as refused:
            await client.user(7)
    assert (refused.value.status, refused.value.message) == (status, "no \\x1b[31m luck")


async def test_a_redirect_does_not_carry_the_signature_away(serve: Any, gateway: Identity) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with ExplorerClient(await serve(handler), identity=gateway, key_id=gateway.node_id) as client:
        with pytest.raises(ExplorerUnavailable, match="307"):
            await client.send_uptime(gateway.node_id, 1)
    assert seen == [f"/api/v1/gateways/{gateway.node_id}/uptime"]


async def test_a_compressed_bomb_is_bounded(serve: Any) -> None:
    bomb = gzip.compress(b"x" * 10_000_000)
    async with await _answer(serve, 200, bomb, {"Content-Encoding": "gzip"}) as client:
        with pytest.raises(ExplorerUnavailable, match="larger than 10000"):
            await client.user(7)


async def test_p23_a_silent_explorer(serve: Any) -> None:
    async def handler(_request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async with ExplorerClient(await serve(handler), timeout=0.05) as client:
        with pytest.raises(ExplorerUnavailable, match="no answer in"):
            await client.user(7)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(420, "7 minutes ahead of"), (-7200, "2 hours behind"), (45, "45 seconds ahead of"), (10, "")],
)
async def test_a_401_says_when_the_clock_may_be_the_reason(
    serve: Any, gateway: Identity, seconds: int, words: str
) -> None:
    async def handler(_request: web.Request) -> web.Response:
        headers = {"Date": formatdate(1611000000, usegmt=True)}
        return web.Response(status=401, body=b'{"error":"too late"}', headers=headers)

    node = gateway.node_id
    clock = lambda: 1611000000.5 + seconds  # noqa: E731
    async with ExplorerClient(await serve(handler), identity=gateway, key_id=node, clock=clock) as client:
        assert client.clock_ahead is None
        with pytest.raises(ExplorerRefused) as refused:
            await client.send_uptime(node, 1)
        assert client.clock_ahead == seconds
    assert refused.value.message == (
        "too late" if not words else f"too late; this node's clock is {words} the explorer's"
    )


async def test_a_401_of_somebody_in_between_says_so_too(serve: Any) -> None:
    async with await _answer(serve, 401, b"<html>", {"Date": formatdate(0, usegmt=True)}) as client:
        with pytest.raises(
            ExplorerUnavailable, match=r"status 401; this node's clock is \d+ days ahead of the explorer's"
        ):
            await client.user(7)


@pytest.mark.parametrize("headers", [{"Date": "yesterday"}, {"Date": formatdate(0, usegmt=True), "Age": "5"}])
async def test_a_date_that_says_nothing(serve: Any, headers: dict[str, str]) -> None:
    async with await _answer(serve, 401, b'{"error":"no"}', headers) as client:
        with pytest.raises(ExplorerRefused) as refused:
            await client.user(7)
        assert (client.clock_ahead, refused.value.message) == (None, "no")


async def test_who_does_not_come_again_has_calls_repeated(
    serve: Any, stranger: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfgateway.explorer.client._FIRST_PAUSE", 0.001)
    methods = []

    async def handler(request: web.Request) -> web.Response:
        methods.append(request.method)
        if len(methods) == 3:
            return web.Response(body=b'{"id":7}')
        return web.Response(status=503)

    async with ExplorerClient(await serve(handler), identity=stranger, key_id="1", retries=2) as client:
        assert (await client.user(7)).id == 7
        with pytest.raises(ExplorerUnavailable):
            await client.create_farm(Farm())
        with pytest.raises(ExplorerUnavailable):
            await client.user(7)
    # What was posted may have been done although the answer got lost.
    assert methods == ["GET"] * 3 + ["POST"] + ["GET"] * 3


async def test_what_the_explorer_has_not_done_is_sent_again(
    serve: Any, stranger: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfgateway.explorer.client._FIRST_PAUSE", 0.001)
    answers = [
        *(web.Response(status=503, body=b'{"error":"away"}', headers={"Retry-After": "1"}) for _ in range(5)),
        web.Response(status=201, body=b'{"id":7}'),
        web.Response(status=503, body=b'{"error":"may have been done"}'),
        web.Response(status=503, body=b"from a proxy", headers={"Retry-After": "1"}),
    ]

    async def handler(_request: web.Request) -> web.Response:
        return answers.pop(0)

    async with ExplorerClient(await serve(handler), identity=stranger, key_id="1", retries=1) as client:
        assert await client.create_farm(Farm()) == 7
        for _ in range(2):
            with pytest.raises(ExplorerUnavailable):
                await client.create_farm(Farm())
    assert not answers
    # Not for ever.
    monkeypatch.setattr("tfgateway.explorer.client._AWAY", 0.0)
    answers += [web.Response(status=503, body=b'{"error":"away"}', headers={"Retry-After": "1"}) for _ in range(2)]
    async with ExplorerClient(await serve(handler), identity=stranger, key_id="1", retries=1) as client:
        with pytest.raises(ExplorerUnavailable, match="away"):
            await client.create_farm(Farm())
    assert not answers


async def test_a_refusal_is_not_repeated(serve: Any) -> None:
    calls = []

    async def handler(_request: web.Request) -> web.Response:
        calls.append(1)
        return web.Response(status=404, body=b'{"error":"no"}')

    async with ExplorerClient(await serve(handler), retries=2) as client:
        with pytest.raises(ExplorerRefused):
            await client.user(7)
    assert calls == [1]


async def test_a_poll_waits_longer_than_other_calls(serve: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("wait", "60")))
        return web.Response(body=b"null", headers={"x-last-id": "0"})

    async with ExplorerClient(await serve(handler), timeout=0.3) as client:
        assert (await client.poll("N", 0, wait=0.5)).items == ()
        with pytest.raises(ExplorerUnavailable, match=r"no answer in 0\.3 s"):
            await client.poll("N", 0)


async def test_nobody_listens() -> None:
    async with ExplorerClient("http://127.0.0.1:1") as client:
        with pytest.raises(ExplorerUnavailable):
            await client.user(7)


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", b"nonsense\r\n\r\n"])
async def test_a_connection_that_breaks(raw: bytes) -> None:
    async def handler(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server, ExplorerClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(ExplorerUnavailable):
            await client.user(7)


async def test_p2_one_poisoned_item_does_not_hide_the_others(serve: Any) -> None:
    page = (
        b'[{"id":1,"workload_id":1,"workload_type":12,"next_action":3},'
        b'{"id":2,"workload_id":1,"workload_type":7,"ips":"poison","next_action":3},'
        b'null,"x",'
        b'{"id":3,"workload_id":1,"workload_type":8,"domain":"\\ud800","customer_tid":99999999999999999999999},'
        b'{"id":4,"workload_id":1,"workload_type":8,"domain":"alice.example"}]'
    )
    async with await _answer(serve, 200, page, {"X-Last-Id": "4"}) as client:
        items = (await client.poll("N", 0)).items
    kinds = [type(item).__name__ for item in items]
    assert kinds == ["UnknownWorkload", "Undecodable", "Undecodable", "Undecodable", "Undecodable", "DomainDelegate"]
    assert [item.gwid for item in items if isinstance(item, Undecodable)] == ["2-1", None, None, "3-1"]


async def test_an_empty_poll_may_be_null(serve: Any) -> None:
    async with await _answer(serve, 200, b"null\n", {"x-last-id": "17"}) as client:
        page = await client.poll("N", 0)
    assert (page.items, page.last_id) == ((), 17)


@pytest.mark.parametrize("headers", [{}, {"x-last-id": ""}, {"x-last-id": "-1"}, {"x-last-id": "9" * 30}])
async def test_a_poll_without_a_usable_last_id(serve: Any, headers: dict[str, str]) -> None:
    async with await _answer(serve, 200, b"[]", headers) as client:
        with pytest.raises(ExplorerUnavailable, match="x-last-id"):
            await client.poll("N", 0)


async def test_an_explorer_that_tells_of_pages_it_does_not_have(serve: Any) -> None:
    async with await _answer(serve, 200, b"[]", {"Pages": "999999999"}) as client:
        assert await client.list_workloads() == []


async def test_waiting_for_an_explorer_that_comes_back(serve: Any, grid: Any) -> None:
    answers = [(502, b""), (200, b'{"id":1,"next_action":3,"workload_type":7,"result":{"state":1}}')]

    async def handler(_request: web.Request) -> web.Response:
        status, body = answers.pop(0)
        return web.Response(status=status, body=body)

    async with ExplorerClient(await serve(handler)) as client:
        assert user.status(await user.wait_for_outcome(client, 1, 30))[0] is WorkloadStatus.DEPLOYED
    assert not answers


def test_a_status_for_every_state() -> None:
    ok = Result(state=ResultState.OK)
    for workload, expected in [
        (Subdomain(next_action=NextAction.SIGN), (WorkloadStatus.PENDING, "waiting for signatures")),
        (Subdomain(next_action=NextAction.DEPLOY), (WorkloadStatus.PENDING, "")),
        (Subdomain(next_action=NextAction.DEPLOY, result=ok), (WorkloadStatus.DEPLOYED, "")),
        (Subdomain(next_action=NextAction.INVALID), (WorkloadStatus.FAILED, "the pool needs more capacity")),
        (Subdomain(next_action=NextAction.DELETED), (WorkloadStatus.FAILED, "the gateway removed it without a reason")),
    ]:
        assert user.status(msgspec.structs.replace(workload, id=1)) == expected
