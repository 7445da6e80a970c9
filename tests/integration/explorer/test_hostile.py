"""The explorer under requests of hostile size, in a process that may take 64 MB more than it does at rest.

What there is to attack is found in the application: endpoints from its router; parameters, members of bodies and who
has to sign from one request to each.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import re
import resource
import socket
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import MultiDict, MultiDictProxy
from tfgateway.explorer import signing, wire
from tfgateway.explorer.models import Gateway, User, Workload
from tfgateway.explorer.server.api import bounds
from tfgateway.explorer.server.app import create_app
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.identity.keys import Identity

from tests.support import procfs

MEGABYTE = 1024 * 1024
MORE = 64 * MEGABYTE
"""Above what the process takes at rest."""
GATEWAY = Identity.from_seed(bytes(range(0x20)))
USER = Identity.from_seed(bytes(range(0x20, 0x40)))
NODE = GATEWAY.node_id
GOOD = {"id": "1", "tid": "1", "node_id": NODE, "gwid": "1-1"}
"""Parameters of paths."""
WORKLOAD = Workload(id=1, workload_id=1, node_id=NODE)


@dataclass
class Endpoint:
    """One route, and what a request to it may carry."""

    method: str
    path: str
    signer: tuple[Identity, str] | None = None
    bound: bool = False
    """Whether only a signature of this one request will do."""
    parameters: set[str] = field(default_factory=set)
    members: set[bytes] = field(default_factory=set)
    """Bodies with ``%s`` in place of the value of one member."""

    @property
    def good(self) -> str:
        """Its path with values that exist."""
        return re.sub(r"\{(\w+)\}", lambda name: GOOD[name[1]], self.path)


class _Recorded(MultiDictProxy[str]):
    """A query that notes which parameters are looked for."""

    names: set[str]

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return super().get(key, default)


async def _endpoints(directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[Endpoint]:
    """Of an explorer in this process."""
    app = create_app(SqliteEngine(directory / "discovery.db"))
    found = []
    looked_for: set[str] = set()
    decoded: set[bytes] = set()
    query, problem = web.BaseRequest.query.wrapped, bounds.problem

    def recording(request: web.BaseRequest) -> _Recorded:
        recorded = _Recorded(MultiDict(query(request)))
        recorded.names = looked_for
        return recorded

    def noting(posted: msgspec.Struct) -> str | None:
        if not decoded:  # the body itself comes first, what is inside it afterwards
            decoded.update(_members(type(posted)))
        return problem(posted)

    monkeypatch.setattr(web.BaseRequest, "query", property(recording))
    monkeypatch.setattr(bounds, "problem", noting)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        async with session.post(server.make_url("/api/v1/users"), json=_new_user()) as answer:
            assert answer.status == 201
        for route in app.router.routes():
            assert route.resource is not None
            endpoint = Endpoint(route.method, route.resource.canonical)
            for signer, bound in itertools.product((None, (GATEWAY, NODE), (USER, "1")), (False, True)):
                looked_for.clear()
                decoded.clear()
                url = server.make_url(endpoint.good + "?from=0")
                once = _once(endpoint.method, url.raw_path_qs, url.host_port_subcomponent) if bound else None
                headers = _signed(signer, b"{}", once)
                async with session.request(endpoint.method, url, data=b"{}", headers=headers) as answer:
                    await answer.read()
                endpoint.parameters |= looked_for
                if decoded or answer.status != 401:
                    endpoint.signer, endpoint.bound, endpoint.members = signer, bound, set(decoded)
                    break
            found.append(endpoint)
    monkeypatch.undo()
    return found


def _members(kind: type[msgspec.Struct]) -> Iterator[bytes]:
    """Bodies for each member, also of the objects in it."""
    for member in msgspec.structs.fields(kind):
        name = member.encode_name.encode()
        yield b'{"%s":%%s}' % name
        inner = next(iter(get_args(member.type)), member.type)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            around = b'{"%s":[%s]}' if get_origin(member.type) is tuple else b'{"%s":%s}'
            yield from (around % (name, body) for body in _members(inner))


def _user_body() -> dict[str, str]:
    return {"name": "alice.3bot", "email": "alice@example.com", "pubkey": USER.public_key.hex()}


def _new_user() -> dict[str, str]:
    """As a closed explorer, which it is by default, wants to have it."""
    proof = USER.sign(signing.key_proof_message(User(**_user_body())))
    return {**_user_body(), "key_proof": proof.hex()}


def _signed(signer: tuple[Identity, str] | None, body: bytes, once: signing.Once | None = None) -> dict[str, str]:
    return signing.request_headers(*signer, int(time.time()), body, once) if signer else {}


def _once(method: str, target: str, host: str | None) -> signing.Once:
    return signing.Once(method, target, host or "", signing.new_nonce())


class Process:
    """The explorer under a limit of memory."""

    def __init__(self, explorer: Any) -> None:
        self.port = explorer.port
        self.pid = explorer.process.pid
        self._process = explorer.process
        assert self.call("GET", "/api/v1/farms") == 200
        self.rest = procfs.memory(self.pid)
        most = procfs.memory(self.pid, "VmData") * 1024 + MORE
        resource.prlimit(self.pid, resource.RLIMIT_DATA, (most, most))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 60)

    def call(self, method: str, target: str, headers: bytes = b"", body: bytes | None = None) -> int:
        """The status of the answer to one request on a connection of its own."""
        length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode("utf-8", "surrogateescape")
        return self.send(head + headers + length + b"\r\n" + (body or b""))

    def send(self, request: bytes) -> int:
        with self.connect() as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # answered before it had all of it
                connection.sendall(request)
            return self.status(connection)

    def status(self, connection: socket.socket) -> int:
        """Of the answer, which is read to its end; 0 when there is none."""
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer = answer or part
        return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0

    def check(self) -> None:
        """An honest client is answered, by a process that lives and has stayed within its memory."""
        assert self._process.running
        assert self.call("GET", "/api/v1/farms") == 200
        target = f"/api/v1/gateways/{NODE}/uptime"
        signed = _signed((GATEWAY, NODE), b"{}", _once("POST", target, "x"))  # the key may be pinned at the moment
        head = "".join(f"{name}: {value}\r\n" for name, value in signed.items()).encode()
        assert self.call("POST", target, head, b"{}") == 200
        assert (procfs.memory(self.pid, "VmHWM") - self.rest) * 1024 < MORE


@pytest.fixture
def process(explorer: Any) -> Process:
    """A user, a gateway and a farm are in the database."""
    gateway = Gateway(id=1, node_id=NODE, farm_id=1, public_key_hex=GATEWAY.public_key.hex())
    user = User(id=1, **_user_body())
    with sqlite3.connect(explorer.database) as database:
        database.execute("INSERT INTO user VALUES (1, 'alice.3bot', 'alice@example.com', ?)", (wire.encode(user),))
        database.execute("INSERT INTO farm VALUES (1, 'farm', 1, x'7b7d')")
        database.execute("INSERT INTO gateway VALUES (1, ?, 1, '', '', ?)", (NODE, wire.encode(gateway)))
        database.execute("INSERT INTO pool VALUES (1, 1, x'7b7d')")
        database.execute("INSERT INTO workload VALUES (1, ?, 7, 1, 7, 3, 1, ?)", (NODE, wire.encode(WORKLOAD)))
    return Process(explorer)


LONG = "a" * 8000
NUMBERS = ["9" * digits for digits in (18, 19, 5000)] + ["0" * 5000, "-1", "%D9%A3", "1e999", "nan"]
TEXTS = [LONG, "%ff", "%00", "%ed%a0%80", "\udcff" * 100, "%2f" * 2000, "1-" + "9" * 5000, "9" * 5000 + "-1"]
VALUES = [
    b'"%s"' % (b"a" * 60_000),
    b'"%s"' % (b"\\ud800" * 9000),
    b"[%s]" % b",".join([b"1"] * 20_000),
    b'["%s"]' % b'","'.join([b"192.0.2.1"] * 4000),
    b"[" * 5000 + b"]" * 5000,
    b"9" * 4000,
    b"1e999",
    b"null",
]
"""Of each member of a body."""
BODIES = [
    *VALUES,
    b'"%s"' % (b"\xff" * 60_000),
    b"[" * 30_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    *(b"9" * digits for digits in (19, 20, 60_000)),
    b"-" + b"9" * 30,
    b"true",
    b"{}",
    b'""',
    b" " * 70_000,
    b"\xff" * 1000,
    b'{"a":1}' * 5000,
    b'{"a":1,' * 5000,
    b'"' * 60_000,
    b"{" + b",".join(b'"k%d":%d' % (number, number) for number in range(4000)) + b"}",
]
HEADERS = {
    "one large": b"X: " + LONG.encode() + b"\r\n",
    "too large": b"X: " + LONG.encode() * 10 + b"\r\n",
    "large name": LONG.encode() + b": x\r\n",
    "many": b"X: y\r\n" * 100,
    "too many": b"X: y\r\n" * 5000,
    "many large": (b"X: " + LONG.encode() + b"\r\n") * 100,
    "not UTF-8": b"X: " + b"\xff" * 1000 + b"\r\n",
    **{
        f"{name} {what}": f"{name}: {value}\r\n".encode("utf-8", "surrogateescape")
        for name in ("Authorization", "Date", "Threebot-Id", "Digest", "Content-Type", "Accept", "Cookie", "Origin",
                     "Connection", "Upgrade", "Expect", "Range", "Forwarded", "Referer", "Content-Encoding")
        for what, value in (("large", LONG), ("bytes", "\udcff" * 100))
    },
    "signatures": (b"Authorization: Signature " + b"a" * 8000 + b"\r\n") * 100,
    "small signatures": (b"Authorization: Signature " + b"a" * 250 + b"\r\n") * 100,
}  # fmt: skip


def _wrong_signature(key_id: str, items: str, number: int = 20) -> bytes:
    """Headers of a request whose signature is not; ``x`` is sent ``number`` times with 8000 octets."""
    signature = "A" * 86 + "=="
    return (
        f'Authorization: Signature keyId="{key_id}",algorithm="ed25519",created="{int(time.time())}",'
        f'headers="(created) date threebot-id {items}",signature="{signature}"\r\n'
        f"Date: x\r\nThreebot-Id: {key_id}\r\n"
    ).encode() + (b"X: " + b"a" * 8000 + b"\r\n") * number


def _requests(endpoint: Endpoint) -> Iterator[tuple[str, str, bytes, bytes | None]]:
    """Name, target, headers and body of each hostile request to an endpoint."""
    for name in re.findall(r"\{(\w+)\}", endpoint.path):
        for value in (*NUMBERS, *TEXTS):
            target = re.sub(r"\{(\w+)\}", lambda m, n=name, v=value: v if m[1] == n else GOOD[m[1]], endpoint.path)
            yield f"path {name}={value[:20]}", target, b"", b"{}"
    if endpoint.method == "HEAD":  # as GET, which also sends a body
        return
    for name in sorted(endpoint.parameters | {"x"}):
        for value in (*NUMBERS, *TEXTS, ""):
            fixed = "" if name == "from" else "from=0&"
            yield f"query {name}={value[:20]}", f"{endpoint.good}?{fixed}{name}={value}", b"", b"{}"
    yield "query of many", endpoint.good + "?" + "&".join(["x=y"] * 2000), b"", b"{}"
    for name, headers in HEADERS.items():
        yield f"header {name}", endpoint.good + "?from=0", headers, b"{}"
    for name, items in (("items", " ".join(["x"] * 1900)), ("x once", "x")):
        for key_id in (NODE, "1"):
            yield f"signature of {name}", endpoint.good + "?from=0", _wrong_signature(key_id, items), b"{}"
            yield f"signature of {name}, small", endpoint.good + "?from=0", _wrong_signature(key_id, items, 3), b"{}"
    if endpoint.method == "GET":
        return
    for member, value in itertools.product(sorted(endpoint.members), VALUES):
        yield f"body {member!r} % {value[:20]!r}", endpoint.good, b"", member % value
    for body in BODIES:
        yield f"body {body[:20]!r}", endpoint.good, b"", body
    bomb = gzip.compress(b" " * 20_000_000)
    yield "body compressed", endpoint.good, b"Content-Encoding: gzip\r\n", bomb


async def test_every_endpoint_survives_hostile_sizes(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints = await _endpoints(tmp_path, monkeypatch)
    assert len(endpoints) > 20
    assert {name for endpoint in endpoints for name in endpoint.parameters} >= {"size", "customer_tid", "wait", "name"}
    assert any(b'{"wallet_addresses":[{"asset":%s}]}' in one.members for one in endpoints)
    assert {one.path.rpartition("/")[2] for one in endpoints if one.bound} == {"pin", "farms", "{node_id}"}
    posts = {(one.method, one.path) for one in endpoints if one.method in ("POST", "PUT")}
    without_body = {(one.method, one.path) for one in endpoints if one.method == "PUT" and one.path.endswith("/pin")}
    assert posts - without_body == {(one.method, one.path) for one in endpoints if one.members}
    failed = []
    for endpoint in endpoints:
        for name, target, headers, body in _requests(endpoint):
            if endpoint.signer and b"Signature" not in headers:
                once = _once(endpoint.method, target, "x") if endpoint.bound and target.isascii() else None
                signed = _signed(endpoint.signer, body or b"", once)
                headers += "".join(f"{header}: {value}\r\n" for header, value in signed.items()).encode()
            status = process.call(endpoint.method, target, headers, body)
            if not 200 <= status < 500:
                failed.append((endpoint.method, endpoint.path, name, status))
        process.check()
    assert not failed, "\n".join(map(str, failed))


def test_a_wrong_signature_over_many_items_costs_nothing(process: Process) -> None:
    """168 KB took 2.4 GB and 3.4 s."""
    headers = _wrong_signature(NODE, " ".join(["x"] * 1900))
    connections = [process.connect() for _ in range(20)]
    for connection in connections:
        connection.sendall(b"POST /api/v1/gateways HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + b"\r\n")
    process.check()
    assert {process.status(connection) for connection in connections} <= {401, 431}
    small = _wrong_signature(NODE, "x " * 1900, 3)
    assert process.call("POST", "/api/v1/gateways", small) == 401
    process.check()


def test_many_authorization_headers_cost_nothing(process: Process) -> None:
    """802 KB took 16.5 s."""
    assert process.call("POST", "/api/v1/gateways", HEADERS["small signatures"]) == 401
    assert process.call("POST", "/api/v1/gateways", HEADERS["signatures"]) == 431
    process.check()


@pytest.mark.parametrize(
    "target",
    [
        f"/api/v1/users/{'9' * 5000}",
        f"/api/v1/reservations/pools/owner/{'9' * 5000}",
        f"/api/v1/reservations/nodes/workloads/{'9' * 5000}-1",
    ],
)
def test_an_id_of_5000_digits_does_not_exist(explorer: Any, target: str) -> None:
    assert Process(explorer).call("GET", target) == 404
    assert "Traceback" not in explorer.process.log


def test_lists_that_are_not_read_take_little_and_give_it_back(process: Process, explorer: Any) -> None:
    """40 of them took 1.6 GB, and the process kept it."""
    with sqlite3.connect(explorer.database) as database:
        for number in range(2, 401):
            body = wire.encode(msgspec.structs.replace(WORKLOAD, id=number, description="x" * 60_000))
            database.execute("INSERT INTO workload VALUES (?, ?, 7, 1, 7, 3, 1, ?)", (number, NODE, body))
    target = "/api/v1/reservations/workloads?customer_tid=7&size=1000"
    connections = [process.connect() for _ in range(40)]
    for connection in connections:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    for connection in connections:
        assert connection.recv(12) == b"HTTP/1.1 200"
    process.check()
    # One that is read is complete.
    with process.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        rows = json.loads(stream.read().partition(b"\r\n\r\n")[2])
    assert [row["id"] for row in rows] == list(range(1, 401))
    for connection in connections:
        connection.close()
    process.check()
    assert procfs.memory(process.pid) - process.rest < 32 * 1024


@pytest.mark.parametrize("kind", ["heads", "bodies", "pipelined", "small bodies", "chunks"])
def test_requests_that_do_not_end_take_little(process: Process, explorer: Any, kind: str) -> None:
    requests = {
        "heads": b"GET /api/v1/farms HTTP/1.1\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 100,
        "bodies": b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 65000\r\n\r\n" + b"a" * 64_000,
        "pipelined": b"GET /api/v1/reservations/nodes/N/workloads?from=0&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n"
        + (b"GET /api/v1/farms HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 90 + b"\r\n") * 500,
        "small bodies": b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n%100s" % b"{}" * 500,
        "chunks": (
            b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\na\r\n" * 10_000
            + b"0\r\n\r\n"
        )
        * 5,
    }
    connections = []
    for _ in range(400):
        connection = process.connect()
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            connection.send(requests[kind])
        connections.append(connection)
    process.check()
    for connection in connections:
        connection.close()
    process.check()
    assert "Traceback" not in explorer.process.log
