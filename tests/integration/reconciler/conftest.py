"""A whole gateway: redis, explorer, reconciler and planes as real processes, and a user with a key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler
from aiohttp.web import Application
from tfgateway.explorer import user
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import AdmittedGateway, NextAction, Workload
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity

from tests.integration.reconciler.scene import Scene
from tests.support import disasters, metrics
from tests.support.group import Group
from tests.support.processes import CommandLine, RedisServer, StartProcess
from tests.support.waiting import until

T = TypeVar("T")


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """``await serve((method, path, handler), ...)``: the URL of a web server with these routes."""
    async with contextlib.AsyncExitStack() as servers:

        async def start(*routes: tuple[str, str, Handler]) -> str:
            app = Application()
            for method, path, handler in routes:
                app.router.add_route(method, path, handler)
            server = await servers.enter_async_context(TestServer(app))
            return str(server.make_url("")).rstrip("/")

        yield start


class Fleet:
    """One explorer with a farm, one gateway that belongs to it, and users 7.. who reserve on it."""

    def __init__(
        self, directory: Path, redis_server: RedisServer, tfgateway: CommandLine, free_port: Callable[[], int]
    ) -> None:
        self.redis_server = redis_server
        self.tfgateway = tfgateway
        self.seed = directory / "identity.seed"
        seedfile.create(self.seed, bytes(range(32)))
        self.identity = Identity.from_seed(bytes(range(32)))
        self.node_id = self.identity.node_id
        self.explorer_port = free_port()
        self.database = directory / "explorer.db"
        self.url = f"http://127.0.0.1:{self.explorer_port}/api/v1"
        self.updates_socket = (
            Path(tempfile.mkdtemp(prefix="tfgateway-")) / "updates.sock"
        )  # short: its path has a limit
        self.ports = {name: free_port() for name in ("dns", "http", "tls", "tunnels", "rm", "dm", "pm", "web")}
        self.explorer: Any = None
        self.accounts: dict[str, user.Account] = {}
        self._numbers = iter(range(1, 1_000_000))
        self.clock: Callable[[], float] = time.time
        """Of the users."""

    def config(self, **reconciler: object) -> str:
        extra = "\n".join(f"{name} = {json.dumps(value)}" for name, value in reconciler.items())
        return f"""
