"""A network without sockets: connections of the proxy, their peers and the clock, all in the test's hand.

``FakeEngine`` reports as epoll does, edge-triggered; ``FakeSocket`` is an end of a connection that never blocks.
Nothing happens by itself: ``run`` delivers what has come, ``advance`` lets time pass. There is no ``splice``: a
direction may carry up to 256 KiB.
"""

from __future__ import annotations

import contextlib
import mmap
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from tfgateway.proxy.eventloop.deadlines import Deadlines
from tfgateway.proxy.eventloop.engine import Engine, Resumable, Watcher
from tfgateway.proxy.loops import own_dials, repeated_hellos
from tfgateway.proxy.loops.guard import LoopGuard
from tfgateway.proxy.loops.own_dials import OwnDials
from tfgateway.proxy.loops.repeated_hellos import RepeatedHellos
from tfgateway.proxy.own_addresses import OwnAddresses
from tfgateway.proxy.parse.cdn_loop import CdnLoop
from tfgateway.proxy.refusals import TARGET_DENIED, Refused
from tfgateway.proxy.upstream.dial import Dialler

_ROOM = 64 * 1024
_IN = select.EPOLLIN
_END = select.EPOLLIN | select.EPOLLRDHUP
_BROKEN = _END | select.EPOLLHUP | select.EPOLLERR
_ALWAYS = select.EPOLLHUP | select.EPOLLERR


