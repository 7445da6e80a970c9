"""The relay between real sockets: order, half-close, back-pressure, resets, time-out, cancellation."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import math
import random
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterator

import pytest
from tfgateway.proxy.eventloop.deadlines import Deadlines
from tfgateway.proxy.eventloop.engine import Engine
from tfgateway.proxy.relay import read_coalescing
from tfgateway.proxy.relay.pipes import Pipes
from tfgateway.proxy.relay.relay import Ending, Relay, Relayed

from tests.support.waiting import soon

SocketPair = tuple[socket.socket, socket.socket]
TcpPair = Callable[..., SocketPair]
LONG = 60.0


class Ends:
    """A relay at work: what the visitor and the target hold in their hands, and the proxy's two sockets."""

    def __init__(self, engine: Engine, pipes: Pipes, outer: SocketPair, inner: SocketPair, first: bytes) -> None:
        self.visitor, self.target = outer
        self.inner = inner
        self.descriptors = [one.fileno() for one in inner]
        self.engine = engine
        self.result: asyncio.Future[Relayed] = asyncio.get_running_loop().create_future()
        self.relay = Relay(engine, pipes, *inner, first, self)
        self.relay.start()

    def relayed(self, relayed: Relayed) -> None:
        self.result.set_result(relayed)

    def expire(self) -> None:
        """What the connection does with its looks."""
        if self.engine.now - self.relay.idle_since() >= self.idle_timeout:
            self.relay.finish(Ending.IDLE)
        else:
            self.looks.start(self, self.engine.now)

    def look(self, looks: Deadlines[Ends], idle_timeout: float) -> None:
        self.looks, self.idle_timeout = looks, idle_timeout
        looks.start(self, self.engine.now)

    async def finished(self) -> Relayed:
        """The result; the proxy's sockets are closed."""
        result = await asyncio.wait_for(self.result, LONG)
        assert all(one.fileno() < 0 for one in self.inner)
        return result


@pytest.fixture(params=["with pipes", "without"])
def pipes(request: pytest.FixtureRequest) -> Iterator[Pipes]:
    """A relay that gets no pipe copies."""
    pipes = Pipes(4 if request.param == "with pipes" else 0)
    yield pipes
    pipes.trim()
    pipes.trim()


@pytest.fixture
def relaying(tcp_pair: TcpPair, engine: Engine, pipes: Pipes) -> Callable[..., Ends]:
    def start(
        first: bytes = b"", *, idle_timeout: float = LONG, visitor_buffer: int = 0, target_buffer: int = 0
    ) -> Ends:
        visitor, to_visitor = tcp_pair(visitor_buffer)
        to_target, target = tcp_pair(target_buffer)
        ends = Ends(engine, pipes, (visitor, target), (to_visitor, to_target), first)
        ends.look(engine.watch_deadlines(Deadlines(idle_timeout / 4)), idle_timeout)
        return ends

    return start


async def read(sock: socket.socket, size: int) -> bytes:
    """Exactly ``size`` octets."""
    data = b""
    while len(data) < size:
        part = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, size - len(data)), LONG)
        assert part, f"ended after {data!r}"
        data += part
    return data


async def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while part := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 65536), LONG):
        data += part
    return data


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(sock, data), LONG)


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def test_first_bytes_come_first_and_are_counted(relaying: Callable[..., Ends]) -> None:
    ends = relaying(b"sniffed,")
    await send(ends.visitor, b"then")
    assert await read(ends.target, 12) == b"sniffed,then"
    await send(ends.target, b"answer")
    assert await read(ends.visitor, 6) == b"answer"
    ends.visitor.close()
    ends.target.close()
    assert await ends.finished() == Relayed(Ending.CLOSED, 12, 6)


async def test_half_close_of_the_visitor_leaves_the_answer_its_way(relaying: Callable[..., Ends]) -> None:
    ends = relaying()
    await send(ends.visitor, b"question")
    ends.visitor.shutdown(socket.SHUT_WR)
    assert await read_to_end(ends.target) == b"question"
    await send(ends.target, b"answer")
    assert await read(ends.visitor, 6) == b"answer"
    ends.target.shutdown(socket.SHUT_WR)
    assert await read_to_end(ends.visitor) == b""
    assert await ends.finished() == Relayed(Ending.CLOSED, 8, 6)


