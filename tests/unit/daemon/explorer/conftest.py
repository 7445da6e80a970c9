"""An explorer in this process on a real socket and a real database, and people who talk to it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tfgateway.explorer import signing, wire
from tfgateway.explorer.models import Proxy, ResultState, SigningRequest, Subdomain, Workload, parse_workload
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.app import create_app
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.registration import RegistrationMode
from tfgateway.explorer.server.storage.connection import Value
from tfgateway.explorer.server.storage.database import Database
from tfgateway.explorer.server.storage.engines.engine import DatabaseEngine
from tfgateway.explorer.server.storage.engines.postgresql.engine import PostgresqlEngine
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.explorer.server.storage.long_polls import LongPolls
from tfgateway.identity.keys import Identity

from tests.support.postgresql import Server, running

NOW = 1611000000


@dataclass
class Answer:
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> str:
        return self.json["error"]


class Explorer:
    """The server under test; its clock stands still until a test moves it."""

    def __init__(self, engine: DatabaseEngine, policy: ExplorerPolicy) -> None:
        self.now = float(NOW)
        self.policy = policy
        self.engine = engine
        self._open(policy)

    def _open(self, policy: ExplorerPolicy) -> None:
        self._app = create_app(self.engine, policy, clock=lambda: self.now)
        self.server = TestServer(self._app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/api/v1"))

    @property
    def long_polls(self) -> LongPolls:
        return self._app[SERVICES].long_polls

    @property
    def database(self) -> Database:
        return self._app[SERVICES].database

    async def start(self) -> None:
        await self.server.start_server()
        self.session = aiohttp.ClientSession()

    async def stop(self) -> None:
        await self.session.close()
        await self.server.close()

    async def restart(self, **policy: Any) -> None:
        """Stop it and start it again on its database and port, with changed policy members."""
        port = self.server.port
        await self.stop()
        self._open(dataclasses.replace(self._app[SERVICES].policy, **policy))
        self.server = TestServer(self._app, port=port)
        await self.start()

    @property
    def routes(self) -> list[web.AbstractRoute]:
        """Everything that it serves."""
        return list(self._app.router.routes())

    def count(self, table: str) -> int:
        """The number of rows."""
        return self.value(f"SELECT count(*) FROM {table}")

    def value(self, query: str, *values: Value) -> int:
        """What a query of one number finds."""
        return self.engine.apply(lambda connection: connection.execute(query, values).fetchone()[0])

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        by: tuple[Identity, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """``body``: bytes go as they are. ``by``: who signs, and under which key id."""
        signed = signing.request_headers(by[0], str(by[1]), int(self.now)) if by else {}
        data = body if isinstance(body, bytes) or body is None else wire.encode(body) + b"\n"
        url = f"{self.url}{path}"
        async with self.session.request(method, url, data=data, headers={**signed, **(headers or {})}) as response:
            return Answer(response.status, response.headers, await response.text())


class Grid:
    """An explorer with a user, his farm, a gateway of it and a pool on that gateway."""

    def __init__(self, explorer: Explorer, user: Identity, node: Identity) -> None:
        self.explorer = explorer
        self.call = explorer.call
        self.user = user
        self.node = node
        self.node_id = node.node_id
        self.tid = 0
        self.pool = 0

    async def furnish(self) -> None:
        self.tid = await self.register("alice.3bot", self.user)
        await self.farm("alice", self.tid)
        assert (await self.register_gateway(self.node)).status == 201
        self.pool = await self.reserve_pool(self.user, self.tid, [self.node_id])

    async def register(self, name: str, identity: Identity, email: str = "") -> int:
        body = {"name": name, "email": email or f"{name}@example.com", "pubkey": identity.public_key.hex()}
        answer = await self.call("POST", "/users", body)
        assert answer.status == 201, answer.text
        return answer.json["id"]

    async def farm(self, name: str, tid: int) -> int:
        wallets = [{"asset": "TFT", "address": "none"}]
        answer = await self.call("POST", "/farms", {"name": name, "threebot_id": tid, "wallet_addresses": wallets})
        assert answer.status == 201, answer.text
        return answer.json["id"]

    def gateway_body(self, node: Identity, **members: object) -> dict[str, object]:
        return {
            "node_id": node.node_id,
            "farm_id": 1,
            "os_version": "main@0123456",
            "public_key_hex": node.public_key.hex(),
            "location": {"city": "Ghent", "country": "Belgium"},
            "managed_domains": ["gw1.example"],
            "dns_nameserver": None,
            **members,
        }

    async def register_gateway(self, node: Identity, **members: object) -> Answer:
        return await self.call("POST", "/gateways", self.gateway_body(node, **members), by=(node, node.node_id))

    def pool_body(self, identity: Identity, tid: int, node_ids: list[str], **members: object) -> dict[str, object]:
        order = {"pool_id": 0, "cus": 0, "sus": 0, "ipv4us": 0, "node_ids": node_ids, "currencies": ["TFT"], **members}
        text = json.dumps(order)
        signature = identity.sign(text.encode()).hex()
        return {"json": text, "data_reservation": order, "customer_tid": tid, "customer_signature": signature}

    async def reserve_pool(self, identity: Identity, tid: int, node_ids: list[str]) -> int:
        answer = await self.call("POST", "/reservations/pools", self.pool_body(identity, tid, node_ids))
        assert answer.status == 201, answer.text
        return answer.json["reservation_id"]

    def workload(self, model: type[Workload] = Subdomain, **members: object) -> Workload:
        """A signed workload that is good enough unless ``members`` say otherwise."""
        usual: dict[type, dict[str, object]] = {
            Subdomain: {"domain": "www.gw1.example", "ips": ("203.0.113.5", "2001:db8::5")},
            Proxy: {"domain": "www.gw1.example", "addr": "203.0.113.5", "port": 80, "port_tls": 443},
        }
        common = {
            "workload_id": 1,
            "node_id": self.node_id,
            "pool_id": self.pool,
            "customer_tid": self.tid,
            "epoch": NOW,
            "signing_request_delete": SigningRequest(signers=(self.tid,), quorum_min=1),
        }
        workload = model(**{**common, **usual.get(model, {}), **members})
        if "customer_signature" in members:
            return workload
        return signing.sign_workload(workload, self.user)

    async def post(self, workload: object) -> Answer:
        return await self.call("POST", "/reservations/workloads", workload, by=(self.user, self.tid))

    async def create(self, model: type[Workload] = Subdomain, **members: object) -> int:
        answer = await self.post(self.workload(model, **members))
        assert answer.status == 201, answer.text
        return answer.json["reservation_id"]

    async def get(self, workload_id: int) -> dict[str, Any]:
        return (await self.call("GET", f"/reservations/workloads/{workload_id}")).json

    async def sign(self, word: str, workload_id: int, identity: Identity, tid: int) -> Answer:
        """Approve ``word`` over the workload as the explorer returns it."""
        workload = parse_workload(await self.get(workload_id))
        approval = signing.sign_approval(workload, word, tid, identity)
        body = {"tid": tid, "signature": approval.signature}
        return await self.call("POST", f"/reservations/workloads/{workload_id}/sign/{word}", body)

    async def delete(self, workload_id: int) -> None:
        assert (await self.sign("delete", workload_id, self.user, self.tid)).status == 201

    async def poll(self, start: int, query: str = "") -> Answer:
        return await self.call("GET", f"/reservations/nodes/{self.node_id}/workloads?from={start}{query}")

    def result(self, state: ResultState = ResultState.OK, message: str = "", data: bytes = b"null") -> bytes:
        """A result as the gateway posts it."""
        signature = signing.sign_result(state, message, data, self.node)
        return (
            b'{"category":7,"workload_id":"x","data_json":%s,"signature":"%s","state":%d,"message":%s,"epoch":1,"node_id":""}\n'
            % (data, signature.encode(), state, json.dumps(message).encode())
        )

    async def put(self, gwid: str, body: bytes, by: Identity | None = None) -> Answer:
        node = by or self.node
        return await self.call(
            "PUT", f"/reservations/nodes/{self.node_id}/workloads/{gwid}", body, by=(node, node.node_id)
        )

    async def gone(self, gwid: str, by: Identity | None = None) -> Answer:
        node = by or self.node
        return await self.call(
            "DELETE", f"/reservations/nodes/{self.node_id}/workloads/{gwid}", by=(node, node.node_id)
        )


@pytest.fixture
def gateway() -> Identity:
    """The gateway of ``tests/vectors``."""
    return Identity.from_seed(bytes(range(0x20)))


@pytest.fixture
def user() -> Identity:
    """The user of ``tests/vectors``."""
    return Identity.from_seed(bytes(range(0x20, 0x40)))


@pytest.fixture
def stranger() -> Identity:
    """Anybody else."""
    return Identity.from_seed(b"x" * 32)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabaseEngine]:
    """Each engine, with a database of the test's own that is still to be made."""
    if request.param == "sqlite":
        yield SqliteEngine(tmp_path / "explorer.db")
        return
    server: Server = request.getfixturevalue("postgresql")
    with server.database() as url:
        yield PostgresqlEngine(url)


