"""A line with a delay, a rate and a buffer, between whoever connects and one target.

Each direction is one queue for all connections: a byte leaves when those before it have left at the line's rate, and
arrives ``delay`` later. Who sends more than fits is not read from, as behind a full buffer.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field

_CHUNK = 64 * 1024


@dataclass(eq=False)
class _Direction:
    """From ``source`` to ``sink``."""

    source: socket.socket
    sink: socket.socket
    wire: _Wire
    queue: deque[tuple[float, memoryview]] = field(default_factory=deque)
    """When it arrives, and what; empty: the end."""
    held: int = 0
    ended: bool = False
    blocked: bool = False


@dataclass(eq=False)
class _Wire:
    """What the directions of one kind share."""

    free_at: float = 0.0


class LongLine:
    """Runs until ``serve`` is interrupted."""

    def __init__(self, port: int, target: int, *, delay: float, rate: float, buffer: int) -> None:
        """delay: seconds one way. rate: bytes a second. buffer: bytes that wait or are on their way, each direction."""
        self._target = target
        self._delay, self._rate, self._buffer = delay, rate, buffer
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wires = _Wire(), _Wire()
        self._directions: dict[socket.socket, tuple[_Direction, _Direction]] = {}
        """Socket -> where it is the source, where it is the sink."""

    def serve(self) -> None:
        while True:
            now = time.monotonic()
            pause = 1.0
            for direction, _ in list(self._directions.values()):
                if not direction.blocked and direction.queue:
                    self._deliver(direction, now)
                if direction.queue and not direction.blocked:
                    pause = min(pause, max(0.0, direction.queue[0][0] - now))
            for key, events in self._selector.select(pause):
                if key.fileobj is self._listener:
                    self._accept()
                    continue
                sock: socket.socket = key.fileobj  # type: ignore[assignment]
                if sock not in self._directions:
                    continue
                outgoing, incoming = self._directions[sock]
                if events & selectors.EVENT_WRITE:
                    incoming.blocked = False
                    self._watch(sock)
                if events & selectors.EVENT_READ:
                    self._read(outgoing)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self._target))
            there = _Direction(near, far, self._wires[0])
            back = _Direction(far, near, self._wires[1])
            self._directions |= {near: (there, back), far: (back, there)}
            for sock in (near, far):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(sock, selectors.EVENT_READ, None)

    def _read(self, direction: _Direction) -> None:
        try:
            data = direction.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.monotonic()
        wire = direction.wire
        wire.free_at = max(now, wire.free_at) + len(data) / self._rate
        direction.queue.append((wire.free_at + self._delay, memoryview(data)))
        direction.held += len(data)
        direction.ended = not data
        self._watch(direction.source)

    def _deliver(self, direction: _Direction, now: float) -> None:
        queue = direction.queue
        while queue and queue[0][0] <= now:
            _, data = queue[0]
            try:
                if not data:
                    direction.sink.shutdown(socket.SHUT_WR)
                    queue.popleft()
                    self._close_if_over(direction)
                    return
                sent = direction.sink.send(data)
            except BlockingIOError:
                direction.blocked = True
                self._watch(direction.sink)
                return
            except OSError:
                self._close(direction)
                return
            direction.held -= sent
            if sent == len(data):
                queue.popleft()
            else:
                queue[0] = (0.0, data[sent:])
        self._watch(direction.source)

    def _watch(self, sock: socket.socket) -> None:
        outgoing, incoming = self._directions[sock]
        reads = not outgoing.ended and outgoing.held < self._buffer
        events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if incoming.blocked else 0)
        known = sock in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(sock)
        elif known:
            self._selector.modify(sock, events)
        else:
            self._selector.register(sock, events)

    def _close_if_over(self, direction: _Direction) -> None:
        back, _ = self._directions[direction.sink]
        if back.ended and not back.queue:
            self._close(direction)

    def _close(self, direction: _Direction) -> None:
        for sock in (direction.source, direction.sink):
            self._directions.pop(sock, None)
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
            sock.close()


def main(port: str, target: str, delay: str, rate: str, buffer: str) -> None:
    """Until killed."""
    line = LongLine(int(port), int(target), delay=float(delay), rate=float(rate), buffer=int(buffer))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    line.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
