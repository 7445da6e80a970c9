"""One direction of a relay: bytes from one socket to the other.

What is short is copied; what has turned out to be long goes through a pipe of the kernel (``splice``) and never enters
this process. Edge-triggered: a direction moves on until its source is empty or its sink is full.
"""

from __future__ import annotations

import os
import socket
from typing import Protocol

from tfgateway.proxy.eventloop.engine import Engine
from tfgateway.proxy.relay.pipes import Pipe, Pipes
from tfgateway.proxy.relay.read_coalescing import TOGETHER, ReadCoalescing

_CHUNK = 64 * 1024
_LONG = 256 * 1024  # bytes of a direction after which it is worth a pipe
_SPLICE_SIZE = 1 << 20
_TRICKLE = 8 * 1024  # bytes: a burst that is smaller is better copied
_ROUNDS = 16  # moves of one direction before others get their turn
# Not SPLICE_F_MORE: the last piece of an answer would wait for a next one.
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_MORE = int(socket.MSG_MORE)

# One buffer for all connections: a chunk is sent before the next is read, only what does not fit is kept.
_scratch = memoryview(bytearray(_CHUNK))


class DirectionOwner(Protocol):
    """Joins two directions, and owns their sockets."""

    def wait_for_room(self, direction: Direction, sink: socket.SocketType) -> None:
        """Nothing more goes into ``sink`` now: let ``direction`` move on when something does."""

    def ended(self, sink: socket.SocketType) -> None:
        """The direction to ``sink`` has ended: ``broken`` says how."""

    def reset(self) -> None:
        """A source is gone."""

    def fail(self) -> None:
        """See ``engine.Resumable``."""