async def test_half_close_of_the_target_leaves_the_question_its_way(relaying: Callable[..., Ends]) -> None:
    ends = relaying(b"hello")
    await send(ends.target, b"greeting")
    ends.target.shutdown(socket.SHUT_WR)
    assert await read_to_end(ends.visitor) == b"greeting"
    await send(ends.visitor, b", more")
    assert await read(ends.target, 11) == b"hello, more"
    ends.visitor.shutdown(socket.SHUT_WR)
    assert await read_to_end(ends.target) == b""
    assert await ends.finished() == Relayed(Ending.CLOSED, 11, 8)


async def test_an_end_that_arrives_with_data_is_passed_on(relaying: Callable[..., Ends]) -> None:
    ends = relaying()
    ends.visitor.send(b"all at once")
    ends.visitor.shutdown(socket.SHUT_WR)
    ends.target.send(b"same here")
    ends.target.shutdown(socket.SHUT_WR)
    assert await read_to_end(ends.target) == b"all at once"
    assert await read_to_end(ends.visitor) == b"same here"
    assert (await ends.finished()).ending is Ending.CLOSED


async def test_a_target_that_does_not_read_stops_the_visitor(relaying: Callable[..., Ends]) -> None:
    """At most 64 KiB wait in the process, the rest in the kernel's (here: small) buffers."""
    ends = relaying(visitor_buffer=4096, target_buffer=4096)
    block = random.Random(1).randbytes(1 << 20)
    sent = 0
    quiet = 0
    while quiet < 20:  # nothing taken in twenty turns: everything is full
        try:
            sent += ends.visitor.send(block[sent : sent + 8192])
            quiet = 0
        except BlockingIOError:
            quiet += 1
        await asyncio.sleep(0.005)
    assert sent < 64 * 1024 + 6 * 65536
    assert sent < len(block)
    assert await read(ends.target, sent) == block[:sent]
    rest = asyncio.create_task(send(ends.visitor, block[sent:]))
    assert await read(ends.target, len(block) - sent) == block[sent:]
    await rest
    ends.visitor.close()
    ends.target.close()
    assert await ends.finished() == Relayed(Ending.CLOSED, len(block), 0)