@pytest.fixture
async def start_explorer(engine: DatabaseEngine) -> AsyncIterator[Callable[..., Awaitable[Explorer]]]:
    """Call it with policy members for an explorer of the test's own, open to old clients unless they say otherwise."""
    started: list[Explorer] = []

    async def start(**policy: Any) -> Explorer:
        explorer = Explorer(engine, ExplorerPolicy(**{"registration": RegistrationMode.OPEN, **policy}))
        await explorer.start()
        started.append(explorer)
        return explorer

    yield start
    for explorer in started:
        await explorer.stop()


@pytest.fixture
async def explorer(start_explorer: Callable[..., Awaitable[Explorer]]) -> Explorer:
    """An empty explorer with the default policy."""
    return await start_explorer()


@pytest.fixture
async def grid(explorer: Explorer, user: Identity, gateway: Identity) -> Grid:
    """A strict explorer with a user, a gateway and a pool."""
    furnished = Grid(explorer, user, gateway)
    await furnished.furnish()
    return furnished


@pytest.fixture
def start_grid(
    start_explorer: Callable[..., Awaitable[Explorer]], user: Identity, gateway: Identity
) -> Callable[..., Awaitable[Grid]]:
    """As ``grid``, with policy members of the test's own."""

    async def start(**policy: Any) -> Grid:
        furnished = Grid(await start_explorer(**policy), user, gateway)
        await furnished.furnish()
        return furnished

    return start


@pytest.fixture
async def lenient(start_grid: Callable[..., Awaitable[Grid]]) -> Grid:
    """As ``grid``, but it accepts any workload."""
    return await start_grid(validate_workloads=False)


@pytest.fixture
def replace() -> Callable[..., Any]:
    """``msgspec.structs.replace``."""
    return msgspec.structs.replace
