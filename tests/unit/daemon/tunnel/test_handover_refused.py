"""Sessions and visitors on their way to a worker that has no descriptor left, or dies, or is of an earlier release."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from tfgateway.tunnel.client.model import Phase
from tfgateway.tunnel.links.link import Link
from tfgateway.tunnel.links.messages import (
    DeliveryReply,
    Descriptors,
    Hello,
    SessionDelivery,
    StreamDelivery,
    VisitorDelivery,
    decode_content,
    decode_message,
    encode,
)
from tfgateway.tunnel.session.stream_relay import RelaySnapshot
from tfgateway.tunnel.yamux.snapshot import ConnectionSnapshot

from tests.support.waiting import soon

from .conftest import LIMIT, Gateway, World, ask

VISITOR = VisitorDelivery(b"first", "127.0.0.1", "http", b"secret", b"context", 0.0, 0)


def descriptors() -> int:
    """How many are open; looking takes none."""
    found = 0
    for number in range(4096):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found += 1
    return found


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process, with all its workers, can open so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 50, hard))
    filled: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                filled.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(count):
            os.close(filled.pop())
        yield
    finally:
        for descriptor in filled:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def linked(*gateways: Gateway) -> None:
    def complete() -> bool:
        links = [link for gateway in gateways for link in gateway.tunnels._links._links]
        return len(links) == len(gateways) * (len(gateways) - 1) and all(link.hellos for link in links)

    await soon(complete)


@pytest.mark.parametrize("left", [0, 1, 2, 3])
async def test_a_session_stays_until_another_worker_has_descriptors_for_it(world: World, left: int) -> None:
    """Three belong to it: its own, a visitor's, and the content's, which the sender needs as well."""
    one, two = world.gateway(), world.gateway()
    status = world.client(one, await world.service())
    visitor = one.visit(b"a")
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT):
        assert await loop.sock_recv(visitor, 1) == b"a"
    await linked(one, two)
    with structlog.testing.capture_logs() as logs:
        with descriptors_left(left):
            before = descriptors()
            draining = asyncio.create_task(one.tunnels.drain())
            await soon(lambda: any("no other takes them" in entry["event"] for entry in logs))
            await loop.sock_sendall(visitor, b"b")
            async with asyncio.timeout(LIMIT):
                assert await loop.sock_recv(visitor, 1) == b"b", "what is in the session goes on meanwhile"
            await soon(lambda: descriptors() == before)
        async with asyncio.timeout(LIMIT):
            await draining
    refusals = [entry for entry in logs if "refused" in entry["event"]]
    assert all("descriptor" in entry["reason"] for entry in refusals)
    assert bool(refusals) == (left > 0), "without one of its own the sender cannot even ask"
    assert await ask(visitor, b"c") == b"c"
    assert await ask(two.visit(b"after")) == b"after"
    assert (status.sessions, status.phase) == (1, Phase.CONNECTED)
    assert two.metric("tfgateway_tunnel_registrations_total", outcome="moved") == 1
    await soon(lambda: two.ends == ["closed", "closed"])
    assert set(one.ends) == {"handed_over"}


async def test_a_visitor_that_has_just_gone_does_not_keep_the_session_from_moving(world: World) -> None:
    """It is counted a turn of the event loop later, and has no socket that could be handed over."""
    one, two = world.gateway(), world.gateway()
    status = world.client(one, await world.service())
    stays, goes = one.visit(b"a"), one.visit(b"b")
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT):
        assert (await loop.sock_recv(stays, 1), await loop.sock_recv(goes, 1)) == (b"a", b"b")
    await linked(one, two)
    [client] = one.tunnels._clients.values()
    moving = asyncio.create_task(one.tunnels._handover.move([client]))
    await asyncio.sleep(0)  # the move begins with the next turn
    visits = one.tunnels._visits._visits[client.session].values()
    [gone] = [visit for visit in visits if visit.visitor.socket.getpeername() == goes.getsockname()]
    gone.relay.cut()
    async with asyncio.timeout(LIMIT):
        assert await moving, "it was not refused"
    assert await ask(stays, b"c") == b"c"
    assert sorted(one.ends) == ["cut", "handed_over"]
    assert (status.sessions, two.metric("tfgateway_tunnels")) == (1, 1)


async def test_a_visitor_waits_until_the_worker_with_its_client_has_a_descriptor_for_it(world: World) -> None:
    one, two = world.gateway(tunnel_grace=20.0), world.gateway(tunnel_grace=20.0)
    world.client(two, await world.service())
    assert await ask(one.visit(b"before")) == b"before"
    visitor = one.visit(b"hello")
    with structlog.testing.capture_logs() as logs, descriptors_left(1):
        await soon(lambda: sum("refused" in entry["event"] for entry in logs) >= 2)
        assert one.ends == ["handed_over"], "it waits"
    assert await ask(visitor) == b"hello"


async def test_a_visitor_is_not_waited_for_longer_than_the_time_of_grace(world: World) -> None:
    one, two = world.gateway(tunnel_grace=0.3), world.gateway(tunnel_grace=0.3)
    world.client(two, await world.service())
    assert await ask(one.visit(b"before")) == b"before"
    visitor = one.visit(b"hello")
    with descriptors_left(1):
        await soon(lambda: one.ends == ["handed_over", "503"])
    assert await ask(visitor) == b"503"


async def test_a_session_goes_to_another_worker_when_the_first_dies_before_it_takes_it(world: World) -> None:
    one, two = world.gateway(), world.gateway()
    status = world.client(one, await world.service())
    await soon(lambda: status.phase is Phase.CONNECTED)
    await linked(one, two)
    link = one.tunnels._links._links[0]
    asyncio.get_running_loop().remove_reader(two.tunnels._links._links[0]._sock.fileno())  # it hangs
    draining = asyncio.create_task(one.tunnels.drain())
    await soon(lambda: link._unanswered)
    three = world.gateway()
    await soon(lambda: any(other.name == three.name and other.hellos for other in one.tunnels._links._links))
    world.gateways.remove(two)
    two.close()
    async with asyncio.timeout(LIMIT):
        await draining
    assert await ask(three.visit(b"after")) == b"after"
    assert status.sessions == 1


class Peer:
    """A link, and the bare socket at its other end."""

    def __init__(self, *, answers: bool) -> None:
        self.bare, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.bare.setblocking(False)
        self.delivered: list[tuple[Any, list[socket.socket]]] = []
        self.lost = False
        self.link = Link(
            near,
            received=lambda link, message: (
                link.answered(taken=message.taken) if isinstance(message, DeliveryReply) else None
            ),
            delivered=lambda content, sockets: self.delivered.append((content, sockets)),
            lost=lambda _link: setattr(self, "lost", True),
        )
        self.link.answers = answers

    def send(self, content: bytes, *sockets: socket.socket, last: bool = True) -> None:
        with os.fdopen(os.memfd_create("content"), "wb") as file:
            file.write(content)
            file.flush()
            socket.send_fds(self.bare, [encode(Descriptors(last))], [file.fileno(), *(one.fileno() for one in sockets)])

    async def read(self) -> Any:
        async with asyncio.timeout(LIMIT):
            return decode_message(await asyncio.get_running_loop().sock_recv(self.bare, 65536))

    def close(self) -> None:
        self.bare.close()
        self.link.close()
        for _, sockets in self.delivered:
            for one in sockets:
                one.close()


@pytest.fixture
def peer() -> Iterator[Any]:
    made: list[Peer] = []

    def make(*, answers: bool) -> Peer:
        made.append(Peer(answers=answers))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def test_an_earlier_release_is_not_answered_and_what_is_cut_off_is_logged(peer: Any) -> None:
    """It has closed what it sent, and would not understand an answer."""
    old = peer(answers=False)
    with socket.socket() as carried:
        old.send(encode(VISITOR), carried)
        await soon(lambda: len(old.delivered) == 1)
        before = descriptors()
        with structlog.testing.capture_logs() as logs, descriptors_left(2):
            old.send(encode(VISITOR), carried)
            with descriptors_left(1):
                await soon(lambda: logs)
        assert [(entry["event"], entry["log_level"]) for entry in logs] == [
            ("delivery of another worker lost", "error")
        ]
        assert descriptors() == before
        old.send(encode(VISITOR), carried)
        await soon(lambda: len(old.delivered) == 2)
    with pytest.raises(BlockingIOError):
        old.bare.recv(1)


async def test_an_earlier_release_is_not_waited_for(peer: Any) -> None:
    old = peer(answers=False)
    with socket.socket() as carried:
        async with asyncio.timeout(LIMIT):
            assert await old.link.deliver(VISITOR, [carried])


@pytest.mark.parametrize("content", [b"nonsense", encode(VISITOR)], ids=["cannot be read", "another number of sockets"])
async def test_what_cannot_be_taken_is_refused_and_the_link_goes_on(peer: Any, content: bytes) -> None:
    new = peer(answers=True)
    with socket.socket() as carried:
        before = descriptors()
        new.send(content, carried, carried)
        assert await new.read() == DeliveryReply(taken=False)
        assert descriptors() == before
        new.send(encode(VISITOR), carried)
        assert await new.read() == DeliveryReply(taken=True)
    assert len(new.delivered) == 1


async def test_answers_belong_to_deliveries_in_their_order(peer: Any) -> None:
    new = peer(answers=True)
    with socket.socket() as carried:
        waiting = [asyncio.create_task(new.link.deliver(VISITOR, [carried])) for _ in range(3)]
        for _ in waiting:
            assert await new.read() == Descriptors(last=True)
        for taken in (True, False, True):
            new.bare.send(encode(DeliveryReply(taken=taken)))
        async with asyncio.timeout(LIMIT):
            assert await asyncio.gather(*waiting) == [True, False, True]
        last = asyncio.create_task(new.link.deliver(VISITOR, [carried]))
        await new.read()
        new.bare.close()
        async with asyncio.timeout(LIMIT):
            assert await last is False, "a peer that is gone has taken nothing"


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("who", ["this worker", "its peer"])
async def test_what_was_answered_before_the_link_ends_counts(peer: Any, who: str, taken: bool) -> None:
    """Else both would go on with one session. A peer that leaves something unread resets the link (unix(7))."""
    new = peer(answers=True)
    with socket.socket() as carried:
        waiting = asyncio.create_task(new.link.deliver(VISITOR, [carried]))
        await new.read()
        new.link.send(Hello("unread", draining=False))
        new.bare.send(encode(DeliveryReply(taken=taken)))
        (new.link if who == "this worker" else new.bare).close()
        async with asyncio.timeout(LIMIT):
            assert await waiting is taken
    assert new.lost


async def test_an_answer_to_nothing_ends_the_link(peer: Any) -> None:
    new = peer(answers=True)
    new.bare.send(encode(DeliveryReply(taken=True)))
    await soon(lambda: new.lost)


async def test_a_delivery_that_is_given_up_on_its_way_ends_the_link(peer: Any) -> None:
    """Its descriptors' numbers are given to others next: nothing may be sent under them."""
    new = peer(answers=True)
    with socket.socket() as carried:
        while not new.link._queue:
            new.link.send(Hello("x" * 1000, draining=False))
        giving_up = asyncio.create_task(new.link.deliver(VISITOR, [carried]))
        await asyncio.sleep(0)
        giving_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await giving_up
    assert new.lost


