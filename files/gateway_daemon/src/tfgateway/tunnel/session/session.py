"""A session: one TCP connection, yamux in it, and for each stream a channel that takes what comes in."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from tfgateway.errors import ParseError
from tfgateway.tunnel.session.limits import SessionLimits
from tfgateway.tunnel.session.liveness import Liveness
from tfgateway.tunnel.session.states import CLOSED, ENDED, HANDED_OVER, LEFT, OPEN, PEER_LEAVES, TRANSITIONS
from tfgateway.tunnel.session.transport import Buffer, Wire
from tfgateway.tunnel.yamux.connection import (
    DataReceived,
    Event,
    Pong,
    Role,
    StreamAccepted,
    StreamEnded,
    StreamOpened,
    StreamReset,
    WentAway,
    WindowOpened,
    YamuxConnection,
)
from tfgateway.tunnel.yamux.extensions import NONE, Extension
from tfgateway.tunnel.yamux.frames import GoAway
from tfgateway.tunnel.yamux.snapshot import ConnectionSnapshot
from tfgateway.tunnel.yamux.windows import WindowBudget

_CONGESTED = 256 * 1024
"""Bytes that wait to be sent; above it no channel reads on, and they get their turns one after the other."""
_MAX_UNSENT = 1024 * 1024
"""Bytes: far above what the channels cause; a peer that gets there asks for answers and does not read them."""


class StreamHandler(Protocol):
    """What a stream leads to. None of these may raise."""

    @property
    def buffered(self) -> int:
        """Bytes that were received and wait to be passed on."""

    def received(self, data: memoryview) -> None:
        """Bytes of the peer, valid until this returns. ``Session.consume`` them when they have been passed on."""

    def ended(self) -> None:
        """The peer sends no more."""

    def dropped(self, reason: str) -> None:
        """The stream is gone: the peer reset it, or the session is over."""

    def may_send(self) -> None:
        """The window opened, or it is this channel's turn (``Session.wait_turn``)."""


