"""Bytes between two connected sockets, both ways, until both directions have ended.

The engine of the proxy: whoever replaces it keeps ``relay`` and ``Relayed``.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from enum import StrEnum

_CHUNK = 64 * 1024
_ROUNDS = 8  # chunks that one direction moves before others get their turn

# One buffer for all connections: a chunk is sent before the next is read, only what does not fit is kept.
_scratch = memoryview(bytearray(_CHUNK))
_NOTHING = memoryview(b"")


class Ending(StrEnum):
    """How a relayed connection ended."""

    CLOSED = "closed"
    """Both sides said that they had no more to send."""
    RESET = "reset"
    """A side broke the connection. Ordinary on the Internet, no error."""
    IDLE = "idle"
    """Nothing moved for the idle time-out."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """What became of a connection."""

    ending: Ending
    to_target: int
    """Octets that the target's socket took, the first ones included."""
    to_visitor: int


async def relay(visitor: socket.socket, target: socket.socket, first: bytes, *, idle_timeout: float) -> Relayed:
    """Deliver ``first`` to the target, then copy both ways until both directions have ended.

    Both sockets are connected and non-blocking; the caller closes them. An end of one side is passed on as a half-close
    while the other direction goes on (MUST KEEP, spec tcprouter §5). At most 64 KiB a direction wait in this process,
    besides ``first``: a side that does not read stops the other from being read. ``idle_timeout``: seconds without a
    byte in either direction.
    """
    return await _Relay(visitor, target, first, idle_timeout).run()


class _Relay:
    """The two directions of one connection, and the clock over both."""

    def __init__(self, visitor: socket.socket, target: socket.socket, first: bytes, idle_timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Ending] = self._loop.create_future()
        self._last_moved = self._loop.time()
        self._idle_timeout = idle_timeout
        self._timer = self._loop.call_later(idle_timeout, self._check_idle)
        self._to_target = _Direction(self, self._loop, visitor, target, first)
        self._to_visitor = _Direction(self, self._loop, target, visitor, b"")

    async def run(self) -> Relayed:
        try:
            self._to_target.start()
            self._to_visitor.start()
            ending = await self._done
        finally:
            self._timer.cancel()
            self._to_target.stop()
            self._to_visitor.stop()
        return Relayed(ending, self._to_target.moved, self._to_visitor.moved)

    def moved(self) -> None:
        self._last_moved = self._loop.time()

    def direction_ended(self) -> None:
        both = (self._to_target, self._to_visitor)
        if all(direction.ended for direction in both):
            self.finish(Ending.RESET if any(direction.broken for direction in both) else Ending.CLOSED)

    def finish(self, ending: Ending) -> None:
        if not self._done.done():
            self._done.set_result(ending)

    def _check_idle(self) -> None:
        left = self._last_moved + self._idle_timeout - self._loop.time()
        if left <= 0:
            self.finish(Ending.IDLE)
        else:
            self._timer = self._loop.call_later(left, self._check_idle)


class _Direction:
    """Copies from one socket to the other. It waits for the source or for the sink, never for both.

    The event loop is given descriptors: a socket object that it does not watch it would render as text first.
    """

    __slots__ = ("_loop", "_pending", "_relay", "_sink", "_source", "_waits_for", "broken", "ended", "moved")

    def __init__(
        self,
        relay: _Relay,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        sink: socket.socket,
        first: bytes,
    ) -> None:
        self._relay = relay
        self._loop = loop
        self._source = source
        self._sink = sink
        self._pending = memoryview(first)
        self._waits_for: socket.socket | None = None
        self.moved = 0
        self.ended = False
        self.broken = False

    def start(self) -> None:
        if self._pending:
            self._writable()  # a fresh connection takes it at once
        else:
            self._wait_for(self._source)

    def stop(self) -> None:
        self._wait_for(None)

    def _wait_for(self, awaited: socket.socket | None) -> None:
        """Wait for the source to be readable, for the sink to be writable, or for nothing."""
        if awaited is self._waits_for:
            return
        if self._waits_for is self._source:
            self._loop.remove_reader(self._source.fileno())
        elif self._waits_for is self._sink:
            self._loop.remove_writer(self._sink.fileno())
        if awaited is self._source:
            self._loop.add_reader(awaited.fileno(), self._readable)
        elif awaited is self._sink:
            self._loop.add_writer(awaited.fileno(), self._writable)
        self._waits_for = awaited

    def _readable(self) -> None:
        self._relay.moved()
        for _ in range(_ROUNDS):
            try:
                count = self._source.recv_into(_scratch)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # The source is gone as a sink too. What the other side was sent before still arrives there: the caller
                # closes without forcing a reset.
                self._relay.finish(Ending.RESET)
                return
            if not count:
                self._end()
                return
            unsent = self._send(_scratch[:count])
            if unsent is None:
                return
            if unsent:
                self._pending = memoryview(bytes(unsent))
                self._wait_for(self._sink)
                return
            if count < _CHUNK:
                return  # drained, most likely: what is left, an end included, wakes us again

    def _writable(self) -> None:
        self._relay.moved()
        unsent = self._send(self._pending)
        if unsent is None:
            return
        self._pending = unsent or _NOTHING  # an empty rest would keep the whole buffer alive
        self._wait_for(self._sink if unsent else self._source)

    def _send(self, data: memoryview) -> memoryview | None:
        """Send what the sink takes: the rest, or None when the sink is lost and the direction with it."""
        try:
            sent = self._sink.send(data)
        except (BlockingIOError, InterruptedError):
            return data
        except OSError:
            # The other direction goes on: a target may refuse an upload and have answered why.
            self._end(broken=True)
            return None
        self.moved += sent
        return data[sent:]

    def _end(self, *, broken: bool = False) -> None:
        self.stop()
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            broken = True  # reset by its peer meanwhile
        self.ended = True
        self.broken = broken
        self._relay.direction_ended()