class Direction:
    """The bytes from one socket to the other."""

    __slots__ = (
        "_bursting",
        "_coalescing",
        "_engine",
        "_owner",
        "_pipe",
        "_pipes",
        "_sink",
        "_source",
        "blocked",
        "broken",
        "broken_source",
        "ended",
        "ending",
        "moved",
        "paused",
        "pending",
        "readable",
        "reports_room",
    )

    def __init__(
        self, owner: DirectionOwner, engine: Engine, pipes: Pipes, source: socket.SocketType, sink: socket.SocketType
    ) -> None:
        self._owner: DirectionOwner | None = owner
        self._engine = engine
        self._pipes = pipes
        self._source = source
        self._sink = sink
        self._pipe: Pipe | None = None
        self._coalescing: ReadCoalescing | None = None  # since the first pipe
        self._bursting = False  # there was more than a chunk to be read at once
        self.pending: memoryview | None = None
        self.readable = False
        """The source may have something."""
        self.ending = False
        """The source has ended or broken: no further report will come, a short read is not the last."""
        self.broken_source = False
        """The source has broken: only reading shows how."""
        self.paused = False
        """The engine does not report what comes in at the source."""
        self.reports_room = False
        """The engine reports when there is room in the sink."""
        self.blocked = False
        """Something waits for room in the sink."""
        self.moved = 0
        """Bytes that the sink took."""
        self.ended = False
        self.broken = False

    def stop(self) -> None:
        """Give everything back; the sockets are closed by the owner."""
        self._owner = None
        self.ended = True
        self.blocked = False
        self.pending = None
        if self._pipe is not None:
            self._give_pipe_back()

    @property
    def source(self) -> int:
        """Its descriptor."""
        return self._source.fileno()

    def source_broke(self) -> None:
        """Pass on what the source has sent before, then reset."""
        self.readable = self.ending = self.broken_source = True
        self._engine.defer(self)

    def resume(self) -> None:
        if not self.ended and not self.blocked:
            self.move()

    def fail(self) -> None:
        if self._owner is not None:
            self._owner.fail()

    def move(self) -> None:
        """Move what can be moved now, in a bounded number of rounds: others wait for their turn."""
        if self.pending is not None and not self._send_rest(self.pending):
            return
        if self.ended:
            return
        for _ in range(_ROUNDS):
            if self._pipe is not None or (self._bursting and self.moved >= _LONG and self._take_pipe()):
                if self._splice():
                    continue
                return
            if not self.readable:
                return
            # The copying of one chunk stands here: calls would cost as much as the copying.
            try:
                count = self._source.recv_into(_scratch)
            except BlockingIOError:
                self.readable = False
                if self.broken_source:
                    self._reset()
                return
            except OSError:
                self._reset()
                return
            if not count:
                self._end()
                return
            if count == _CHUNK:
                self._bursting = True
                if self._send(_scratch):
                    continue
                return
            if not self.ending:
                # Drained. What comes next, an end included, is reported.
                self.readable = False
                self._send(_scratch[:count])
                return
            if self.broken_source:
                if self._send(_scratch[:count]):
                    continue
            # The end had come before this was read, and this was all in front of it: both leave in one packet.
            elif self._send(_scratch[:count], _MORE):
                self._end()
            return
        self._engine.defer(self)

    def _take_pipe(self) -> bool:
        """Whether there was one to be had."""
        self._pipe = self._pipes.take()
        self._bursting = False
        if self._coalescing is None:
            self._coalescing = ReadCoalescing(self._engine, self._source, self)
        return self._pipe is not None

    def _send(self, data: memoryview, flags: int = 0) -> bool:
        """Send what the sink takes and keep the rest. False: there is a rest, or the sink is lost."""
        try:
            sent = self._sink.send(data, flags)
        except BlockingIOError:
            sent = 0
        except OSError:
            # A target may refuse an upload and have answered why.
            self._end(broken=True)
            return False
        self.moved += sent
        if sent < len(data):
            # A copy: all connections share the buffer. A rest is an object of its own already.
            self.pending = data[sent:] if self.pending is not None else memoryview(bytes(data[sent:]))
            self._wait_for_room()
            return False
        return True

    def _send_rest(self, pending: memoryview) -> bool:
        """Go on with what did not fit before. False: there is still a rest, or the sink is lost."""
        if self._send(pending):
            self.pending = None
            return True
        return False

    def _splice(self) -> bool:
        """Empty the pipe, fill it again. False: nothing more can be done now."""
        pipe, coalescing = self._pipe, self._coalescing
        if pipe is None or coalescing is None:
            return False
        if pipe.filled and not self._empty(pipe):
            return False
        if not self.readable:
            self._give_pipe_back()
            return False
        try:
            count = os.splice(self._source.fileno(), pipe.write, _SPLICE_SIZE, flags=_FLAGS)
        except BlockingIOError:
            self.readable = False
            self._give_pipe_back()  # the next burst may be long in coming
            if self.broken_source:
                self._reset()
            return False
        except OSError:
            self._reset()
            return False
        if not count:
            self._end()
            return False
        pipe.filled = count
        if not self._empty(pipe):
            return False
        self._bursting = count >= _TRICKLE
        if not self._bursting:
            self._give_pipe_back()
        coalescing.count(self.moved)
        if coalescing.fast and count < 2 * TOGETHER and not self.ending:
            # Most likely drained, and else reported all the same.
            self.readable = False
            self._give_pipe_back()
            return False
        return True

    def _empty(self, pipe: Pipe) -> bool:
        """False: not everything fitted, or the sink is lost."""
        sink = self._sink.fileno()
        while pipe.filled:
            try:
                count = os.splice(pipe.read, sink, pipe.filled, flags=_FLAGS)
            except BlockingIOError:
                self._wait_for_room()
                return False
            except OSError:
                self._end(broken=True)
                return False
            pipe.filled -= count
            self.moved += count
        return True

    def _wait_for_room(self) -> None:
        if self._owner is not None:
            self._owner.wait_for_room(self, self._sink)

    def _give_pipe_back(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._pipes.give_back(pipe)

    def _reset(self) -> None:
        if self._owner is not None:
            self._owner.reset()

    def _end(self, *, broken: bool = False) -> None:
        """No more comes this way: pass the end on."""
        self.ended = True
        self.blocked = False
        self.pending = None
        self.readable = False
        self.broken = broken
        if self._pipe is not None:
            self._give_pipe_back()
        if self._owner is not None:
            self._owner.ended(self._sink)