def test_a_release_before_the_answers_reads_the_hello_of_this_one() -> None:
    class OldHello(msgspec.Struct, frozen=True, tag="hello"):
        name: str
        draining: bool

    raw = encode(Hello("worker-1", draining=True, answers=True))
    assert msgspec.msgpack.decode(raw, type=OldHello) == OldHello("worker-1", draining=True)
    assert decode_message(msgspec.msgpack.encode(OldHello("worker-1", draining=True))) == Hello("worker-1", True, False)


def test_a_session_has_the_names_on_the_wire_that_earlier_releases_read() -> None:
    relay = RelaySnapshot(1, 2, b"out", b"in", stream_ended=True, socket_ended=False, socket_deaf=True)
    connection = ConnectionSnapshot(3, 0, b"", 0, 0, False, False, {})
    stream = StreamDelivery(3, relay, "127.0.0.1", "http", b"context")
    state = SessionDelivery(b"secret", "127.0.0.1", 7, 1, connection, b"unsent", (stream,))
    raw = encode(state)
    sent = msgspec.msgpack.decode(raw)
    known = {"type", "secret", "source", "since", "greeting", "connection", "unsent", "streams"}
    assert sent.keys() == known | {"extensions"}
    assert (sent["type"], sent["greeting"]) == ("session", 1)
    assert sent["streams"][0].keys() == {"stream", "relay", "source", "plane", "context"}
    assert sent["streams"][0]["relay"] == {
        "to_stream": 1,
        "to_socket": 2,
        "unsent_to_stream": b"out",
        "unsent_to_socket": b"in",
        "stream_ended": True,
        "socket_ended": False,
        "socket_deaf": True,
    }
    assert decode_content(raw) == state
    # What has been added since may be missing.
    del sent["extensions"], sent["connection"]["round_trip"]
    assert decode_content(msgspec.msgpack.encode(sent)) == state
    assert msgspec.msgpack.decode(encode(Descriptors(True))) == {"type": "parcel", "last": True}
