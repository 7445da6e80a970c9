"""Read coalescing: fewer and larger pieces of a fast stream, as network cards do with their interrupts.

A sender that writes 16 KiB at a time (a TLS record) wakes this process for each, which costs more than to move them.
So the kernel is asked to report a fast source only when more has come together (``SO_RCVLOWAT``, socket(7)). What does
not come to that much, as the last piece of an answer, is fetched two milliseconds later at most, and the source is
taken for a slow one then: streams below 2 Gbit/s never wait.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final, Protocol

from tfgateway.proxy.eventloop.engine import Engine

TOGETHER: Final = 128 * 1024
"""Bytes that are worth a wake."""
_SAMPLE = 2 << 20  # bytes between two looks at the clock
_FAST = 0.008  # seconds for that many: twice as fast as a stream must be to bring TOGETHER each millisecond


class CoalescingOwner(Protocol):
    """Reads the source."""

    def fail(self) -> None:
        """The source cannot be read any more."""


class ReadCoalescing:
    """Of one source, which the owner reads and counts here."""

    __slots__ = ("_engine", "_moved", "_owner", "_sampled", "_sampled_at", "_seen", "_source", "fast")

    def __init__(self, engine: Engine, source: socket.SocketType, owner: CoalescingOwner) -> None:
        self._engine = engine
        self._source = source
        self._owner = owner
        self._moved = 0
        self._seen = 0
        self._sampled = 0
        self._sampled_at = float("-inf")
        self.fast = False
        """The kernel reports larger pieces; what is left behind is reported too, and need not be tried for."""

    def count(self, moved: int) -> None:
        """``moved``: bytes of the source so far."""
        self._moved = moved
        if self.fast or moved - self._sampled < _SAMPLE:
            return
        now = self._engine.now
        if now - self._sampled_at < _FAST:
            with contextlib.suppress(OSError):  # it goes on in small pieces
                self._source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, TOGETHER)
                self.fast = True
                self._engine.poll_soon(self)
        self._sampled = moved
        self._sampled_at = now

    def poll(self) -> bool:
        """Called by the engine while it is fast."""
        if self._source.fileno() < 0:
            return False
        if self._moved == self._seen:
            self.fast = False
            # What is there already is reported by that.
            self._source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._seen = self._moved
        return self.fast

    def fail(self) -> None:
        """The source cannot be slowed down again: what is left of it would never be reported."""
        self._owner.fail()
