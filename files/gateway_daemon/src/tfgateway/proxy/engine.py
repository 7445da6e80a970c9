"""One epoll instance for all connections of a worker, nested in the event loop of asyncio.

A connection costs no task, no future and no timer: its object is called when something may be possible, tries, and
returns. Events are hints: whoever is called finds out by a system call, since a descriptor's number may have passed on
to another connection between the kernel's report and the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from tfgateway.proxy.deadlines import Deadlines
from tfgateway.telemetry.logs import logger

READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
ENDED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_BOTH_WAYS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

_EVENTS = 256  # taken from the kernel at once
_ROUNDS = 4  # before the rest of the event loop gets its turn
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
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._watchers.clear()

    def __contains__(self, descriptor: int) -> bool:
        """Whether it is watched."""
        return descriptor in self._watchers

    def watch(self, descriptor: int, watcher: Watcher) -> None:
        """Report each change of a connected socket once (edge-triggered), beginning with what is possible now."""
        self._epoll.register(descriptor, _BOTH_WAYS)
        self._watchers[descriptor] = watcher

    def pass_on(self, descriptor: int, watcher: Watcher) -> None:
        """Another watcher from now on; it too is told what is possible now."""
        self._epoll.modify(descriptor, _BOTH_WAYS)
        self._watchers[descriptor] = watcher

    def watch_listener(self, descriptor: int, watcher: Watcher) -> None:
        """Report as long as there is something to accept (level-triggered)."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._watchers[descriptor] = watcher

    def forget(self, descriptor: int) -> None:
        """Report nothing more of a descriptor that is closed next, which ends the kernel's interest in it too."""
        self._watchers.pop(descriptor, None)

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
        watchers = self._watchers
        poll = self._epoll.poll
        for _ in range(_ROUNDS):
            events = poll(0, _EVENTS)
            for descriptor, mask in events:
                watcher = watchers.get(descriptor)
                if watcher is not None:
                    try:
                        watcher.ready(descriptor, mask)
                    except Exception:
                        self._failed(watcher)
            if self._put_off:
                self._resume()
            elif not events:
                return
        # Level-triggered in the outer epoll: what is left wakes the loop again.
        if self._put_off:
            self._schedule()

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
