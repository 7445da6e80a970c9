"""Bytes between two connected sockets, both ways, until both directions have ended."""

from __future__ import annotations

import socket
from typing import Final, Protocol

import msgspec

from tfgateway.proxy.eventloop.engine import BROKEN, ENDED, INCOMING, READABLE, WRITABLE, Engine
from tfgateway.proxy.relay.direction import Direction
from tfgateway.proxy.relay.pipes import Pipes


class Ending:
    """How a relayed connection ended."""

    CLOSED: Final = "closed"
    """Both sides have sent an end."""
    RESET: Final = "reset"
    """A side broke the connection: usual on the Internet, and no error."""
    IDLE: Final = "idle"
    """Nothing moved for the idle time-out."""
    CUT: Final = "cut"
    """This process stops."""
    ERROR: Final = "error"
    """An error of this program."""


class Relayed(msgspec.Struct, frozen=True):
    """What became of a connection."""

    ending: str
    """One of ``Ending``."""
    to_target: int
    """Bytes that the target's socket took, the first ones included."""
    to_visitor: int


class RelayOwner(Protocol):
    """Has the two sockets relayed."""

    def relayed(self, relayed: Relayed) -> None:
        """Called once, when both sockets are closed."""


class Relay:
    """Delivers ``first`` to the target, then copies both ways until both directions have ended.

    Both sockets are connected and non-blocking; the relay closes them. An end of one side is passed on as a half-close
    while the other direction goes on (old programs rely on it). At most 64 KiB a direction wait in this process
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
        owner: RelayOwner,
        *,
        sent: int = 0,
    ) -> None:
        """``sent``: bytes of ``first`` that the target's socket took already. Nothing happens before ``start``."""
        self._engine = engine
        self._owner: RelayOwner | None = owner
        self._visitor = visitor
        self._visitor_fd = visitor.fileno()
        self._target = target
        self._last_moved = engine.now
        self._to_target = Direction(self, engine, pipes, visitor, target)
        self._to_visitor = Direction(self, engine, pipes, target, visitor)
        self._to_target.moved = sent
        if sent < len(first):
            self._to_target.pending = memoryview(first)[sent:]
            self._to_target.blocked = True

    def start(self) -> None:
        """Watch both sockets, in place of what has watched them so far."""
        watch = self._engine.watch
        watch(self._visitor_fd, self)
        watch(self._target.fileno(), self)
        if self._to_target.blocked:
            self.wait_for_room(self._to_target, self._target)

    def wait_for_room(self, direction: Direction, sink: socket.SocketType) -> None:
        """Called by a direction: nothing more goes into ``sink`` now."""
        direction.blocked = True
        if not direction.reports_room:
            direction.reports_room = True
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
                # More of what cannot be passed on: every segment would wake this process.
                out.paused = True
                self._engine.change(descriptor, self, incoming=False, room=back.reports_room)
        if back.blocked and events & WRITABLE:
            back.blocked = False
            back.move()
            if back.paused and not back.blocked and not back.ended:
                back.paused = False
                self._engine.change(back.source, self, incoming=True, room=out.reports_room)

    def idle_since(self) -> float:
        """When something moved last, by the engine's clock."""
        return self._last_moved

    def moved(self) -> tuple[int, int]:
        """Bytes to the target and to the visitor so far."""
        return self._to_target.moved, self._to_visitor.moved

    def ended(self, sink: socket.SocketType) -> None:
        """Called by a direction, to ``sink``, that has ended; the last one needs no half-close."""
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
        """Close both sockets, and notify the owner; again is harmless."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        self._engine.close_soon(self._visitor)
        self._engine.close_soon(self._target)
        self._to_target.stop()
        self._to_visitor.stop()
        owner.relayed(Relayed(ending, self._to_target.moved, self._to_visitor.moved))

    def reset(self) -> None:
        """Called by a direction: its source is gone, and as a sink too.

        What the other side was sent before still arrives there: closing does not force a reset.
        """
        self.finish(Ending.RESET)

    def fail(self) -> None:
        """See ``engine.Watcher``."""
        self.finish(Ending.ERROR)
