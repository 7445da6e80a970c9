"""Bytes between two connected sockets, both ways, until both directions have ended.

What is short is copied; what has turned out to be long goes through a pipe of the kernel (``splice``) and never enters
this process. Edge-triggered: a direction moves on until its source is empty or its sink is full.
"""

from __future__ import annotations

import os
import socket
from typing import Final, Protocol

import msgspec

from tfgateway.proxy.eventloop.engine import BROKEN, ENDED, INCOMING, READABLE, WRITABLE, Engine
from tfgateway.proxy.relay.pipes import Pipe, Pipes
from tfgateway.proxy.relay.read_coalescing import TOGETHER, Pace

_CHUNK = 64 * 1024
_LONG = 256 * 1024  # octets of a direction after which it is worth a pipe
_SPLICE_SIZE = 1 << 20
_TRICKLE = 8 * 1024  # octets: a burst that is smaller is better copied
_ROUNDS = 16  # moves of one direction before others get their turn
# Not SPLICE_F_MORE: the last piece of an answer would wait for a next one.
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_MORE = int(socket.MSG_MORE)

# One buffer for all connections: a chunk is sent before the next is read, only what does not fit is kept.
_scratch = memoryview(bytearray(_CHUNK))


class Ending:
    """How a relayed connection ended."""

    CLOSED: Final = "closed"
    """Both sides said that they had no more to send."""
    RESET: Final = "reset"
    """A side broke the connection. Ordinary on the Internet, no error."""
    IDLE: Final = "idle"
    """Nothing moved for the idle time-out."""
    CUT: Final = "cut"
    """This process stops."""
    ERROR: Final = "error"
    """A mistake of this program."""


class Relayed(msgspec.Struct, frozen=True):
    """What became of a connection."""

    ending: str
    """One of ``Ending``."""
    to_target: int
    """Octets that the target's socket took, the first ones included."""
    to_visitor: int


class Owner(Protocol):
    """Hears once how a relay ended; both sockets are closed then."""

    def relayed(self, relayed: Relayed) -> None: ...