[identity]
seed = "{self.seed}"
[redis]
url = "{self.redis_server.url}"
timeout = 2
[explorer]
url = "{self.url}"
poll_interval = 0.2
timeout = 5
[gateway]
farm_id = 1
name_servers = ["ns1.gw1.example"]
managed_domains = ["gw1.example"]
[gateway.location]
city = "Gent"
country = "Belgium"
continent = "Europe"
[reconciler]
metrics = "127.0.0.1:{self.ports["rm"]}"
{extra}
[dns]
listen = ["127.0.0.1:{self.ports["dns"]}"]
metrics = "127.0.0.1:{self.ports["dm"]}"
updates.socket = "{self.updates_socket}"
[proxy]
listen_http = ["127.0.0.1:{self.ports["http"]}"]
listen_tls = ["127.0.0.1:{self.ports["tls"]}"]
listen_tunnels = ["127.0.0.1:{self.ports["tunnels"]}"]
allowed_targets = ["127.0.0.1/32", "203.0.113.0/24", "2001:db8::/32"]
metrics = "127.0.0.1:{self.ports["pm"]}"
"""

    # Processes

    def start_explorer(self) -> None:
        listen = f"127.0.0.1:{self.explorer_port}"
        arguments = ["explorer", "--listen", listen, "--database", str(self.database), "--accept-any"]
        self.explorer = self.tfgateway(*arguments, config="")

    def start(self, *command: str, ready: bool = True, **reconciler: object) -> Any:
        return self.tfgateway(*(command or ("reconcile",)), config=self.config(**reconciler), ready=ready)

    def run(self, *command: str, **reconciler: object) -> Any:
        return self.tfgateway.run(*command, config=self.config(**reconciler))

    def state(self) -> dict[str, Any]:
        ended = self.run("state", "--json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def verdicts(self) -> dict[str, str]:
        return {one["domain"]: one["verdict"] for one in self.state()["reservations"]}

    def redis(self) -> Any:
        return self.redis_server.client()

    def metric(self, name: str) -> float:
        """Of the reconciler."""
        return metrics.scrape(self.ports["rm"])[name]

    def get(self, key: str, field: str | None = None) -> bytes | None:
        with self.redis() as client:
            return client.get(key) if field is None else client.hget(key, field)

    # Users

    def call(self, work: Callable[[ExplorerClient], Awaitable[T]], name: str = "") -> T:
        async def main() -> T:
            account = self.accounts.get(name)
            identity, key_id = (account.identity, str(account.tid)) if account else (None, "")
            async with ExplorerClient(self.url, identity=identity, key_id=key_id, clock=self.clock) as client:
                return await work(client)

        return asyncio.run(main())

    def register(self, name: str) -> user.Account:
        number = len(self.accounts) + 1
        identity = Identity.from_seed(bytes([number]) * 32)
        known = self.call(lambda client: user.register(client, identity, name, f"{name}@example.com"))
        self.accounts[name] = user.Account(identity, known.id)
        return self.accounts[name]

    def admit(self, *domains: str) -> None:
        """The farmer lets the gateway register with ``domains``, by default what it is configured with."""
        wanted = AdmittedGateway(farm_id=1, node_id=self.node_id, managed_domains=domains or ("gw1.example",))
        self.call(lambda client: client.admit(wanted), "farmer")

    def registered(self) -> None:
        """Wait until the reconciler has registered the gateway."""
        until(lambda: self.call(lambda client: client.gateways()), "the gateway is registered")

    def reserve(self, workload: Workload, name: str = "alice") -> int:
        self.registered()
        account = self.accounts.get(name) or self.register(name)
        return self.call(lambda client: user.reserve(client, account, workload), name).id

    def delete(self, workload_id: int, name: str = "alice") -> None:
        self.call(lambda client: user.delete(client, self.accounts[name], workload_id), name)

    def workload(self, workload_id: int) -> Workload:
        return self.call(lambda client: client.workload(workload_id))

    def deployed(self, workload_id: int) -> Workload:
        return until(lambda: self._in(workload_id, user.WorkloadStatus.DEPLOYED), f"{workload_id} deployed")

    def gone(self, workload_id: int) -> Workload:
        return until(lambda: self._at(workload_id, NextAction.DELETED), f"{workload_id} deleted")

    def _in(self, workload_id: int, wanted: user.WorkloadStatus) -> Workload | None:
        workload = self.workload(workload_id)
        return workload if user.status(workload)[0] is wanted else None

    def _at(self, workload_id: int, action: NextAction) -> Workload | None:
        workload = self.workload(workload_id)
        return workload if workload.next_action == action else None


@pytest.fixture
def unstarted_fleet(
    tmp_path: Path, redis_server: RedisServer, tfgateway: CommandLine, free_port: Callable[[], int]
) -> Fleet:
    """Not even an explorer is there."""
    return Fleet(tmp_path, redis_server, tfgateway, free_port)


@pytest.fixture
def fleet(unstarted_fleet: Fleet) -> Iterator[Fleet]:
    """Explorer and farm are there, and the gateway is admitted; its processes are not there yet."""
    started = unstarted_fleet
    started.start_explorer()
    started.register("farmer")
    started.call(lambda client: user.farm(client, started.accounts["farmer"].tid, "farm", "wallet"), "farmer")
    started.admit()
    yield started
    shutil.rmtree(started.updates_socket.parent)


class Web:
    """A target: HTTP at once on ``port``, TLS with a certificate of its own when asked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._servers: list[ThreadingHTTPServer] = []
        self.port = self._start(0).server_port

    def start_tls(self, port: int) -> None:
        certificate, key = self._directory / "cert.pem", self._directory / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-subj", "/CN=web", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._start(port, context)

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers.clear()

    def _start(self, port: int, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    started = Web(tmp_path)
    yield started
    started.stop()


@dataclass
class Rogue:
    """An explorer that does what ours never would: it lies, mumbles, falls silent, sends garbage.

    ``listing`` is what it wants, ``poll`` (if set) answers polls instead; results and deletions are kept.
    """

    listing: list[dict[str, Any]] = field(default_factory=list)
    poll: Callable[[BaseHTTPRequestHandler, int], None] | None = None
    results: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    deleted: list[str] = field(default_factory=list)
    registered: list[bytes] = field(default_factory=list)
    asked: int = 0
    deaf: bool = False
    """Takes no answers: hangs up on results and deletions."""
    away: bool = False
    """Hangs up on everybody."""
    missed: int = 0
    """Calls that it hung up on."""
    ahead: float = 0
    """Seconds by which its clock is ahead of ours."""
    step: Callable[[str], None] = lambda _what: None
    """Told before and after each call that changes something."""
    url: str = ""

    def items(self, start: int) -> bytes:
        """The listing from an id on, with the answers that arrived."""
        shown = []
        for item in self.listing:
            gwid = f"{item['id']}-{item['workload_id']}"
            if gwid in self.deleted or item["id"] < start:
                continue
            answers = self.results.get(gwid)
            shown.append(item | ({"result": json.loads(answers[-1])} if answers else {}))
        return json.dumps(shown).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def start(self) -> Rogue:
        rogue = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string((timestamp or time.time()) + rogue.ahead)

            def parse_request(self) -> bool:
                if not super().parse_request():
                    return False
                if gone := rogue.away or (rogue.deaf and self.command in ("PUT", "DELETE")):
                    rogue.missed += 1
                    self.close_connection = True
                return not gone

            def do_GET(self) -> None:
                path = urlsplit(self.path)
                if "/reservations/nodes/workloads/" in path.path:
                    rogue.answer(self, b'{"error":"mongo: no documents in result"}', status=404)
                    return
                if "/users/" in path.path:
                    key = Identity.from_seed(bytes([7]) * 32).public_key.hex()
                    rogue.answer(self, json.dumps({"id": 7, "pubkey": key}).encode())
                    return
                rogue.asked += 1
                query = parse_qs(path.query)
                start = int(query["from"][0])
                if rogue.poll is not None:
                    rogue.poll(self, start)
                    return
                body = rogue.items(start)
                if body == b"[]" and "wait" in query:
                    time.sleep(0.1)
                rogue.answer(self, body)

            def do_POST(self) -> None:
                body = self.read()
                if registers := self.path.endswith("/gateways"):
                    rogue.registered.append(body)
                rogue.answer(self, b"null", status=201 if registers else 200)

            def do_PUT(self) -> None:
                body = self.read()
                rogue.step("before PUT")
                rogue.results[self.path.rpartition("/")[2]].append(body)
                rogue.step("after PUT")
                rogue.answer(self, b"null", status=201)

            def do_DELETE(self) -> None:
                self.read()
                rogue.step("before DELETE")
                rogue.deleted.append(self.path.rpartition("/")[2])
                rogue.step("after DELETE")
                rogue.answer(self, b"null")

            def read(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Whoever asked was killed."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    @staticmethod
    def workload(number: int, kind: int, action: int = 3, **members: Any) -> dict[str, Any]:
        """One item of a poll."""
        node_id = Identity.from_seed(bytes(range(32))).node_id
        given = {"id": number, "workload_id": 1, "node_id": node_id, "workload_type": kind, "next_action": action}
        return given | {"customer_tid": 7, "epoch": 1_611_000_003, "version": 2} | members

    @classmethod
    def subdomain(cls, number: int, label: str, action: int = 3, **members: Any) -> dict[str, Any]:
        return cls.workload(number, 7, action, domain=f"{label}.gw1.example", ips=["203.0.113.5"], **members)

    @staticmethod
    def answer(
        handler: BaseHTTPRequestHandler,
        body: bytes,
        *,
        status: int = 200,
        last: int | str = 0,
        length: int | None = None,
    ) -> None:
        """length: what is promised, when it is not what is sent."""
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("x-last-id", str(last))
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = length is not None


@pytest.fixture
def rogue() -> Iterator[Rogue]:
    """A hostile explorer that is still friendly."""
    started = Rogue().start()
    yield started
    started.close()


@pytest.fixture
async def scene(
    tmp_path: Path, redis_server: RedisServer, rogue: Rogue, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    """Failures are tried again at once, and the outbox hears of what was done, or never."""
    monkeypatch.setattr("tfgateway.aio.Backoff.failed", lambda _self: 0.02)
    monkeypatch.setattr("tfgateway.reconciler.outbox._LOOK", 3600.0)
    made = Scene(tmp_path, redis_server, rogue)
    made.geoip_url = await serve(("GET", "/", made.geoip)) + "/"
    await made.begin()
    yield made
    made.redis.close()


@pytest.fixture
def served_node(fleet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[disasters.Node]:
    """A fleet whose planes run, keep copies on disk, and are asked for everything."""
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    started = disasters.Node(fleet, tmp_path)
    started.start()
    yield started
    started.close()


@pytest.fixture
def group(unstarted_fleet: Any, tmp_path: Path, start_process: StartProcess) -> Iterator[Group]:
    """Of two members, started, with one identity and a replicated redis."""
    made = Group(unstarted_fleet, tmp_path, start_process)
    try:
        made.start()
        yield made
    finally:
        made.close()