class FakeEngine:
    """Calls watchers and deadlines, as ``Engine`` does, when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sockets: dict[int, FakeSocket] = {}
        self._watchers: dict[int, tuple[Watcher, int]] = {}
        self._reports: dict[int, int] = {}
        self._deferred: deque[Resumable] = deque()
        self._deadlines: list[Deadlines[Any]] = []

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._watchers

    def add(self, sock: FakeSocket) -> None:
        self._sockets[sock.fileno()] = sock

    def watch(self, descriptor: int, watcher: Watcher) -> None:
        self._watch(descriptor, watcher, _END)

    def watch_room(self, descriptor: int, watcher: Watcher) -> None:
        self._watch(descriptor, watcher, _END | select.EPOLLOUT)

    def change(self, descriptor: int, watcher: Watcher, *, incoming: bool, room: bool) -> None:
        self._watch(descriptor, watcher, (_END if incoming else 0) | (select.EPOLLOUT if room else 0))

    def _watch(self, descriptor: int, watcher: Watcher, events: int) -> None:
        self._watchers[descriptor] = watcher, events
        self.report(descriptor, self._sockets[descriptor].events())

    def let_go(self, descriptor: int) -> None:
        self._watchers.pop(descriptor, None)

    def close_soon(self, sock: FakeSocket) -> None:
        self._watchers.pop(sock.fileno(), None)
        sock.close()

    def defer(self, work: Resumable) -> None:
        self._deferred.append(work)

    def watch_deadlines(self, deadlines: Deadlines[Any]) -> Deadlines[Any]:
        self._deadlines.append(deadlines)
        return deadlines

    def add_housekeeping(self, step: Callable[[], None]) -> None:
        """Nothing is kept that would have to be trimmed."""

    def report(self, descriptor: int, events: int) -> None:
        """Something happened at a socket."""
        if events and descriptor in self._watchers:
            self._reports[descriptor] = self._reports.get(descriptor, 0) | events

    def run(self) -> None:
        """Call watchers and deferred work until there is nothing to report any more."""
        while self._reports or self._deferred:
            reports, self._reports = self._reports, {}
            for descriptor, events in reports.items():
                watcher, wanted = self._watchers.get(descriptor, (None, 0))
                if watcher is not None and (events := events & (wanted | _ALWAYS)):
                    watcher.ready(descriptor, events)
            for _ in range(len(self._deferred)):
                self._deferred.popleft().resume()

    def expire(self) -> None:
        for deadlines in self._deadlines:
            for thing in deadlines.expired(self.now):
                thing.expire()


class FakeSocket:
    """One end of a connection, non-blocking; ``peer``: the other one."""

    peer: FakeSocket

    def __init__(self, engine: FakeEngine, number: int, address: tuple[str, int], *, connected: bool) -> None:
        self._engine = engine
        self._number = number
        self._address = address
        self.connected = connected
        """Whether the peer has accepted."""
        self.room = _ROOM
        """Octets that it holds unread at most."""
        self._incoming = bytearray()
        self._ended = False  # it will send no more
        self._broken: type[OSError] | None = None
        self.closed = False
        engine.add(self)

    def fileno(self) -> int:
        return -1 if self.closed else self._number

    def getsockname(self) -> tuple[str, int]:
        return self._address

    def getpeername(self) -> tuple[str, int]:
        return self.peer.getsockname()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Options change nothing here."""

    def events(self) -> int:
        """What epoll would report of it now."""
        if self._broken is not None:
            return _BROKEN | select.EPOLLOUT
        found = _IN if self._incoming else 0
        if self.peer._ended:
            found |= _END
        if self.connected and not self._ended and self._space():
            found |= select.EPOLLOUT
        return found

    def recv(self, size: int) -> bytes:
        if not self._incoming:
            if self._broken is not None:
                raise self._broken
            if self.peer._ended:
                return b""
            raise BlockingIOError
        full = len(self._incoming) >= self.room
        data = bytes(self._incoming[:size])
        del self._incoming[:size]
        if full:
            self._engine.report(self.peer.fileno(), select.EPOLLOUT)
        return data

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes | memoryview, _flags: int = 0) -> int:
        if self._broken is not None:
            raise self._broken
        if self._ended:
            raise BrokenPipeError
        if not self.connected or not self._space():
            raise BlockingIOError
        taken = bytes(data)[: self._space()]
        self.peer._incoming += taken
        self._engine.report(self.peer.fileno(), _IN)
        return len(taken)

    def shutdown(self, _how: int) -> None:
        if self._broken is not None:
            raise self._broken
        self._ended = True
        self._engine.report(self.peer.fileno(), _END)

    def close(self) -> None:
        """What is unread is lost, and resets the connection."""
        if self.closed:
            return
        unread = bool(self._incoming)
        self._ended = self.closed = True
        self.peer.breaks(ConnectionResetError) if unread else self._engine.report(self.peer.fileno(), _END)

    def breaks(self, error: type[OSError]) -> None:
        """From now on it fails with this error."""
        self._broken = error
        self._incoming.clear()
        self._engine.report(self.fileno(), _BROKEN | select.EPOLLOUT)

    def accept(self) -> None:
        """The peer takes the connection that was under way."""
        self.connected = True
        self._engine.report(self.fileno(), select.EPOLLOUT)

    def _space(self) -> int:
        return max(0, self.peer.room - len(self.peer._incoming))


class Peer:
    """A visitor or a target: the end of a connection that the test has."""

    def __init__(self, sock: FakeSocket, run: Callable[[], None]) -> None:
        self._socket = sock
        self._run = run
        self.received = b""
        """All that it got."""
        self.ended = ""
        """``end``, ``reset``, or empty: it may get more."""

    def send(self, data: bytes) -> None:
        """Errors: ``BlockingIOError``, ``OSError``."""
        assert self._socket.send(data) == len(data), "no room: read at the other end"
        self._run()
        self.read()

    def read(self) -> bytes:
        """All that has come so far."""
        with contextlib.suppress(BlockingIOError):
            try:
                while data := self._socket.recv(1 << 20):
                    self.received += data
                    self._run()
                self.ended = "end"
            except ConnectionError:
                self.ended = "reset"
        return self.received

    def holds_at_most(self, octets: int) -> None:
        """It reads no more than that until ``read``."""
        self._socket.room = octets

    def end(self) -> None:
        """It sends no more."""
        self._socket.shutdown(socket.SHUT_WR)
        self._run()
        self.read()

    def reset(self) -> None:
        """It breaks the connection."""
        self._socket.peer.breaks(ConnectionResetError)
        self._socket.close()
        self._run()


