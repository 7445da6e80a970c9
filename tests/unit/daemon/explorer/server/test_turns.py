"""How much one turn of the explorer's event loop does at most, counted in octets that are looked at and not in time.

A process that answers everybody from one loop is as slow as its longest turn. Counted is what the loop's own thread
parses, joins, verifies and encodes; the threads of the database do not hold it up.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tfgateway import gojson
from tfgateway.explorer import signing, wire
from tfgateway.explorer.models import Subdomain
from tfgateway.explorer.server.api.services import SERVICES
from tfgateway.explorer.server.app import create_app, serve
from tfgateway.explorer.server.policy import ExplorerPolicy
from tfgateway.explorer.server.storage import rows
from tfgateway.explorer.server.storage.engines.sqlite import SqliteEngine
from tfgateway.identity.keys import Identity

from tests.support.ports import free_port

MOST = 4 * ExplorerPolicy().max_body
"""A piece of a list that is joined and written, or one body that is parsed, checked, verified and encoded."""
NODE = Identity.from_seed(bytes(range(0x20)))


class Turns:
    """Counts, and keeps the largest sum of one turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.longest = 0
        self.counted: set[str] = set()
        self._turn = 0
        self._thread = threading.get_ident()
        run = asyncio.Handle._run

        def turn(handle: asyncio.Handle) -> None:
            self._turn = 0
            run(handle)
            self.longest = max(self.longest, self._turn)

        monkeypatch.setattr(asyncio.Handle, "_run", turn)
        self._count(monkeypatch, signing, "verify", lambda key, message, signature: len(message))
        self._count(monkeypatch, signing, "digest", len)
        self._count(monkeypatch, gojson, "decode", len)
        self._count(monkeypatch, wire, "encode", lambda value: 0, len)
        self._count(monkeypatch, signing, "challenge", lambda workload: 0, len)
        pattern = signing._PARAMETER

        class Pattern:
            findall = staticmethod(
                self._counting("parameters", pattern.findall, lambda text, start: len(text), lambda found: 0)
            )

        monkeypatch.setattr(signing, "_PARAMETER", Pattern)
        write = asyncio.selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]
        monkeypatch.setattr(
            asyncio.selector_events._SelectorSocketTransport,  # type: ignore[attr-defined]
            "write",
            self._counting("write", write, lambda transport, data: len(data), lambda nothing: 0),
        )

    def _count(
        self,
        monkeypatch: pytest.MonkeyPatch,
        module: Any,
        name: str,
        before: Callable[..., int],
        after: Callable[[Any], int] = lambda result: 0,
    ) -> None:
        monkeypatch.setattr(module, name, self._counting(name, getattr(module, name), before, after))

    def _counting(
        self, name: str, function: Callable[..., Any], before: Callable[..., int], after: Callable[[Any], int]
    ) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            result = function(*arguments)
            if threading.get_ident() == self._thread:
                self.counted.add(name)
                self._turn += before(*arguments) + after(result)
            return result

        return counted


def _requests(now: int) -> Iterator[bytes]:
    large = b"X: " + b"a" * 8000 + b"\r\n"
    signature = 'signature="' + "A" * 86 + '=="'
    parameters = f'keyId="{NODE.node_id}",algorithm="ed25519",created="{now}"'
    signed = f"Date: x\r\nThreebot-Id: {NODE.node_id}\r\n".encode()
    for items in ("x " * 1900, "x", " ".join(f"x{number}" for number in range(17))):
        value = f'Signature {parameters},headers="(created) date threebot-id {items}",{signature}'.encode()
        for headers in (large * 20, large * 3):
            yield b"POST /api/v1/gateways HTTP/1.1\r\nAuthorization: " + value + b"\r\n" + signed + headers
    for size in (8000, 4000, 250):
        yield b"POST /api/v1/gateways HTTP/1.1\r\n" + (b"Authorization: Signature " + b"a" * size + b"\r\n") * 100
    yield b"POST /api/v1/users HTTP/1.1\r\n"
    for path in ("workloads?size=1000", f"nodes/{NODE.node_id}/workloads?from=0"):
        yield f"GET /api/v1/reservations/{path} HTTP/1.1\r\n".encode()


async def test_the_longest_turn_of_the_loop_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1611000000
    app, port = create_app(SqliteEngine(tmp_path / "e.db"), clock=lambda: float(now)), free_port()
    ready, stopping = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve(app, [("127.0.0.1", port)], stopping, ready.set))
    await ready.wait()
    workload = Subdomain(node_id=NODE.node_id, customer_tid=1, next_action=3, description="x" * 60_000)

    def fill(connection: Any) -> None:
        for number in range(1, 101):
            rows.add_workload(connection, msgspec.structs.replace(workload, id=number))

    await app[SERVICES].database.write(fill)
    turns = Turns(monkeypatch)
    bodies = (b"{}", b'{"description":"%s"}' % (b"a" * 60_000), b"[" * 30_000, b'["%s"]' % b'","'.join([b"a"] * 15_000))
    async with asyncio.timeout(60):
        for request in _requests(now):
            for body in bodies:
                answer = await asyncio.to_thread(_blocking, port, request, body)
                assert answer.startswith(b"HTTP/1."), request[:100]
        stopping.set()
        await serving
    assert turns.counted >= {"parameters", "verify", "write", "decode"}
    assert 100_000 < turns.longest <= MOST


def _blocking(port: int, request: bytes, body: bytes) -> bytes:
    """One request by a thread of its own, so that its octets are not counted as the explorer's."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(request + b"Host: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while part := connection.recv(1 << 20):
            answer = answer or part
    return answer
