"""Signatures that are good for one request, as old explorers, ours and reverse proxies see them (E-2)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import nacl.signing
import pytest
import structlog.testing
from aiohttp import web
from aiohttp.test_utils import TestServer
from tfgateway.errors import ExplorerRefused
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import Gateway, Result, ResultState, Subdomain, WorkloadCounts
from tfgateway.explorer.urls import PublicUrl, api_url
from tfgateway.identity.keys import Identity

BOUND = "(created) date threebot-id (request-target) host digest signature-nonce"
NODE = Identity.from_seed(bytes(range(0x20)))


class Recorder:
    """Records requests as they come over the socket, and answers them with ``statuses`` in turn, then with 200."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[tuple[bytes, bytes]] = []
        self._statuses = list(statuses)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        self.requests.append((head, body))
        status = self._statuses.pop(0) if self._statuses else 200
        if status:  # 0: the connection ends without an answer
            answer = b'{"error":"no","reservation_id":1}'
            writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\n" % status)
            writer.write(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
        writer.close()


def verify_as_old_explorers(head: bytes, key: bytes) -> dict[str, str]:
    """Check a request by the rules of the specification alone; its headers. Errors: nacl's ``BadSignatureError``."""
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]
    authorization = [value for name, value in headers if name == "authorization"][-1]
    given = dict(re.findall(r'([A-Za-z]+)="([^"]*)"', authorization.removeprefix("Signature ")))
    text = []
    for item in given["headers"].lower().split():
        if item == "(request-target)":
            text.append(f"{item}: {method.lower()} {target}")
        elif item in ("(created)", "(expires)"):
            text.append(f"{item}: {given[item.strip('()')]}")
        else:
            text += [f"{item}: {value}" for name, value in headers if name == item]
    nacl.signing.VerifyKey(key).verify("\n".join(text).encode(), base64.b64decode(given["signature"]))
    return {**dict(headers), "items": given["headers"], "target": target}


CALLS: dict[str, Callable[[ExplorerClient], Awaitable[object]]] = {
    "register": lambda client: client.register_gateway(Gateway(node_id=NODE.node_id)),
    "uptime": lambda client: client.send_uptime(NODE.node_id, 5),
    "counters": lambda client: client.send_counters(NODE.node_id, WorkloadCounts()),
    "result": lambda client: client.put_result(NODE.node_id, "1-1", Result(state=ResultState.OK)),
    "delete": lambda client: client.delete_reservation(NODE.node_id, "1-1"),
    "workload": lambda client: client.create_workload(Subdomain(customer_tid=1)),
}
STATUS = {"register": 201, "result": 201, "workload": 201}


def _client(url: str, **options: Any) -> ExplorerClient:
    return ExplorerClient(url, identity=NODE, key_id=NODE.node_id, **options)


@pytest.mark.parametrize("name", CALLS)
async def test_e2_old_explorers_accept_what_our_client_signs(name: str) -> None:
    async with Recorder(STATUS.get(name, 200)) as explorer, _client(f"http://127.0.0.1:{explorer.port}") as client:
        await CALLS[name](client)
    ((head, body),) = explorer.requests
    headers = verify_as_old_explorers(head, NODE.public_key)
    assert headers["items"] == BOUND
    assert headers["host"] == f"127.0.0.1:{explorer.port}"
    assert headers["target"].startswith("/api/v1/")
    assert headers["digest"] == f"SHA-256={base64.b64encode(hashlib.sha256(body).digest()).decode()}"
    assert re.fullmatch("[0-9a-f]{32}", headers["signature-nonce"])


async def test_what_is_not_signed_today_stays_so() -> None:
    async with Recorder() as explorer, _client(f"http://127.0.0.1:{explorer.port}") as client:
        await client.workload(1)
    assert b"authorization" not in explorer.requests[0][0].lower()


async def test_each_attempt_has_a_nonce_of_its_own() -> None:
    """A request whose answer was lost must not be refused as a repetition of itself."""
    async with Recorder(502, 0) as explorer, _client(f"http://127.0.0.1:{explorer.port}", retries=2) as client:
        await client.delete_reservation(NODE.node_id, "1-1")
    nonces = [verify_as_old_explorers(head, NODE.public_key)["signature-nonce"] for head, _ in explorer.requests]
    assert len(nonces) == len(set(nonces)) >= 3


