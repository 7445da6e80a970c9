"""The engine as asyncio's selector: both are served by one wait, and neither disturbs the other."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from tfgateway.proxy.eventloop.deadlines import Deadlines
from tfgateway.proxy.eventloop.engine import Engine

from tests.support.waiting import soon

SocketPair = tuple[socket.socket, socket.socket]
TcpPair = Callable[..., SocketPair]
LONG = 60.0


class Heard:
    """A watcher that notes what it hears, and does what a test wants."""

    def __init__(self, does: Callable[[int], None] = lambda _: None) -> None:
        self.does = does
        self.descriptors: list[int] = []
        self.failed = 0
        self.something = asyncio.Event()

    def ready(self, descriptor: int, _events: int) -> None:
        self.descriptors.append(descriptor)
        self.something.set()
        self.does(descriptor)

    def fail(self) -> None:
        self.failed += 1

    def expire(self) -> None:
        self.something.set()

    async def hears(self) -> None:
        await asyncio.wait_for(self.something.wait(), LONG)


async def test_asyncio_and_watchers_are_served_by_the_same_wait(engine: Engine, tcp_pair: TcpPair) -> None:
    near, far = tcp_pair()
    watched, other = tcp_pair()
    loop = asyncio.get_running_loop()
    heard = Heard()
    engine.watch(watched.fileno(), heard)
    receiving = asyncio.create_task(loop.sock_recv(near, 10))
    await asyncio.sleep(0)
    other.send(b"x")
    far.send(b"y")
    assert await asyncio.wait_for(receiving, LONG) == b"y"
    await heard.hears()
    assert heard.descriptors == [watched.fileno()]


async def test_asyncio_hears_of_reading_and_writing_apart(engine: Engine, tcp_pair: TcpPair) -> None:
    near, far = tcp_pair()
    loop = asyncio.get_running_loop()
    readable, writable = asyncio.Event(), asyncio.Event()
    loop.add_reader(near, readable.set)
    loop.add_writer(near, writable.set)
    await asyncio.wait_for(writable.wait(), LONG)
    assert not readable.is_set()
    loop.remove_writer(near)
    writable.clear()
    far.send(b"x")
    await asyncio.wait_for(readable.wait(), LONG)
    assert not writable.is_set()
    loop.remove_reader(near)


async def test_who_fails_is_told_and_others_are_served(engine: Engine, tcp_pair: TcpPair) -> None:
    def mistake(_descriptor: int) -> None:
        raise ValueError("a mistake")

    bad, good = Heard(mistake), Heard()
    pairs = [tcp_pair() for _ in range(2)]
    for (near, _), heard in zip(pairs, (bad, good), strict=True):
        engine.watch(near.fileno(), heard)
    for _, far in pairs:
        far.send(b"x")
    await good.hears()
    await bad.hears()
    assert (bad.failed, good.failed) == (1, 0)


async def test_who_fails_at_a_deadline_or_at_a_look_is_told(engine: Engine) -> None:
    """What is not told keeps its sockets for ever: nothing else would look at it again."""

    class Failing(Heard):
        def expire(self) -> None:
            raise ValueError("a mistake")

        def poll(self) -> bool:
            raise ValueError("a mistake")

    late, looking, other = Failing(), Failing(), Heard()
    deadlines = engine.watch_deadlines(Deadlines[Heard](0.01))
    engine.add_housekeeping(late.expire)  # must not end the event loop
    engine._ticks = 49
    for one in (late, other):
        deadlines.start(one, engine.now)
    engine.poll_soon(looking)
    await other.hears()
    await asyncio.sleep(0)
    assert (late.failed, looking.failed, other.failed) == (1, 1, 0)


async def test_who_cannot_be_watched_fails_when_it_is_done(engine: Engine, tcp_pair: TcpPair) -> None:
    near, _ = tcp_pair()
    watcher = Heard()
    closed = near.detach()
    os.close(closed)  # EBADF from epoll_ctl(2)
    engine.watch(closed, watcher)
    assert watcher.failed == 0
    assert closed not in engine
    await soon(lambda: watcher.failed)


async def test_what_is_closed_in_a_turn_is_open_until_its_end(engine: Engine, tcp_pair: TcpPair) -> None:
    """Its number must not pass on to a new connection while reports about the old one wait."""
    pairs = [tcp_pair() for _ in range(2)]
    nears = {near.fileno(): near for near, _ in pairs}
    still_open = []

    def close_both(_descriptor: int) -> None:
        for near in nears.values():
            engine.close_soon(near)
        still_open.extend(near.fileno() for near in nears.values())

    heard = Heard(close_both)
    for number in nears:
        engine.watch(number, heard)
    for _, far in pairs:
        far.send(b"x")
    await heard.hears()
    await asyncio.sleep(0)
    assert len(heard.descriptors) == 1, "a report about a closed connection reached somebody"
    assert still_open == list(nears)
    assert all(near.fileno() < 0 for near in nears.values())


async def test_deadlines_pass_while_nothing_else_happens(engine: Engine) -> None:
    heard = Heard()
    started = engine.now
    engine.watch_deadlines(Deadlines[Heard](0.01)).start(heard, started)
    await heard.hears()
    assert engine.now - started < LONG / 2, "seen only when asyncio's own timer ended the wait"


async def test_asyncio_goes_on_when_a_watcher_gives_it_something_to_do(engine: Engine, tcp_pair: TcpPair) -> None:
    """At once, not when the engine has nothing more to report."""
    near, far = tcp_pair()
    loop = asyncio.get_running_loop()
    turns = 0
    done = asyncio.Event()

    def again(_descriptor: int) -> None:
        nonlocal turns
        turns += 1
        near.recv(1)
        if turns == 5:
            loop.call_soon(done.set)
        if not done.is_set() and turns < 1000:
            far.send(b"x")

    engine.watch(near.fileno(), Heard(again))
    far.send(b"x")
    await asyncio.wait_for(done.wait(), LONG)
    assert turns < 20
