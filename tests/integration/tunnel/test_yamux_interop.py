"""Our two roles against hashicorp's own yamux, in a Go process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tfgateway.tunnel.client.model import Phase
from tfgateway.tunnel.session.limits import SessionLimits

from tests.interop import peer
from tests.support.waiting import soon
from tests.unit.daemon.tunnel.conftest import (
    LIMIT,
    NO_TUNNEL,
    NOT_ANSWERED,
    SECRET,
    World,
    ask,
)
from tests.unit.daemon.tunnel.conftest import world as world

# In CI it is never skipped: to build the peer fails then, and says what is missing.
pytestmark = pytest.mark.skipif(bool(peer.missing()) and not os.environ.get("CI"), reason=peer.missing())

BIG = bytes(range(256)) * 12_000  # more than ten windows


class Peer:
    """The Go process; a call is a command and its answer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT):
            return (await self.process.stdout.readline()).decode().strip()

    async def __call__(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        return await self.line()


@pytest.fixture(scope="session")
def program() -> Path:
    return peer.build()


@pytest.fixture
async def start(program: Path) -> AsyncIterator[Callable[..., object]]:
    started: list[asyncio.subprocess.Process] = []

    async def one(*arguments: str) -> Peer:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(str(program), *arguments, stdin=pipe, stdout=pipe)
        started.append(process)
        return Peer(process)

    yield one
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_go_client_and_our_server(world: World, start: Callable[..., object]) -> None:
    gateway = world.gateway(tunnel_grace=0.2, limits=SessionLimits(ping_every=0.2, pong_within=5))
    go = await start("client", f"127.0.0.1:{gateway.port}", SECRET.decode(), "256")
    assert await go.line() == "introduced"
    assert await go("accept") == "ok"
    # Windows exhausted both ways, half-closed both ways.
    assert await ask(gateway.visit(b"first"), BIG) == b"first" + BIG
    answers = await asyncio.gather(*(ask(gateway.visit(b"x"), BIG[:400_000]) for _ in range(30)))
    assert answers == [b"x" + BIG[:400_000]] * 30
    assert await go("ping") == "ok"
    await asyncio.sleep(0.5)  # several of our pings
    assert gateway.metric("tfgateway_tunnels") == 1
    # T-17: its further stream is reset, its session stays.
    assert await go("open") == "connection reset"
    assert await ask(gateway.visit(b"still there")) == b"still there"
    # Go away: what is there goes on, nobody new is led there.
    talking = gateway.visit(b"before ")
    await soon(lambda: gateway.metric("tfgateway_tunnel_streams_active") == 1)
    assert await go("go-away") == "ok"
    assert await go("ping") == "ok"  # told, in this order
    assert await ask(talking, b"and after") == b"before and after"
    assert await ask(gateway.visit(b"late")) == NO_TUNNEL
    gateway.tunnels.remove_secret(SECRET)
    assert await go("wait-closed") == "closed"


async def test_a_go_client_that_takes_no_stream_resets_them(world: World, start: Callable[..., object]) -> None:
    gateway = world.gateway()
    go = await start("client", f"127.0.0.1:{gateway.port}", SECRET.decode(), "1")
    await go.line()
    await soon(lambda: gateway.metric("tfgateway_tunnels") == 1)
    kept = gateway.visit(b"waits")
    await soon(lambda: gateway.metric("tfgateway_tunnel_streams_active") == 1)
    assert await ask(gateway.visit(b"too many")) == NOT_ANSWERED
    assert await go("accept") == "ok"
    assert await ask(kept) == b"waits"


async def test_a_go_client_notices_nothing_when_its_worker_is_replaced(
    world: World, start: Callable[..., object]
) -> None:
    old = world.gateway()
    go = await start("client", f"127.0.0.1:{old.port}", SECRET.decode(), "256")
    await go.line()
    assert await go("accept") == "ok"
    await soon(lambda: old.metric("tfgateway_tunnels") == 1)
    loop = asyncio.get_running_loop()
    visitor = old.visit(b"before ")
    assert await loop.sock_recv(visitor, 100) == b"before "
    new = world.gateway(listening=old.stop_accepting())
    await soon(lambda: any(link.name == new.name for link in old.tunnels._links._links))
    async with asyncio.timeout(LIMIT):
        await old.tunnels.drain()
    old.close()
    assert await ask(visitor, BIG) == BIG
    assert await ask(new.visit(b"new")) == b"new"
    assert await go("ping") == "ok"
    await soon(lambda: len(new.tunnels._visits) == 0)
    assert await go("streams") == "0"


async def test_our_client_and_a_go_server(world: World, start: Callable[..., object]) -> None:
    go = await start("server", "127.0.0.1:0")
    port = int((await go.line()).rpartition(":")[2])
    status = world.client(port, await world.service(), limits=SessionLimits(ping_every=0.2, pong_within=5))
    assert await go.line() == f"handshake {SECRET.decode()}"
    await soon(lambda: status.phase is Phase.CONNECTED)
    assert await go("visit 3000000") == "ok"
    assert await go("visits 40") == "ok"
    assert await go("ping") == "ok"
    await asyncio.sleep(0.5)
    await soon(lambda: status.active == 0)
    assert await go("streams") == "0"
    assert (status.sessions, status.visitors, status.failed) == (1, 41, 0)
    assert await go("go-away") == "ok"
    assert await go("visit 96000") == "ok"
    assert await go("close") == "ok"
    await soon(lambda: status.phase is not Phase.CONNECTED)


async def test_our_client_resets_what_it_cannot_serve(world: World, start: Callable[..., object]) -> None:
    """T-16: a failed dial is the visitor's affair alone."""
    go = await start("server", "127.0.0.1:0")
    port = int((await go.line()).rpartition(":")[2])
    status = world.client(port, 1)  # nothing listens there
    await go.line()
    assert await go("visit 16") == "connection reset after 0 octets"
    assert await go("visit 16") == "connection reset after 0 octets"
    assert (status.phase, status.sessions, status.failed) == (Phase.CONNECTED, 1, 2)