async def test_an_explorer_that_has_accepted_the_bound_form_gets_no_other() -> None:
    async with Recorder(200, 401) as explorer, _client(f"http://127.0.0.1:{explorer.port}") as client:
        await client.send_uptime(NODE.node_id, 5)
        with pytest.raises(ExplorerRefused):
            await client.send_uptime(NODE.node_id, 6)
    assert len(explorer.requests) == 2
    assert {verify_as_old_explorers(head, NODE.public_key)["items"] for head, _ in explorer.requests} == {BOUND}


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("https://Explorer.example", "explorer.example", "/api/v1"),
        ("https://explorer.example:443/", "explorer.example", "/api/v1"),
        ("https://explorer.example:8443/grid/api/v1/", "explorer.example:8443", "/grid/api/v1"),
        ("http://[2001:db8::1]:8080", "[2001:db8::1]:8080", "/api/v1"),
    ],
)
def test_a_public_url(url: str, host: str, path: str) -> None:
    public = PublicUrl.parse(url)
    assert public == PublicUrl(host, path)
    assert api_url(url).endswith(path)
    assert public.target("/api/v1/users?page=1") == f"{path}/users?page=1"
    assert public.target("http://other/api/v1/users") == "http://other/api/v1/users"


@pytest.mark.parametrize("url", ["", "explorer.example", "ftp://explorer.example", "https://a@b", "https://h:x"])
def test_what_is_no_public_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        PublicUrl.parse(url)


class ReverseProxy:
    """Serves ``/grid/api/v1`` and hands it on to ``explorer`` under another path and host."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.explorer: Any = None
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._forward)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/grid/api/v1"))

    async def _forward(self, request: web.Request) -> web.Response:
        self.seen.append(dict(request.headers))
        url = self.explorer.url + request.raw_path.removeprefix("/grid/api/v1")
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        body = await request.read()
        async with self.explorer.session.request(request.method, url, data=body, headers=headers) as answer:
            return web.Response(status=answer.status, body=await answer.read())


@pytest.fixture
async def reverse_proxy() -> AsyncIterator[ReverseProxy]:
    """A reverse proxy that rewrites path and host."""
    proxy = ReverseProxy()
    await proxy.server.start_server()
    yield proxy
    await proxy.server.close()


async def test_behind_a_reverse_proxy_the_public_url_is_signed(reverse_proxy: ReverseProxy, start_grid: Any) -> None:
    grid = await start_grid(public_url=PublicUrl.parse(reverse_proxy.url))
    reverse_proxy.explorer = grid.explorer
    async with _client(reverse_proxy.url, clock=lambda: grid.explorer.now) as client:
        await client.send_uptime(NODE.node_id, 5)
    (headers,) = reverse_proxy.seen
    path = f"/gateways/{NODE.node_id}/uptime"
    answer = await grid.call("POST", path, b'{"uptime":5}\n', headers=headers)
    assert (answer.status, answer.error) == (401, "unauthorized access: this request was sent before")


async def test_an_explorer_that_does_not_know_its_public_url_gets_the_old_form(
    reverse_proxy: ReverseProxy, grid: Any
) -> None:
    reverse_proxy.explorer = grid.explorer
    with structlog.testing.capture_logs() as logs:
        async with _client(reverse_proxy.url, clock=lambda: grid.explorer.now) as client:
            await client.send_uptime(NODE.node_id, 5)
            await client.send_uptime(NODE.node_id, 6)
            grid.explorer.now += 3600
            await client.send_uptime(NODE.node_id, 7)
    # Tried, and tried again after an hour.
    assert ["Signature-Nonce" in headers for headers in reverse_proxy.seen] == [True, False, False, True, False]
    assert [entry["log_level"] for entry in logs if "public URL" in entry["event"]] == ["warning", "warning"]


async def test_a_wrong_key_stays_refused(grid: Any, stranger: Identity) -> None:
    """The old form is no way around a refusal."""
    async with ExplorerClient(
        grid.explorer.url, identity=stranger, key_id=grid.node_id, clock=lambda: grid.explorer.now
    ) as client:
        with pytest.raises(ExplorerRefused, match="signature does not match"):
            await client.send_uptime(grid.node_id, 1)
