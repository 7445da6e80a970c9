"""One epoll instance for all connections of a worker, which is asyncio's selector at the same time.

A connection costs no task, no future, no timer and no callback of the event loop: its object is called from the
selector when something may be possible, tries, and returns. Sockets are closed after the events that the kernel
reported together, so that none of these is about a descriptor with a number that another connection has now.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import selectors
import socket
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol, TypeVar, TypeVarTuple

from tfgateway.net.sockets import close
from tfgateway.proxy.eventloop.deadlines import Deadlines
from tfgateway.telemetry.logs import logger

INCOMING = select.EPOLLIN
READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
BROKEN = select.EPOLLHUP | select.EPOLLERR
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_TO_READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_BOTH_WAYS = _TO_READ | select.EPOLLOUT

_EVENTS = 256  # taken from the kernel at once, before the rest of the event loop gets its turn
_MOMENT = 0.001  # seconds; the shortest time that epoll can wait
_TICK = 0.1  # seconds between two looks at the deadlines
_HOUSEKEEPING = 50  # ticks

_log = logger("proxy")


class Watcher(Protocol):
    """Owns descriptors that the engine watches."""

    def ready(self, descriptor: int, events: int) -> None:
        """Something may be possible on ``descriptor``; ``events`` is a mask of EPOLL* bits."""

    def fail(self) -> None:
        """``ready`` raised, an error of this program, or the kernel cannot watch a descriptor of it.

        Close everything; no other watcher may suffer.
        """


class Resumable(Protocol):
    """Work that was deferred, so that others get their turn."""

    def resume(self) -> None: ...

    def fail(self) -> None: ...


class Polled(Protocol):
    """Has to be polled: the kernel does not report all that it waits for."""

    def poll(self) -> bool:
        """Called every millisecond. False: no more."""

    def fail(self) -> None:
        """``poll`` raised."""


class Expiring(Protocol):
    """Has deadlines."""

    def expire(self) -> None:
        """The deadline has passed."""

    def fail(self) -> None:
        """``expire`` raised."""


class _Failing:
    """Deferred work: to let a watcher fail."""

    def __init__(self, watcher: Watcher) -> None:
        self.resume = self.fail = watcher.fail


_E = TypeVar("_E", bound=Expiring)
_Ts = TypeVarTuple("_Ts")


class Engine(selectors.EpollSelector):
    """Calls watchers while asyncio waits for what is its own; ``EngineLoop`` owns it, and closes it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        # The same instance in the kernel, for what ``selectors`` does not offer: edges, and the end of a stream.
        self._epoll = select.epoll.fromfd(os.dup(self.fileno()))
        self._register = self._epoll.register
        self._clock = clock
        self.now = clock()
        """When this turn began, by a clock that never goes back; seconds."""
        self._closing: list[socket.SocketType] = []
        self._turning = False
        self._asyncio_waits = False
        self._watchers: dict[int, Watcher] = {}
        self._deferred: list[Resumable] = []
        self._deadlines: list[Deadlines[Any]] = []
        self._housekeeping: list[Callable[[], None]] = []
        self._next_tick = self.now
        self._ticks = 0
        self._polled: list[Polled] = []
        self._next_poll = self.now

    def close(self) -> None:
        """Watch nothing any more; the descriptors stay open."""
        self._epoll.close()
        super().close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for what asyncio asked for, and call the watchers of all else that the kernel reports meanwhile.

        Returns early when asyncio got something to do (``wake_asyncio``), and at the next tick whatever
        ``timeout`` says: asyncio then finds that there was nothing.
        """
        self._asyncio_waits = timeout is None or timeout > 0
        left = _TICK if timeout is None else min(timeout, _TICK)
        until = self.now + left
        while True:
            asked_for = self._turn(left)
            # asyncio's own turn in between would cost as much as what a watcher does.
            left = until - self.now
            if asked_for or left <= 0 or not self._asyncio_waits:
                return asked_for

    def wake_asyncio(self) -> None:
        """Something was scheduled while asyncio waits."""
        self._asyncio_waits = False

    def _turn(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """What the kernel reports now, or first within ``timeout`` seconds; what of it is asyncio's."""
        if self._deferred:
            timeout = 0.0
        elif self._polled and timeout > _MOMENT:
            timeout = _MOMENT
        events = self._epoll.poll(timeout, _EVENTS)
        self.now = now = self._clock()
        asked_for = []
        find = self._watchers.get
        self._turning = True
        for descriptor, mask in events:
            watcher = find(descriptor)
            if watcher is None:
                asked_for += self._asked_for(descriptor, mask)
                continue
            try:
                watcher.ready(descriptor, mask)
            except Exception:
                self._failed(watcher)
        if self._deferred:
            self._resume()
        if self._polled and now >= self._next_poll:
            self._poll_all(now)
        self._turning = False
        closing = self._closing
        if closing:
            for sock in closing:
                close(sock)
            closing.clear()
        if now >= self._next_tick:
            self._tick(now)
        return asked_for

    def _asked_for(self, descriptor: int, mask: int) -> list[tuple[selectors.SelectorKey, int]]:
        """What of a report is asyncio's: nothing when its descriptor is not watched any more."""
        key = self.get_map().get(descriptor)
        if key is None:
            return []
        ready = (selectors.EVENT_READ if mask & ~select.EPOLLOUT else 0) | (
            selectors.EVENT_WRITE if mask & ~select.EPOLLIN else 0
        )
        return [(key, ready & key.events)]

    def __contains__(self, descriptor: int) -> bool:
        """Whether it is watched."""
        return descriptor in self._watchers

    def watch(self, descriptor: int, watcher: Watcher, events: int = _TO_READ) -> None:
        """Report what comes in on a connected socket, each time once (edge-triggered), and what is there already.

        A previous watcher gets no more reports. events: a mask of EPOLL* bits.
        """
        try:
            if descriptor in self._watchers:
                self._epoll.modify(descriptor, events)
            else:
                self._register(descriptor, events)
        except OSError as error:
            self._cannot_watch(watcher, error)
        else:
            self._watchers[descriptor] = watcher

    def watch_room(self, descriptor: int, watcher: Watcher) -> None:
        """Report from now on also when there is room to send; a socket that is not yet connected gets room by that."""
        self.watch(descriptor, watcher, _BOTH_WAYS)

    def _cannot_watch(self, watcher: Watcher, error: OSError) -> None:
        """Let it fail after what it does now: the kernel has no memory for it, or too many watches."""
        _log.warning("connection cannot be watched", reason=error.strerror)
        self._deferred.append(_Failing(watcher))

    def change(self, descriptor: int, watcher: Watcher, *, incoming: bool, room: bool) -> None:
        """Report from now on what comes in, or not, and room to send, or not; a broken connection always.

        What is there already is reported.
        """
        events = (_TO_READ if incoming else select.EPOLLET) | (select.EPOLLOUT if room else 0)
        self.watch(descriptor, watcher, events)

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
            close(sock)

    def let_go(self, descriptor: int) -> None:
        """Report nothing more of a descriptor that stays open; harmless when it is not watched."""
        if self._watchers.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def defer(self, work: Resumable) -> None:
        """Call ``work.resume`` after all others had a turn."""
        self._deferred.append(work)

    def poll_soon(self, owner: Polled) -> None:
        """Call ``owner.poll`` every millisecond, until it returns False."""
        self._polled.append(owner)

    def watch_deadlines(self, deadlines: Deadlines[_E]) -> Deadlines[_E]:
        """Call ``expire`` of what has expired, every tenth of a second; gives its argument."""
        self._deadlines.append(deadlines)
        return deadlines

    def add_housekeeping(self, step: Callable[[], None]) -> None:
        """Call ``step`` every few seconds, as long as the engine runs."""
        self._housekeeping.append(step)

    def _resume(self) -> None:
        works, self._deferred = self._deferred, []
        for work in works:
            try:
                work.resume()
            except Exception:
                self._failed(work)

    def _poll_all(self, now: float) -> None:
        self._next_poll = now + _MOMENT
        polled, self._polled = self._polled, []
        for owner in polled:
            try:
                if owner.poll():
                    self._polled.append(owner)
            except Exception:
                self._failed(owner)

    def _failed(self, owner: Watcher | Resumable | Polled | Expiring) -> None:
        _log.exception("connection not served")
        try:
            owner.fail()
        except Exception:
            _log.exception("connection not closed")

    def _tick(self, now: float) -> None:
        self._next_tick = now + _TICK
        for deadlines in self._deadlines:
            for thing in deadlines.expired(now):
                try:
                    thing.expire()
                except Exception:
                    self._failed(thing)
        self._ticks += 1
        if self._ticks % _HOUSEKEEPING == 0:
            for step in self._housekeeping:
                try:
                    step()
                except Exception:
                    _log.exception("housekeeping failed")


class EngineLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, with an engine as its selector."""

    def __init__(self) -> None:
        self.engine = Engine()
        super().__init__(self.engine)

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See ``asyncio``."""
        self.engine.wake_asyncio()
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See ``asyncio``."""
        self.engine.wake_asyncio()
        return super().call_at(when, callback, *args, context=context)


def running_engine() -> Engine:
    """The engine of the running event loop. Errors: ``RuntimeError``: it has none."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EngineLoop):
        raise RuntimeError("the event loop has no engine")
    return loop.engine