class Relay:
    """Delivers ``first`` to the target, then copies both ways until both directions have ended.

    Both sockets are connected and non-blocking; the relay closes them. An end of one side is passed on as a half-close
    while the other direction goes on (MUST KEEP, spec tcprouter §5). At most 64 KiB a direction wait in this process
    and 1 MiB in a pipe, besides ``first``: a side that does not read stops the other from being read.
    """

    __slots__ = ("_engine", "_last_moved", "_owner", "_target", "_to_target", "_to_visitor", "_visitor", "_visitor_fd")

    def __init__(
        self,
        engine: Engine,
        pipes: Pipes,
        visitor: socket.SocketType,
        target: socket.SocketType,
        first: bytes,
        owner: Owner,
        *,
        sent: int = 0,
    ) -> None:
        """``sent``: octets of ``first`` that the target's socket took already. Nothing happens before ``start``."""
        self._engine = engine
        self._owner: Owner | None = owner
        self._visitor = visitor
        self._visitor_fd = visitor.fileno()
        self._target = target
        self._last_moved = engine.now
        self._to_target = _Direction(self, engine, pipes, visitor, target)
        self._to_visitor = _Direction(self, engine, pipes, target, visitor)
        self._to_target.moved = sent
        if sent < len(first):
            self._to_target.pending = memoryview(first)[sent:]
            self._to_target.blocked = True

    def start(self) -> None:
        """Watch both sockets, in whosever name that was done before."""
        watch = self._engine.watch
        watch(self._visitor_fd, self)
        watch(self._target.fileno(), self)
        if self._to_target.blocked:
            self.wait_for_room(self._to_target, self._target)

    def wait_for_room(self, direction: _Direction, sink: socket.SocketType) -> None:
        """Nothing more goes into ``sink`` now."""
        direction.blocked = True
        if not direction.hears_of_room:
            direction.hears_of_room = True
            self._engine.watch_room(sink.fileno(), self)

    def ready(self, descriptor: int, events: int) -> None:
        """Called by the engine; both descriptors are watched for both ways."""
        self._last_moved = self._engine.now
        if descriptor == self._visitor_fd:
            out, back = self._to_target, self._to_visitor
        else:
            out, back = self._to_visitor, self._to_target
        if events & READABLE:
            out.readable = True
            if events & ENDED:
                out.ending = True
                out.broken_source = bool(events & BROKEN)
            if not out.blocked:
                out.move()
            elif events & INCOMING:
                # More of what cannot be passed on: every segment would wake us.
                out.deaf = True
                self._engine.change(descriptor, self, incoming=False, room=back.hears_of_room)
        if back.blocked and events & WRITABLE:
            back.blocked = False
            back.move()
            if back.deaf and not back.blocked and not back.ended:
                back.deaf = False
                self._engine.change(back.source, self, incoming=True, room=out.hears_of_room)

    def idle_since(self) -> float:
        """When something moved last, by the engine's clock."""
        return self._last_moved

    def moved(self) -> tuple[int, int]:
        """Octets to the target and to the visitor so far."""
        return self._to_target.moved, self._to_visitor.moved

    def ended(self, sink: socket.SocketType) -> None:
        """The direction to ``sink`` has ended; the last one needs no half-close."""
        out, back = self._to_target, self._to_visitor
        if sink is self._visitor:
            out, back = back, out
        if back.ended:
            self.finish(Ending.RESET if out.broken or back.broken else Ending.CLOSED)
            return
        if not out.broken:
            try:
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                out.broken = True
        if out.broken:
            # It gets no end, which would make what it got look like all; what it has sent before is still passed on.
            back.source_broke()

    def finish(self, ending: str) -> None:
        """Close both sockets and tell the owner; again is harmless."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        self._engine.close_soon(self._visitor)
        self._engine.close_soon(self._target)
        self._to_target.stop()
        self._to_visitor.stop()
        owner.relayed(Relayed(ending, self._to_target.moved, self._to_visitor.moved))

    def fail(self) -> None:
        self.finish(Ending.ERROR)


class _Direction:
    """From one socket to the other."""

    __slots__ = (
        "_bursting",
        "_engine",
        "_pace",
        "_pipe",
        "_pipes",
        "_relay",
        "_sink",
        "_source",
        "blocked",
        "broken",
        "broken_source",
        "deaf",
        "ended",
        "ending",
        "hears_of_room",
        "moved",
        "pending",
        "readable",
    )

    def __init__(
        self, relay: Relay, engine: Engine, pipes: Pipes, source: socket.SocketType, sink: socket.SocketType
    ) -> None:
        self._relay: Relay | None = relay
        self._engine = engine
        self._pipes = pipes
        self._source = source
        self._sink = sink
        self._pipe: Pipe | None = None
        self._pace: Pace | None = None  # since the first pipe
        self._bursting = False  # there was more than a chunk to be read at once
        self.pending: memoryview | None = None
        self.readable = False
        """The source may have something."""
        self.ending = False
        """The source has ended or broken: no further report will come, a short read is not the last."""
        self.broken_source = False
        """The source has broken: only reading tells how."""
        self.deaf = False
        """The engine does not report what comes in at the source."""
        self.hears_of_room = False
        """The engine reports when there is room in the sink."""
        self.blocked = False
        """Something waits for room in the sink."""
        self.moved = 0
        """Octets that the sink took."""
        self.ended = False
        self.broken = False

    def stop(self) -> None:
        """Let go of everything; the sockets are closed by the relay."""
        self._relay = None
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
        self._engine.put_off(self)

    def resume(self) -> None:
        if not self.ended and not self.blocked:
            self.move()

    def fail(self) -> None:
        if self._relay is not None:
            self._relay.fail()

    def move(self) -> None:
        """Move what can be moved now, but no more than others can wait for."""
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
            # Its end was there before what was read now, and this was all in front of it: both leave in one packet.
            elif self._send(_scratch[:count], _MORE):
                self._end()
            return
        self._engine.put_off(self)

    def _take_pipe(self) -> bool:
        """Whether there was one to be had."""
        self._pipe = self._pipes.take()
        self._bursting = False
        if self._pace is None:
            self._pace = Pace(self._engine, self._source, self)
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
            # A copy: the buffer is everybody's. An object of its own already, if it is a rest.
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
        pipe, pace = self._pipe, self._pace
        if pipe is None or pace is None:
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
        pace.count(self.moved)
        if pace.fast and count < 2 * TOGETHER and not self.ending:
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
        if self._relay is not None:
            self._relay.wait_for_room(self, self._sink)

    def _give_pipe_back(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._pipes.give_back(pipe)

    def _reset(self) -> None:
        # The source is gone as a sink too. What the other side was sent before still arrives there: closing does not
        # force a reset.
        if self._relay is not None:
            self._relay.finish(Ending.RESET)

    def _end(self, *, broken: bool = False) -> None:
        """No more comes this way: pass the end on."""
        self.ended = True
        self.blocked = False
        self.pending = None
        self.readable = False
        self.broken = broken
        if self._pipe is not None:
            self._give_pipe_back()
        if self._relay is not None:
            self._relay.ended(self._sink)