CDN_LOOP = CdnLoop(b"key")


class FakeNetwork:
    """Visitors, targets by port, and the time."""

    def __init__(self) -> None:
        self._engine = FakeEngine()
        self._numbers = iter(range(1_000_000, 2_000_000))
        self._under_way: dict[int, list[FakeSocket]] = {}
        self._listening: set[int] = set()
        self._silent: set[int] = set()
        self.targets: dict[int, list[Peer]] = {}
        """Port -> connections that it accepted."""
        self.own_addresses = OwnAddresses(frozenset)
        self.own_dials = OwnDials(mmap.mmap(-1, own_dials.TABLE_SIZE), self.own_addresses)
        hellos = RepeatedHellos(mmap.mmap(-1, repeated_hellos.TABLE_SIZE))
        self.loop_guard = LoopGuard(self.own_dials, hellos, CDN_LOOP)
        self.dialler = FakeDialler(self)

    @property
    def engine(self) -> Engine:
        return cast("Engine", self._engine)

    @property
    def now(self) -> float:
        return self._engine.now

    def run(self) -> None:
        """Deliver all that has happened."""
        self._engine.run()

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due then happens."""
        self._engine.now += seconds
        self._engine.expire()
        self.run()

    def visitor(self) -> tuple[Peer, socket.SocketType]:
        """A visitor, and the proxy's end of its connection."""
        near, far = self._pair(("127.0.0.1", 40_000), ("127.0.0.1", 80), connected=True)
        return Peer(near, self.run), cast("socket.SocketType", far)

    def listens(self, port: int) -> None:
        """Connections to this port are accepted at once."""
        self._listening.add(port)

    def is_silent(self, port: int) -> None:
        """Connections to this port stay under way until ``accept``; others are refused, if nobody listens."""
        self._silent.add(port)

    def accept(self, port: int) -> None:
        """Accept what is under way to a silent port."""
        for sock in self._under_way.pop(port, []):
            self._connected(sock, port)
            sock.accept()
        self.run()

    def dial(self, address: str, port: int) -> FakeSocket:
        accepted = port in self._listening
        sock, _ = self._pair(("127.0.0.1", 50_000), (address, port), connected=accepted)
        if accepted:
            self._connected(sock, port)
        elif port in self._silent:
            self._under_way.setdefault(port, []).append(sock)
        else:
            sock.breaks(ConnectionRefusedError)
        return sock

    def _connected(self, sock: FakeSocket, port: int) -> None:
        self.targets.setdefault(port, []).append(Peer(sock.peer, self.run))

    def _pair(self, near: tuple[str, int], far: tuple[str, int], *, connected: bool) -> tuple[FakeSocket, FakeSocket]:
        ends = [FakeSocket(self._engine, next(self._numbers), end, connected=connected) for end in (near, far)]
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        ends[1].connected = True
        return ends[0], ends[1]


class FakeDialler(Dialler):
    """Dials in the fake network, what the real one would dial."""

    def __init__(self, network: FakeNetwork) -> None:
        super().__init__(allowed=(), own_addresses=network.own_addresses)
        self._network = network
        self.dialled: list[int] = []
        """Ports."""
        self.refuses: dict[int, Refused] = {}
        """What it refuses at once, as when there are no descriptors."""

    def dial(self, address: str, port: int, *, by_operator: bool) -> socket.SocketType:
        if not by_operator and (reason := self._denied(address)):
            raise Refused(TARGET_DENIED, reason)
        self.dialled.append(port)
        if port in self.refuses:
            raise self.refuses[port]
        return cast("socket.SocketType", self._network.dial(address, port))
