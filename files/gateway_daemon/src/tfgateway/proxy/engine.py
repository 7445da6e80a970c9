"""One epoll instance for all connections of a worker, nested in the event loop of asyncio.

A connection costs no task, no future and no timer: its object is called when something may be possible, tries, and
returns. Sockets are closed after the events that the kernel reported together, so that none of these is about a
descriptor whose number has passed on to another connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from tfgateway.proxy.deadlines import Deadlines
from tfgateway.telemetry.logs import logger

READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
BROKEN = select.EPOLLHUP | select.EPOLLERR
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_TO_READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_BOTH_WAYS = _TO_READ | select.EPOLLOUT

_EVENTS = 256  # taken from the kernel at once
_ROUNDS = 16  # before the rest of the event loop gets its turn
_TICK = 0.1  # seconds between two looks at the deadlines
_HOUSEKEEPING = 50  # ticks

_log = logger("proxy")


class Watcher(Protocol):
    """Owns descriptors that the engine watches."""

    def ready(self, descriptor: int, events: int) -> None:
        """Something may be possible on ``descriptor``; ``events`` is a mask of EPOLL* bits."""

    def fail(self) -> None:
        """``ready`` raised: an error of this program. Close everything; nobody else may suffer."""


class Resumable(Protocol):
    """Work that was put off so that others get their turn."""

    def resume(self) -> None: ...

    def fail(self) -> None: ...


class Expiring(Protocol):
    """Has deadlines."""

    def expire(self) -> None:
        """The deadline has passed."""


_E = TypeVar("_E", bound=Expiring)


class Engine:
    """Calls watchers. Use inside a running event loop; ``close`` ends it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self.now = clock()
        """When this turn began, by a clock that never goes back; seconds."""
        self._epoll = select.epoll()
        self._register = self._epoll.register
        self._closing: list[socket.SocketType] = []
        self._turning = False
        self._watchers: dict[int, Watcher] = {}
        self._put_off: list[Resumable] = []
        self._deadlines: list[Deadlines[Any]] = []
        self._housekeeping: list[Callable[[], None]] = []
        self._ticks = 0
        self._again = False
        self._loop.add_reader(self._epoll.fileno(), self._turn)
        self._timer = self._loop.call_later(_TICK, self._tick)

    def close(self) -> None:
        """Watch nothing any more; the descriptors stay open. Again is harmless."""
        self._timer.cancel()
        for sock in self._closing:
            sock.close()
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._watchers.clear()

    def __contains__(self, descriptor: int) -> bool:
        """Whether it is watched."""
        return descriptor in self._watchers

    def watch(self, descriptor: int, watcher: Watcher) -> None:
        """Report what comes in on a connected socket, each time once (edge-triggered), and what is there already."""
        self._register(descriptor, _TO_READ)
        self._watchers[descriptor] = watcher

    def pass_on(self, descriptor: int, watcher: Watcher) -> None:
        """Another watcher from now on; it too is told what is there already."""
        self._epoll.modify(descriptor, _TO_READ)
        self._watchers[descriptor] = watcher

    def watch_room(self, descriptor: int, watcher: Watcher) -> None:
        """Report from now on also when there is room to send; a socket that is not yet connected gets room by that."""
        if descriptor in self._watchers:
            self._epoll.modify(descriptor, _BOTH_WAYS)
        else:
            self._register(descriptor, _BOTH_WAYS)
        self._watchers[descriptor] = watcher

    def watch_listener(self, descriptor: int, watcher: Watcher) -> None:
        """Report as long as there is something to accept (level-triggered)."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._watchers[descriptor] = watcher

    def close_soon(self, sock: socket.SocketType) -> None:
        """Report nothing more of a socket, and close it."""
        self._watchers.pop(sock.fileno(), None)
        if self._turning:
            self._closing.append(sock)
        else:
            sock.close()

    def let_go(self, descriptor: int) -> None:
        """Report nothing more of a descriptor that stays open; harmless when it is not watched."""
        if self._watchers.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def put_off(self, work: Resumable) -> None:
        """Call ``work.resume`` after everybody else had a turn."""
        self._put_off.append(work)
        self._schedule()

    def look_at(self, deadlines: Deadlines[_E]) -> Deadlines[_E]:
        """Call ``expire`` of what has expired, every tenth of a second; gives its argument."""
        self._deadlines.append(deadlines)
        return deadlines

    def every_few_seconds(self, step: Callable[[], None]) -> None:
        """Call ``step`` now and then, as long as the engine runs."""
        self._housekeeping.append(step)

    def _schedule(self) -> None:
        if not self._again:
            self._again = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        if self._epoll.closed:
            return
        self._again = False
        self.now = self._clock()
        self._turning = True
        try:
            for _ in range(_ROUNDS):
                if not self._round():
                    break
        finally:
            self._turning = False
        # Level-triggered in the outer epoll: what is left wakes the loop again.
        if self._put_off:
            self._schedule()

    def _round(self) -> bool:
        """What the kernel reports now, and what was put off. True: it is worth asking again at once."""
        events = self._epoll.poll(0, _EVENTS)
        find = self._watchers.get
        for descriptor, mask in events:
            watcher = find(descriptor)
            if watcher is not None:
                try:
                    watcher.ready(descriptor, mask)
                except Exception:
                    self._failed(watcher)
        put_off = bool(self._put_off)
        if put_off:
            self._resume()
        closing = self._closing
        if closing:
            for sock in closing:
                sock.close()
            closing.clear()
        return put_off or bool(events)

    def _resume(self) -> None:
        works, self._put_off = self._put_off, []
        for work in works:
            try:
                work.resume()
            except Exception:
                self._failed(work)

    def _failed(self, owner: Watcher | Resumable) -> None:
        _log.exception("connection not served")
        try:
            owner.fail()
        except Exception:
            _log.exception("connection not closed")

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_TICK, self._tick)
        self.now = now = self._clock()
        for deadlines in self._deadlines:
            for thing in deadlines.expired(now):
                try:
                    thing.expire()
                except Exception:
                    _log.exception("connection not served")
        self._ticks += 1
        if self._ticks % _HOUSEKEEPING == 0:
            for step in self._housekeeping:
                step()
