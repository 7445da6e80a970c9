"""Visitors of clients that say nothing, take no more, or never read."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from tfgateway.tunnel.client.model import Phase
from tfgateway.tunnel.session.limits import SessionLimits
from tfgateway.tunnel.yamux.frames import Flag, Kind, encode

from tests.support.waiting import soon

from .conftest import LIMIT, NO_TUNNEL, World, ask, read_all
from .test_tunnels import HELLO, OldClient

QUICK = SessionLimits(ack_within=0.1, alive_within=0.2)
PING = encode(Kind.PING, Flag.SYN, 0, 0)


def led(stream: int) -> bytes:
    return encode(Kind.WINDOW_UPDATE, Flag.SYN, stream, 0) + encode(Kind.DATA, 0, stream, 3) + b"GET"


async def test_a_visitor_of_a_silent_client_is_answered_and_the_session_stays(world: World) -> None:
    gateway = world.gateway(limits=QUICK, tunnel_grace=LIMIT)
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    await peer.read(24)
    assert await ask(gateway.visit(b"GET")) == NO_TUNNEL
    assert await ask(gateway.visit(b"GET")) == NO_TUNNEL  # at once: it is known to be silent
    end, reset = (encode(Kind.WINDOW_UPDATE, flag, 2, 0) for flag in (Flag.FIN, Flag.RST))
    assert await peer.read(27 + 3 * 12) == led(2) + end + PING + reset
    assert gateway.metric("tfgateway_tunnels") == 1
    # It is there again: what comes for visitors gets to it.
    await peer.send(encode(Kind.PING, Flag.ACK, 0, 0))
    await soon(lambda: not any(client.session.silent for client in gateway.tunnels._registry.registered()))
    visitor = gateway.visit(b"GET")
    assert await peer.read(27) == led(4)
    await peer.send(encode(Kind.WINDOW_UPDATE, Flag.ACK | Flag.FIN, 4, 0))
    assert await ask(visitor) == b""
    peer.socket.close()


async def test_a_client_that_only_takes_no_stream_keeps_its_visitors(world: World) -> None:
    """Old clients take one stream after the other (T-16), and answer pings all the while."""
    gateway = world.gateway(limits=QUICK)
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    await peer.read(24)
    visitor = gateway.visit(b"GET")
    assert await peer.read(27 + 12) == led(2) + PING
    await peer.send(encode(Kind.PING, Flag.ACK, 0, 0))
    await asyncio.sleep(0.4)  # far longer than it may be silent
    await peer.send(encode(Kind.WINDOW_UPDATE, Flag.ACK | Flag.FIN, 2, 0))
    assert await ask(visitor) == b""
    peer.socket.close()


async def test_visitors_of_a_silent_client_go_to_another_one(world: World) -> None:
    gateway = world.gateway(limits=QUICK, tunnel_share=True, tunnel_grace=0.1)
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    await peer.read(24)
    first = asyncio.create_task(ask(gateway.visit(b"GET")))
    assert await peer.read(27) == led(2)
    status = world.client(gateway, await world.service())
    await soon(lambda: status.phase is Phase.CONNECTED)
    assert await first == b"GET"
    assert await ask(gateway.visit(b"more")) == b"more"
    assert gateway.metric("tfgateway_tunnels") == 2
    peer.socket.close()


async def test_more_visitors_than_a_tunnel_may_have_are_answered_at_once(world: World) -> None:
    gateway = world.gateway(limits=SessionLimits(streams=2), tunnel_grace=LIMIT * 2)
    status = world.client(gateway, await world.service())
    kept = [gateway.visit(b"x") for _ in range(2)]
    await soon(lambda: status.active == 2)
    assert await ask(gateway.visit(b"too many")) == NO_TUNNEL
    for visitor in kept:
        assert await ask(visitor) == b"x"
    assert await ask(gateway.visit(b"again")) == b"again"


@pytest.mark.parametrize("ends", ["visitor", "service"])
async def test_a_half_closed_visit_whose_other_side_never_reads_ends(world: World, ends: str) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        if ends == "service":
            writer.write_eof()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LIMIT)

    gateway = world.gateway(half_closed_timeout=0.3)
    world.client(gateway, await world.service(service))
    visitor = gateway.visit(b"x")
    open_one = gateway.visit(b"y") if ends == "visitor" else None
    assert await asyncio.get_running_loop().sock_recv(visitor, 10) == b"x"
    if ends == "visitor":
        visitor.shutdown(socket.SHUT_WR)
    await soon(lambda: gateway.ends == ["idle"])
    if ends == "visitor":
        with pytest.raises(ConnectionResetError):
            await read_all(visitor)
    visitor.close()
    if open_one is not None:
        assert await asyncio.get_running_loop().sock_recv(open_one, 10) == b"y"
        open_one.close()


async def test_equals_take_turns(world: World) -> None:
    gateway = world.gateway(tunnel_share=True)
    statuses = [world.client(gateway, await world.service()) for _ in range(3)]
    await soon(lambda: gateway.metric("tfgateway_tunnels") == 3)
    for number in range(6):
        assert await ask(gateway.visit(b"x")) == b"x"
        await soon(lambda number=number: gateway.ends == ["closed"] * (number + 1))
    assert [status.visitors for status in statuses] == [2, 2, 2]