class Session:
    """Owns a connected, non-blocking socket. To be used from one event loop."""

    def __init__(
        self,
        sock: socket.socket,
        connection: YamuxConnection,
        *,
        limits: SessionLimits,
        opened: Callable[[Session, int, Extension], StreamHandler | None],
        over: Callable[[Session, str], None],
        available: Callable[[Session], None] = lambda _session: None,
        left: Callable[[Session], None] = lambda _session: None,
    ) -> None:
        """Start.

        opened: the peer opened a stream, with extensions: where it leads; None: it is reset. over: called once, with
        the reason, when the session has ended and all channels have been notified. available: a stream can be opened
        again, perhaps. left: the peer is about to end the session, when its streams have ended.
        """
        self._connection = connection
        self._limits = limits
        self._opened = opened
        self._over = over
        self._available = available
        self._left = left
        self._channels: dict[int, StreamHandler] = {}
        self._waiting: deque[StreamHandler] = deque()
        self._buffered = 0
        self._in_queue = 0
        self._flush_due = False
        self._loop = asyncio.get_running_loop()
        self._liveness = Liveness(
            connection, limits, due=self._due, dead=partial(self.close, "it does not answer"), silent=self._drop
        )
        self.state = LEFT if connection.peer_went_away else OPEN
        self._wire = Wire(
            sock,
            received=self._received,
            drained=self._drained,
            lost=self.close,
            write_timeout=limits.write_timeout,
        )
        self._liveness.start()

    # Streams.

    @property
    def streams(self) -> int:
        """How many of this side are open."""
        return self._connection.streams

    @property
    def may_open(self) -> bool:
        """A stream can be opened now."""
        return self.state is OPEN and self._connection.may_open and not self.full and not self.silent

    @property
    def full(self) -> bool:
        """As many streams are open as may be."""
        return self._connection.streams >= self._limits.streams

    @property
    def silent(self) -> bool:
        """The peer was asked, and nothing has come from it since: it gets no more streams until something does."""
        return self._liveness.silent

    @property
    def round_trip(self) -> float:
        """Seconds to the peer and back; 0: not known yet."""
        return self._connection.round_trip.seconds

    @property
    def gone(self) -> bool:
        """No stream will ever be opened again."""
        return self.state is not OPEN

    @property
    def closed(self) -> bool:
        """It is over for this process."""
        return self.state >= CLOSED

    @property
    def idle(self) -> bool:
        """No stream is open, and nothing of an earlier one waits to be sent."""
        return not self.streams and not self._in_queue + self._wire.unsent

    @property
    def secure(self) -> bool:
        """Inside TLS."""
        return self._wire.secure

    def open(self, extensions: Extension = NONE) -> int:
        """Open a stream; ``bind`` a channel at once. Errors: ``ValueError`` unless ``may_open``."""
        number = self._connection.open(extensions)
        self._due()
        return number

    def expect_ack(self) -> None:
        """Streams that were opened are dropped when the peer neither takes them nor sends anything else."""
        self._liveness.expect_ack()

    def bind(self, stream: int, channel: StreamHandler) -> None:
        """``channel`` takes what comes on ``stream`` from now on."""
        self._channels[stream] = channel

    def accept(self, stream: int) -> None:
        """Acknowledge a stream of the peer."""
        self._connection.accept(stream)
        self._due()

    def room(self, stream: int) -> int:
        """Bytes that may be sent on the stream now."""
        return self._connection.window(stream)

    def taken(self, stream: int) -> bool:
        """Whether the peer has taken the stream."""
        return self._connection.acknowledged(stream)

    @property
    def congested(self) -> bool:
        """Enough waits to be sent: a channel that has more has to ``wait_turn``."""
        return self._in_queue + self._wire.unsent >= _CONGESTED

    @property
    def busy(self) -> bool:
        """Congested, or others wait for their turn."""
        return bool(self._waiting) or self.congested

    def wait_turn(self, channel: StreamHandler) -> None:
        """``channel.may_send`` is called once, when those that waited before had their turn."""
        self._waiting.append(channel)

    def send(self, stream: int, data: bytes) -> None:
        """Send, at most ``room`` bytes."""
        self._connection.send(stream, data)
        self._in_queue += len(data)
        self._due()

    def consume(self, stream: int, count: int) -> None:
        """``count`` bytes of the stream were passed on."""
        if self._connection.consume(stream, count):
            now = self._loop.time()
            self._connection.grant(stream, now)
            self._liveness.measure(now)
            self._due()

    def end(self, stream: int) -> None:
        """Send no more on the stream."""
        self._connection.end(stream)
        self._due()

    def reset(self, stream: int) -> None:
        """Drop the stream; its channel is not notified."""
        self._connection.reset(stream)
        self.forget(stream)
        self._due()

    def forget(self, stream: int) -> None:
        """The channel needs nothing more of the stream, which is gone."""
        self._channels.pop(stream, None)
        self._connection.budget.charge(stream, 0)

    def count_buffered(self, count: int) -> None:
        """A channel keeps ``count`` bytes more, or less. The one that keeps most goes when there are too many."""
        self._buffered += count
        if count > 0 and self._buffered > self._limits.buffered + self._connection.budget.used:
            stream, channel = max(self._channels.items(), key=lambda item: item[1].buffered)
            self.reset(stream)
            channel.dropped("too slow")

    # The session.

    def measure(self) -> None:
        """Nothing is on its way yet: this is when the round trip is seen as it is."""
        self._liveness.measure(self._loop.time())
        self._due()

    def leave(self) -> None:
        """Announce to the peer that this side ends the session soon; streams go on."""
        self._connection.go_away(GoAway.NORMAL)
        self._due()

    def close(self, reason: str, code: GoAway | None = None) -> None:
        """End it, and send the peer ``code`` as the reason; again is harmless."""
        if self.state >= CLOSED:
            return
        self.state = TRANSITIONS[ENDED][self.state]
        self._liveness.stop()
        self._connection.budget.close()
        if code is not None:
            self._connection.go_away(code)
        self._wire.send(self._take())
        self._wire.close()
        channels, self._channels = self._channels, {}
        self._waiting.clear()
        for channel in channels.values():
            channel.dropped(reason)
        self._over(self, reason)

    def release(self) -> tuple[socket.socket, ConnectionSnapshot, bytes]:
        """Stop here so that another process goes on: socket, state, and what has to be sent first.

        The channels are not notified, and ``over`` is not called.
        """
        self.state = TRANSITIONS[HANDED_OVER][self.state]
        self._liveness.stop()
        self._connection.budget.close()
        self._wire.send(self._take())
        unsent = self._wire.unsent_bytes()
        return self._wire.release(), self._connection.freeze(), unsent

    @classmethod
    def resume(
        cls,
        sock: socket.socket,
        role: Role,
        state: ConnectionSnapshot,
        unsent: bytes,
        *,
        limits: SessionLimits,
        budget: WindowBudget,
        opened: Callable[[Session, int, Extension], StreamHandler | None],
        over: Callable[[Session, str], None],
        available: Callable[[Session], None],
    ) -> Session:
        """Go on where ``release`` was called. The caller binds the channels before the event loop turns."""
        connection = YamuxConnection.thaw(role, state, max_streams=limits.streams, budget=budget)
        session = cls(sock, connection, limits=limits, opened=opened, over=over, available=available)
        if unsent:
            session._wire.send([unsent])
        return session

    def _received(self, data: memoryview) -> None:
        channels = self._channels
        if self._liveness.received():
            self._available(self)
        self._flush_due = True  # at the end, for all that this causes
        try:
            for event in self._connection.receive(data):
                if isinstance(event, DataReceived):
                    channel = channels.get(event.stream)
                    if channel is not None:
                        channel.received(event.data)
                else:
                    self._handle(event)
                if self.state >= CLOSED:
                    return
        except ParseError as error:
            self.close(str(error))
            return
        self._flush_due = False
        if self._connection.outgoing:
            self._flush()

    def _handle(self, event: Event) -> None:
        match event:
            case WindowOpened(stream):
                if stream in self._channels:
                    self._channels[stream].may_send()
            case StreamEnded(stream):
                if stream in self._channels:
                    self._channels[stream].ended()
            case StreamReset(stream):
                if stream in self._channels:
                    self._channels.pop(stream).dropped("reset by the peer")
                self._available(self)
            case StreamAccepted():
                self._available(self)
            case StreamOpened(stream, extensions):
                channel = self._opened(self, stream, extensions)
                if channel is None:
                    self._connection.reset(stream)
                else:
                    self._channels[stream] = channel
            case Pong(number):
                self._liveness.answered(number)
            case WentAway(code):
                if code == GoAway.NORMAL:
                    self.state = TRANSITIONS[PEER_LEAVES][self.state]
                    self._left(self)
                else:
                    self.close("the peer ended the session")

    def _drop(self, streams: list[int]) -> None:
        for stream in streams:
            if stream in self._channels:
                self._channels.pop(stream).dropped("the peer is silent")
            self.reset(stream)

    def _due(self) -> None:
        """Send when the event loop turns: what several channels have to send goes out in one system call."""
        if not self._flush_due and self._connection.outgoing:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self.state >= CLOSED:
            return
        self._wire.send(self._take())
        if self._wire.unsent > _MAX_UNSENT:
            self.close("it does not read its answers")
        elif self._waiting:
            self._give_turns()

    def _take(self) -> list[Buffer]:
        outgoing, self._connection.outgoing = self._connection.outgoing, []
        self._in_queue = 0
        return outgoing

    def _drained(self) -> None:
        if self._waiting:
            self._give_turns()

    def _give_turns(self) -> None:
        while self._waiting and not self.congested and self.state < CLOSED:
            self._waiting.popleft().may_send()
