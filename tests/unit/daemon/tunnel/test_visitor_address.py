"""The visitor's address on its way to the local service (T-18)."""

from __future__ import annotations

import asyncio
import struct

import pytest
from tfgateway.net.proxyproto import Addresses, encode
from tfgateway.tunnel.client.model import Phase
from tfgateway.tunnel.handshake import encode_handshake
from tfgateway.tunnel.yamux.extensions import Extension, encode_extensions
from tfgateway.tunnel.yamux.frames import Flag, Kind
from tfgateway.tunnel.yamux.frames import encode as frame

from tests.support.waiting import soon

from .conftest import NO_TUNNEL, NOT_ANSWERED, SECRET, World, ask
from .test_tunnels import HELLO, OldClient

FOUR = Addresses("192.0.2.7", 1234, "203.0.113.1", 443)
SIX = Addresses("2001:db8::7", 1234, "2001:db8::1", 443)
V1 = b"PROXY TCP4 192.0.2.7 203.0.113.1 1234 443\r\n"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("addresses", [FOUR, SIX])
@pytest.mark.parametrize("first", [b"GET", b"\x16\x03\x01hello"])
async def test_t18_a_service_gets_the_address_when_its_client_asks(
    world: World, version: int, addresses: Addresses, first: bytes
) -> None:
    gateway = world.gateway()
    status = world.client(gateway, await world.service(), proxy_protocol=version)
    assert (
        await ask(gateway.visit(first, addresses=addresses), b" more") == encode(version, addresses) + first + b" more"
    )
    assert status.received == len(first) + 5


async def test_t18_tls_behind_a_header_is_still_tls(world: World) -> None:
    async def secure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"TLS:" + await reader.read())
        writer.close()

    gateway = world.gateway()
    secure_port = await world.service(secure)
    world.client(gateway, await world.service(), local_tls=("127.0.0.1", secure_port), proxy_protocol=1)
    assert await ask(gateway.visit(b"\x16\x03", addresses=FOUR)) == b"TLS:" + V1 + b"\x16\x03"
    assert await ask(gateway.visit(b"plain", addresses=FOUR)) == V1 + b"plain"


@pytest.mark.parametrize(
    ("asked", "service", "expected"),
    [
        (None, 0, b""),
        (None, 1, V1),
        (None, 2, encode(2, FOUR)),
        (0, 2, b""),
        (1, 2, V1),
        (2, 1, encode(2, FOUR)),
    ],
)
async def test_t18_what_the_client_is_given_goes_before_what_the_gateway_has(
    world: World, asked: int | None, service: int, expected: bytes
) -> None:
    gateway = world.gateway()
    world.client(gateway, await world.service(), proxy_protocol=asked)
    assert await ask(gateway.visit(b"x", addresses=FOUR, proxy_protocol=service)) == expected + b"x"


async def test_t18_an_old_client_never_sees_it(world: World) -> None:
    gateway = world.gateway()
    peer = OldClient(gateway.port)
    await peer.send(HELLO)
    assert (await peer.read(24)).hex() == "000100020000000100000000000100040000000100000000"
    visitor = gateway.visit(b"GET", addresses=FOUR, proxy_protocol=2)
    assert await peer.read(27) == frame(Kind.WINDOW_UPDATE, Flag.SYN, 2, 0) + frame(Kind.DATA, 0, 2, 3) + b"GET"
    visitor.close()
    peer.socket.close()


async def test_t18_vectors_of_a_visitor_with_an_address(world: World) -> None:
    gateway = world.gateway()
    peer = OldClient(gateway.port)
    await peer.send(HELLO.replace(frame(Kind.WINDOW_UPDATE, Flag.SYN, 1, 0), bytes.fromhex("000100010000000154460002")))
    assert (await peer.read(12)).hex() == "000100020000000100000000"
    visitor = gateway.visit(b"GET", addresses=FOUR)
    header = bytes.fromhex("0d0a0d0a000d0a515549540a2111000cc0000207cb00710104d201bb")
    expected = bytes.fromhex("00010001000000025446000200000000000000020000001f") + header + b"GET"
    assert await peer.read(12) == frame(Kind.WINDOW_UPDATE, Flag.FIN, 1, 0)
    assert await peer.read(len(expected)) == expected
    visitor.close()
    peer.socket.close()


async def test_t18_an_address_moves_with_its_visitor_to_another_worker(world: World) -> None:
    one, two = world.gateway(), world.gateway()
    status = world.client(one, await world.service(), proxy_protocol=1)
    await soon(lambda: status.phase is Phase.CONNECTED)
    assert await ask(two.visit(b"x", addresses=FOUR)) == V1 + b"x"
    assert two.ends == ["handed_over"]


class FakeGateway:
    """Sends what it likes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.writer: asyncio.StreamWriter | None = None
        self.received = bytearray()

    async def start(self, **options: object) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writer = writer
            writer.write(frame(Kind.WINDOW_UPDATE, Flag.ACK | Flag.FIN, 1, 0))
            while data := await reader.read(1 << 16):
                self.received += data

        port = await self._world.service(serve)
        self._world.client(port, await self._world.service(), **options)
        await soon(lambda: self.writer is not None and encode_handshake(SECRET) in self.received)
        self.received.clear()

    def visit(self, stream: int, extensions: Extension, *pieces: bytes) -> None:
        assert self.writer is not None
        self.writer.write(frame(Kind.WINDOW_UPDATE, Flag.SYN, stream, encode_extensions(extensions)))
        for piece in pieces:
            self.writer.write(frame(Kind.DATA, 0, stream, len(piece)) + piece)


async def test_t18_an_old_gateway_gives_no_address(world: World) -> None:
    gateway = FakeGateway(world)
    await gateway.start(proxy_protocol=1)
    gateway.visit(2, Extension(0), b"GET")
    await soon(lambda: b"PROXY UNKNOWN\r\nGET" in gateway.received)


async def test_t18_a_header_in_pieces_and_bytes_that_are_none(world: World) -> None:
    gateway = FakeGateway(world)
    await gateway.start(proxy_protocol=1)
    gateway.visit(2, Extension.ADDRESS, *(struct.pack("!B", byte) for byte in encode(2, FOUR) + b"GET"))
    await soon(lambda: V1 in gateway.received)
    gateway.visit(4, Extension.ADDRESS, b"GET / HTTP/1.1\r\n\r\n")
    await soon(lambda: frame(Kind.WINDOW_UPDATE, Flag.RST, 4, 0) in gateway.received)
    gateway.visit(6, Extension.ADDRESS, encode(2, FOUR) + b"again")
    await soon(lambda: gateway.received.count(V1) == 2)


async def test_t18_a_service_that_is_down_is_answered_as_ever(world: World) -> None:
    gateway = world.gateway(tunnel_grace=0.1)
    world.client(gateway, 1, proxy_protocol=2)
    assert await ask(gateway.visit(b"x", addresses=FOUR)) in (NOT_ANSWERED, NO_TUNNEL)
