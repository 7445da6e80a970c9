"""One stream of a session joined to one TCP socket: bytes both ways, half-closes both ways."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from tfgateway.net.sockets import close
from tfgateway.tunnel.session.limits import RelayTimeouts
from tfgateway.tunnel.session.session import Session
from tfgateway.tunnel.yamux.connection import MAX_FRAME

_NOT_NOW = (BlockingIOError, InterruptedError)
_AT_ONCE = 64  # buffers of one system call
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class StreamEnding(StrEnum):
    """How a relayed stream ended."""

    CLOSED = "closed"
    """Both sides have sent an end."""
    RESET = "reset"
    """A side broke off."""
    IDLE = "idle"
    """Nothing moved for the idle time-out."""
    REFUSED = "refused"
    """The peer dropped the stream before an byte of an answer: the socket is still open and was sent nothing."""
    CUT = "cut"
    """Stopped from outside."""


@dataclass(frozen=True, slots=True)
class StreamRelayed:
    """What became of a stream."""

    ending: StreamEnding
    to_stream: int
    """Bytes that went into the stream."""
    to_socket: int
    """Bytes that the socket took."""
    untouched: bool = False
    """The session ended, or its peer fell silent, before the peer took the stream, and nothing but ``first`` was read
    from the socket."""


@dataclass(slots=True)
class RelaySnapshot:
    """A relay in plain values; the socket goes with it."""

    to_stream: int
    to_socket: int
    unsent_to_stream: bytes
    unsent_to_socket: bytes
    stream_ended: bool
    socket_ended: bool
    socket_deaf: bool
    """The socket takes nothing any more. Named as earlier releases have it: the name is on the wire."""


class StreamRelay:
    """A ``Channel`` that owns a connected, non-blocking socket.

    Nothing of the socket is kept here but what was read before (``first``): it is read when the stream has room and
    the session is not congested. Of the stream is kept what the socket does not take, which its window bounds.
    """

    def __init__(
        self,
        session: Session,
        stream: int,
        sock: socket.socket,
        first: bytes,
        *,
        timeouts: RelayTimeouts,
        done: Callable[[StreamRelayed], None],
    ) -> None:
        """``start`` joins them.

        done: called once at the end, when the socket is closed, or released if the ending is ``REFUSED``.
        """
        self.socket = sock
        self._session = session
        self._stream = stream
        self._first = memoryview(first)
        self._first_size = len(first)
        self._timeouts = timeouts
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._pending: deque[bytes | memoryview] = deque()
        self.buffered = 0
        """Bytes that wait for the socket."""
        self._to_stream = 0
        self._to_socket = 0
        self._reading = False
        self._writing = False
        self._queued = False
        self._stream_ended = False  # by the peer
        self._socket_ended = False  # its end was passed on
        self._socket_lost = False  # it takes nothing any more
        self._over = False
        self._moved = self._loop.time()
        self._timer = self._loop.call_later(min(timeouts), self._check_idle)

    def start(self) -> None:
        """Join stream and socket. ``first`` goes before everything else."""
        if self._over:
            return
        self.may_send()
        if self._pending:
            self._write()
        elif self._stream_ended:
            self._pass_end_on()

    # What the session calls.

    def received(self, data: memoryview) -> None:
        """See ``Channel``."""
        self._moved = self._loop.time()
        if self._socket_lost:
            self._drop(len(data))
            return
        sent = 0
        if not self._pending:
            try:
                sent = self.socket.send(data)
            except _NOT_NOW:
                pass
            except OSError:
                self._lose_socket()
                self._drop(len(data))
                return
            self._to_socket += sent
            self._session.consume(self._stream, sent)
            if sent == len(data):
                return
        kept = bytes(data[sent:])
        self._pending.append(kept)
        self._watch_writing(on=True)
        self.buffered += len(kept)
        self._session.count_buffered(len(kept))  # may end this relay

    def ended(self) -> None:
        """See ``Channel``."""
        self._stream_ended = True
        if not self._pending:
            self._pass_end_on()

    def dropped(self, reason: str) -> None:
        """See ``Channel``. A socket that was sent something is reset: half an answer must not look like a whole one."""
        if not self._to_socket and not self._stream_ended:
            only_first = self._to_stream <= self._first_size
            untouched = (
                only_first and (self._session.closed or self._session.silent) and not self._session.taken(self._stream)
            )
            self._finish(StreamEnding.REFUSED, untouched=untouched)
        else:
            self._finish(StreamEnding.RESET)

    def may_send(self) -> None:
        """See ``Channel``."""
        self._queued = False
        if not self._over and not self._socket_ended:
            self._turn()

    # The caller's other ways out.

    def cut(self) -> None:
        """End it now."""
        self._session.reset(self._stream)
        self._finish(StreamEnding.CUT)

    def release(self) -> RelaySnapshot:
        """Stop here so that another process goes on with ``socket``; ``done`` is not called."""
        self._leave()
        return RelaySnapshot(
            to_stream=self._to_stream,
            to_socket=self._to_socket,
            unsent_to_stream=bytes(self._first),
            unsent_to_socket=b"".join(self._pending),
            stream_ended=self._stream_ended,
            socket_ended=self._socket_ended,
            socket_deaf=self._socket_lost,
        )

    @classmethod
    def resume(
        cls,
        session: Session,
        stream: int,
        sock: socket.socket,
        state: RelaySnapshot,
        *,
        timeouts: RelayTimeouts,
        done: Callable[[StreamRelayed], None],
    ) -> StreamRelay:
        """Go on where ``release`` was called; ``start`` joins them again."""
        relay = cls(session, stream, sock, state.unsent_to_stream, timeouts=timeouts, done=done)
        relay._to_stream = state.to_stream
        relay._to_socket = state.to_socket
        relay._stream_ended = state.stream_ended
        relay._socket_ended = state.socket_ended
        relay._socket_lost = state.socket_deaf
        if state.unsent_to_socket:
            relay._pending.append(state.unsent_to_socket)
            relay.buffered = len(state.unsent_to_socket)
            session.count_buffered(relay.buffered)
        return relay

    # From the socket into the stream.

    def _turn(self) -> None:
        """Send one frame, and arrange for what is next."""
        room = min(self._session.room(self._stream), MAX_FRAME)
        if not room:
            self._watch_reading(on=False)  # until the window opens
            return
        if self._session.congested:
            self._watch_reading(on=False)
            self._wait_turn()
            return
        if self._first:
            self._send(bytes(self._first[:room]))
            self._first = self._first[room:]
            if self._first:
                self._wait_turn()
                return
        else:
            try:
                data = self.socket.recv(room)
            except _NOT_NOW:
                if self._socket_lost:
                    self._break()  # it takes nothing, and all that it has sent was passed on
                else:
                    self._watch_reading(on=True)
                return
            except OSError:
                if not self._to_socket and not self._to_stream:
                    self._break()  # it was never connected
                    return
                self._lose_socket()
                data = b""
            if not data:
                self._moved = self._loop.time()
                self._socket_ended = True
                self._watch_reading(on=False)
                self._session.end(self._stream)
                self._check_end()
                return
            self._send(data)
        if not self._reading and self._session.busy:
            self._wait_turn()  # behind the others, without watching the socket in between
        else:
            # Level-triggered: what is left is reported again, after all others that are ready.
            self._watch_reading(on=True)

    def _send(self, data: bytes) -> None:
        self._moved = self._loop.time()
        self._to_stream += len(data)
        self._session.send(self._stream, data)

    def _wait_turn(self) -> None:
        if not self._queued:
            self._queued = True
            self._session.wait_turn(self)

    # From the stream to the socket.

    def _write(self) -> None:
        pending = self._pending
        try:
            sent = self.socket.sendmsg(islice(pending, _AT_ONCE))
        except _NOT_NOW:
            self._watch_writing(on=True)
            return
        except OSError:
            self._lose_socket()
            return
        self._moved = self._loop.time()
        self._to_socket += sent
        self._unbuffer(sent)
        while sent:
            first = pending[0]
            if len(first) > sent:
                pending[0] = memoryview(first)[sent:]
                break
            sent -= len(first)
            pending.popleft()
        self._watch_writing(on=bool(pending))
        if not pending and self._stream_ended:
            self._pass_end_on()

    def _lose_socket(self) -> None:
        """The socket takes nothing any more; the other direction goes on: it may have answered why."""
        self._socket_lost = True
        self._watch_writing(on=False)
        self._pending.clear()
        self._unbuffer(self.buffered)
        self._check_end()
        self._loop.call_soon(self.may_send)

    def _drop(self, count: int) -> None:
        """Bytes for a socket that takes none: as long as it still sends, the peer need not know."""
        if self._socket_ended:
            self._session.reset(self._stream)
            self._finish(StreamEnding.RESET)
        else:
            self._session.consume(self._stream, count)

    def _unbuffer(self, count: int) -> None:
        if count:
            self.buffered -= count
            self._session.count_buffered(-count)
            self._session.consume(self._stream, count)

    def _pass_end_on(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._lose_socket()
        else:
            self._check_end()

    def _break(self) -> None:
        """The socket cannot be used or watched any more: neither side gets on."""
        if not self._over:
            self._session.reset(self._stream)
            self._finish(StreamEnding.RESET if self._to_socket else StreamEnding.REFUSED)

    # The end.

    def _check_end(self) -> None:
        if self._stream_ended and self._socket_ended and not self._pending:
            self._finish(StreamEnding.RESET if self._socket_lost else StreamEnding.CLOSED)

    def _check_idle(self) -> None:
        seconds = min(self._timeouts) if self._stream_ended or self._socket_ended else self._timeouts.idle
        left = self._moved + seconds - self._loop.time()
        if left > 0:
            # A direction that ends sets no timer: it is seen at the next look, in time.
            self._timer = self._loop.call_later(min(left, self._timeouts.half_closed), self._check_idle)
            return
        self._session.reset(self._stream)
        self._finish(StreamEnding.IDLE)

    def _finish(self, ending: StreamEnding, *, untouched: bool = False) -> None:
        if self._over:
            return
        self._leave()
        self._session.forget(self._stream)
        if ending is not StreamEnding.REFUSED:
            if ending is not StreamEnding.CLOSED:
                with contextlib.suppress(OSError):
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            close(self.socket)
        self._done(StreamRelayed(ending, self._to_stream, self._to_socket, untouched))

    def _leave(self) -> None:
        self._over = True
        self._timer.cancel()
        self._watch_reading(on=False)
        self._watch_writing(on=False)
        if self.buffered:
            self._session.count_buffered(-self.buffered)

    def _watch_reading(self, *, on: bool) -> None:
        if on is not self._reading:
            self._reading = on
            if on:
                self._watch(self._loop.add_reader, self._turn)
            else:
                self._watch(self._loop.remove_reader)

    def _watch_writing(self, *, on: bool) -> None:
        if on is not self._writing:
            self._writing = on
            if on:
                self._watch(self._loop.add_writer, self._write)
            else:
                self._watch(self._loop.remove_writer)

    def _watch(self, change: Callable[..., object], *callback: Callable[[], None]) -> None:
        """Ask the event loop for a change of what it reports. Where that fails, this ends when it is done for now."""
        try:
            change(self.socket.fileno(), *callback)
        except OSError:
            self._loop.call_soon(self._break)