async def test_what_comes_in_while_nothing_fits_wakes_nobody(
    relaying: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And all of it, its end included, is passed on when there is room again."""
    heard = 0
    ready = Relay.ready

    def counting(relay: Relay, descriptor: int, events: int) -> None:
        nonlocal heard
        heard += 1
        ready(relay, descriptor, events)

    monkeypatch.setattr(Relay, "ready", counting)
    ends = relaying(target_buffer=4096)
    sent = b"x" * 30_000
    await send(ends.visitor, sent)
    await asyncio.sleep(0.1)
    heard = 0
    for number in range(50):
        piece = b"%d " % number * 100
        sent += piece
        await send(ends.visitor, piece)
        await asyncio.sleep(0.001)
    ends.visitor.shutdown(socket.SHUT_WR)
    await asyncio.sleep(0.01)
    assert heard < 5
    assert await read_to_end(ends.target) == sent
    ends.target.close()
    assert (await ends.finished()).ending == Ending.CLOSED


@pytest.mark.parametrize("seed", range(4))
async def test_big_bodies_both_ways_at_once(relaying: Callable[..., Ends], seed: int) -> None:
    """Pieces of any size, slow and fast readers, small and large kernel buffers: what comes out is what went in."""
    chance = random.Random(seed)
    sizes = [0, 2048, 65536]
    ends = relaying(b"first", visitor_buffer=chance.choice(sizes), target_buffer=chance.choice(sizes))
    bodies = chance.randbytes(3_000_000), chance.randbytes(2_000_000)

    async def write(sock: socket.socket, data: bytes) -> None:
        position = 0
        while position < len(data):
            size = chance.choice([1, 100, 5000, 65536, 300_000])
            await send(sock, data[position : position + size])
            position += size
        sock.shutdown(socket.SHUT_WR)

    async def digest(sock: socket.socket) -> str:
        digest = hashlib.sha256()
        loop = asyncio.get_running_loop()
        while part := await asyncio.wait_for(loop.sock_recv(sock, chance.choice([100, 4096, 200_000])), LONG):
            digest.update(part)
            if chance.random() < 0.01:
                await asyncio.sleep(0.001)
        return digest.hexdigest()

    _, _, at_target, at_visitor = await asyncio.gather(
        write(ends.visitor, bodies[0]), write(ends.target, bodies[1]), digest(ends.target), digest(ends.visitor)
    )
    assert at_target == hashlib.sha256(b"first" + bodies[0]).hexdigest()
    assert at_visitor == hashlib.sha256(bodies[1]).hexdigest()
    assert await ends.finished() == Relayed(Ending.CLOSED, 5 + len(bodies[0]), len(bodies[1]))


async def test_answers_of_a_fast_target_arrive_to_their_last_octet(
    relaying: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left behind when larger pieces are waited for comes all the same, and the connection goes on."""
    monkeypatch.setattr(read_coalescing, "_FAST", math.inf)
    ends = relaying(b"question")
    assert await read(ends.target, 8) == b"question"
    for size in (8_000_000, 6_000_001, 100, 1):
        answer = random.Random(size).randbytes(size)
        sending = asyncio.create_task(send(ends.target, answer))
        assert await read(ends.visitor, size) == answer
        await sending
        await send(ends.visitor, b"another")
        assert await read(ends.target, 7) == b"another"
    await send(ends.target, answer := random.Random(2).randbytes(7_000_000))
    ends.target.close()
    assert await read_to_end(ends.visitor) == answer
    ends.visitor.close()
    assert (await ends.finished()).ending == Ending.CLOSED


async def test_a_reset_by_the_visitor_ends_both_directions(relaying: Callable[..., Ends]) -> None:
    ends = relaying(b"hello")
    assert await read(ends.target, 5) == b"hello"
    reset(ends.visitor)
    assert await ends.finished() == Relayed(Ending.RESET, 5, 0)
    assert await read_to_end(ends.target) == b""


async def test_a_reset_by_the_target_ends_both_directions(relaying: Callable[..., Ends]) -> None:
    ends = relaying(b"hello")
    assert await read(ends.target, 5) == b"hello"
    await send(ends.target, b"some")
    assert await read(ends.visitor, 4) == b"some"
    reset(ends.target)
    assert await ends.finished() == Relayed(Ending.RESET, 5, 4)
    assert await read_to_end(ends.visitor) == b""


async def test_the_answer_to_a_refused_upload_arrives(relaying: Callable[..., Ends]) -> None:
    """A target that answers and closes without reading resets the upload; a slow visitor still gets the answer."""
    ends = relaying(b"upload", visitor_buffer=4096)
    answer = random.Random(1).randbytes(60_000)
    await send(ends.target, answer)
    await soon(lambda: not octets_not_acknowledged(ends.target))
    ends.target.close()  # with b"upload" unread: a reset
    await send(ends.visitor, b"more")  # the relay finds out while most of the answer waits in it
    assert await read(ends.visitor, len(answer)) == answer
    assert await ends.finished() == Relayed(Ending.RESET, 6, len(answer))


def octets_not_acknowledged(sock: socket.socket) -> int:
    """What is still in the send queue (SIOCOUTQ, tcp(7))."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


async def test_t2_a_silent_connection_ends_after_the_idle_time(relaying: Callable[..., Ends]) -> None:
    ends = relaying(b"hello", idle_timeout=0.2)
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.1)
    await send(ends.visitor, b"more")
    assert await read(ends.target, 9) == b"hellomore"
    last = loop.time()
    assert await ends.finished() == Relayed(Ending.IDLE, 9, 0)
    assert loop.time() - last > 0.15  # the byte in between put it off


@pytest.mark.parametrize("how", ["cut", "closed", "idle"])
async def test_t12_no_socket_stays_registered(relaying: Callable[..., Ends], how: str) -> None:
    ends = relaying(b"x", idle_timeout=0.01 if how == "idle" else LONG)
    assert await read(ends.target, 1) == b"x"
    if how == "cut":
        ends.relay.finish(Ending.CUT)
        ends.relay.finish(Ending.CUT)
    elif how == "closed":
        ends.visitor.close()
        ends.target.close()
    assert (await ends.finished()).ending == how
    assert not any(descriptor in ends.engine for descriptor in ends.descriptors)
