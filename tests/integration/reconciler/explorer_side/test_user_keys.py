"""Users' keys: asked for once each, and what becomes of a reverse proxy while they cannot be had."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import ReverseProxy
from tfgateway.explorer.user import encrypted_secret
from tfgateway.identity.keys import Identity
from tfgateway.reconciler.explorer_side.user_keys import UserKeyCache
from tfgateway.redis_schema.keys import service_key
from tfgateway.redis_schema.services import Service, decode_service

from tests.integration.reconciler.conftest import Fleet
from tests.support.waiting import until

KEY = Identity.from_seed(bytes(32)).public_key
DOMAIN = "tunnel.example.org"


class Server:
    """``answers`` by tid; who is not in it is unknown."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, Any] = {}
        self.asked: Counter[str] = Counter()

    async def user(self, request: web.Request) -> web.Response:
        tid = request.match_info["tid"]
        self.asked[tid] += 1
        answer = self.answers.get(tid)
        if answer is None:
            return web.json_response({"error": "user not found"}, status=404)
        if isinstance(answer, int):
            return web.json_response({"error": "no"}, status=answer)
        return web.json_response({"id": int(tid), "pubkey": answer})


@pytest.fixture
async def server(serve: Any) -> Server:
    made = Server()
    made.url = await serve(("GET", "/api/v1/users/{tid}", made.user))
    return made


@pytest.fixture
async def client(server: Server) -> AsyncIterator[ExplorerClient]:
    async with ExplorerClient(server.url) as made:
        yield made


async def test_a_key_is_asked_for_once(server: Server, client: ExplorerClient) -> None:
    server.answers = {"7": KEY.hex().upper()}
    user_keys = UserKeyCache(client)
    assert user_keys.known == {}
    assert await user_keys.ask(["7"]) == {"7": KEY}
    assert user_keys.known == {"7": KEY}


async def test_an_unknown_user_is_told_as_such_and_asked_for_again(server: Server, client: ExplorerClient) -> None:
    user_keys = UserKeyCache(client)
    assert await user_keys.ask(["7"]) == {"7": None}
    assert user_keys.known == {}
    server.answers = {"7": KEY.hex()}
    assert await user_keys.ask(["7"]) == {"7": KEY}


@pytest.mark.parametrize("text", ["", "zz", "ab" * 31, "ab" * 33])
async def test_a_key_that_is_none_is_no_key(server: Server, client: ExplorerClient, text: str) -> None:
    server.answers = {"7": text}
    assert await UserKeyCache(client).ask(["7"]) == {"7": None}


async def test_what_is_no_tid_is_not_asked_for(server: Server, client: ExplorerClient) -> None:
    assert await UserKeyCache(client).ask(["x/../1"]) == {"x/../1": None}
    assert not server.asked


async def test_p3_trouble_says_nothing_about_a_user(server: Server, client: ExplorerClient) -> None:
    server.answers = {"7": 500, "8": 403, "9": KEY.hex()}
    user_keys = UserKeyCache(client)
    assert await user_keys.ask(["8", "9"]) == {"9": KEY}
    assert await user_keys.ask(["7"]) == {"9": KEY}


async def test_p23_an_explorer_that_is_away_is_not_asked_for_everybody(server: Server, client: ExplorerClient) -> None:
    tids = [str(number) for number in range(1, 101)]
    server.answers = dict.fromkeys(tids, 500)
    assert await UserKeyCache(client).ask(tids) == {}
    assert len(server.asked) < 20


def test_a_tunnels_secret_reaches_redis_in_clear_and_leaves_with_the_reservation(fleet: Fleet) -> None:
    fleet.start("proxy")
    process = fleet.start()
    account = fleet.register("alice")
    secret = f"{account.tid}:hidden-from-everybody"
    workload = ReverseProxy(
        node_id=fleet.node_id, domain=DOMAIN, secret=encrypted_secret(account, fleet.node_id, secret)
    )
    number = fleet.reserve(workload)
    fleet.deployed(number)
    assert decode_service(fleet.get(service_key(DOMAIN))) == Service(clientsecret=secret, user=str(account.tid))
    until(lambda: fleet.state()["in_sync"], "served")
    # A restart asks for the key again, and has nothing to repair.
    process.stop()
    again = fleet.start()
    until(lambda: fleet.state()["in_sync"], "in sync")
    fleet.delete(number)
    fleet.gone(number)
    assert fleet.get(service_key(DOMAIN)) is None
    assert "hidden-from-everybody" not in process.log + again.log


def test_p1_a_short_secret_gets_its_error_result(fleet: Fleet) -> None:
    process = fleet.start()
    number = fleet.reserve(ReverseProxy(node_id=fleet.node_id, domain=DOMAIN, secret="ab"))
    workload = fleet.gone(number)
    assert workload.result.message.startswith("failed to decrypt secret: decryption error: ")
    assert process.running
