"""One side of a session: bytes of the peer in, events out; calls of this side in, bytes for the peer out.

Does no I/O and never waits. What is received is handed on in slices of what was fed; what is to be sent is kept as it
was given. Only the peer's windows and the caller's own pace bound what is in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tfgateway.errors import ParseError
from tfgateway.tunnel.yamux.extensions import NONE, Extension, decode_extensions, encode_extensions
from tfgateway.tunnel.yamux.frames import Flag, Frame, FrameReader, GoAway, Kind, Payload, encode
from tfgateway.tunnel.yamux.snapshot import ConnectionSnapshot, StreamSnapshot
from tfgateway.tunnel.yamux.windows import INITIAL_WINDOW, ReceiveWindow, RoundTrip, SendWindow, WindowBudget

MAX_FRAME = 64 * 1024
"""Bytes of payload that this side puts into a frame at most: one that waits for the others waits that long."""
MAX_UNACKNOWLEDGED = 256
"""Streams that this side may have opened without the peer's having taken them: its backlog."""

Buffer = bytes | memoryview

_SYN, _ACK, _FIN, _RST = (int(flag) for flag in Flag)
_DATA, _WINDOW_UPDATE, _PING, _GO_AWAY = (int(kind) for kind in Kind)


class Role(Enum):
    """Which side this is: it decides about the numbers of the streams."""

    CLIENT = 1
    """The side that connected: opens 1, 3, 5, ..."""
    SERVER = 2
    """The side that accepted: opens 2, 4, 6, ..."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream: ``accept`` or ``reset`` it."""

    stream: int
    extensions: Extension = NONE


@dataclass(frozen=True, slots=True)
class StreamAccepted:
    """The peer took a stream that this side opened."""

    stream: int


class DataReceived(NamedTuple):
    """Payload of a stream. Call ``consume`` when it has been passed on."""

    stream: int
    data: memoryview
    """Valid until the feeder uses its buffer again."""


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer sends no more on a stream, but may receive."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer dropped a stream: it is gone in both directions."""

    stream: int


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """The peer grants bytes on a stream that had none left."""

    stream: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to ``ping``."""

    number: int


@dataclass(frozen=True, slots=True)
class WentAway:
    """The peer takes no new streams (code 0), or ends the session (any other code)."""

    code: int


Event = StreamOpened | StreamAccepted | DataReceived | StreamEnded | StreamReset | WindowOpened | Pong | WentAway


class _Stream:
    __slots__ = ("acknowledged", "ended_by_peer", "ended_by_us", "receive", "send")

    def __init__(self, *, acknowledged: bool) -> None:
        self.send = SendWindow()
        self.receive = ReceiveWindow()
        self.acknowledged = acknowledged
        self.ended_by_us = False
        self.ended_by_peer = False


class YamuxConnection:
    """The state of a session. Calls for a stream that is gone do nothing: its end may have come in between."""

    def __init__(self, role: Role, *, max_streams: int, budget: WindowBudget) -> None:
        """max_streams: how many of the peer's may be open at once; further ones are reset. budget: of this session."""
        self.outgoing: list[Buffer] = []
        """What is to be sent, in this order. The caller empties it."""
        self.peer_went_away = False
        """No more streams can be opened."""
        self.round_trip = RoundTrip()
        self.budget = budget
        self._peers_parity = 0 if role is Role.CLIENT else 1
        self._next_stream: int = role.value
        self._max_streams = max_streams
        self._peers_streams = 0
        self._unacknowledged = 0
        self._pings = 0
        self._reader = FrameReader()
        self._ends_after_payload = False
        self._streams: dict[int, _Stream] = {}

    # What the peer sends.

    def receive(self, data: memoryview) -> Iterator[Event]:
        """Take the peer's next bytes; to be iterated to its end.

        Errors: ``ParseError`` when the peer breaks the protocol; ``outgoing`` ends with the reason for it then, and the
        session is over.
        """
        try:
            for item in self._reader.feed(data):
                if isinstance(item, Payload):
                    stream = self._streams.get(item.stream)
                    # It may be gone here while the peer still sends; what comes behind its FIN is dropped.
                    if stream is not None and not stream.ended_by_peer:
                        yield DataReceived(item.stream, item.data)
                    if item.last and self._ends_after_payload:
                        self._ends_after_payload = False
                        yield from self._end_by_peer(item.stream)
                else:
                    yield from self._frame(item)
        except ParseError:
            self.go_away(GoAway.PROTOCOL_ERROR)
            raise

    def _frame(self, frame: Frame) -> Iterator[Event]:
        kind, flags, number, length = frame
        if kind == _PING:
            if flags & _SYN:
                self.outgoing.append(encode(_PING, _ACK, 0, length))
            elif flags & _ACK:
                yield Pong(length)
            return
        if kind == _GO_AWAY:
            self.peer_went_away = True
            yield WentAway(length)
            return
        if flags & _SYN:
            extensions = NONE
            if kind == _WINDOW_UPDATE:
                extensions, length = decode_extensions(length)
            yield from self._opened(number, extensions)
        stream = self._streams.get(number)
        if stream is None:
            return
        if flags & _ACK and not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1
            yield StreamAccepted(number)
        if flags & _RST:
            self._drop(number)
            yield StreamReset(number)
            return
        if kind == _WINDOW_UPDATE:
            if length and stream.send.granted(length):
                yield WindowOpened(number)
        elif not stream.ended_by_peer:
            stream.receive.announced(length)
        if flags & _FIN:
            if stream.ended_by_peer:
                raise ParseError("yamux: a second FIN on a stream")
            if kind == _DATA and length:
                self._ends_after_payload = True
            else:
                yield from self._end_by_peer(number)

    def _opened(self, number: int, extensions: Extension) -> Iterator[Event]:
        if number % 2 != self._peers_parity or not number:
            raise ParseError("yamux: a stream with a number of this side")
        if number in self._streams:
            raise ParseError("yamux: a stream is opened twice")
        if self._peers_streams >= self._max_streams:
            self.outgoing.append(encode(_WINDOW_UPDATE, _RST, number, 0))
            return
        self._peers_streams += 1
        self._streams[number] = _Stream(acknowledged=True)
        yield StreamOpened(number, extensions)

    def _end_by_peer(self, number: int) -> Iterator[Event]:
        stream = self._streams.get(number)
        if stream is not None:
            stream.ended_by_peer = True
            if stream.ended_by_us:
                self._drop(number)
            yield StreamEnded(number)

    # What this side does.

    @property
    def streams(self) -> int:
        """How many of this side are open."""
        return len(self._streams) - self._peers_streams

    @property
    def unacknowledged(self) -> list[int]:
        """Streams of this side that the peer has not taken."""
        return [number for number, stream in self._streams.items() if not stream.acknowledged]

    @property
    def may_open(self) -> bool:
        """The peer has taken enough of the streams that were opened before, and did not go away."""
        return not self.peer_went_away and self._unacknowledged < MAX_UNACKNOWLEDGED and self._next_stream < 2**32

    def open(self, extensions: Extension = NONE) -> int:
        """Open a stream: its number; data may follow at once. Errors: ``ValueError`` unless ``may_open``."""
        if not self.may_open:
            raise ValueError("the peer takes no stream now")
        number = self._next_stream
        self._next_stream += 2
        self._unacknowledged += 1
        self._streams[number] = _Stream(acknowledged=False)
        self.outgoing.append(encode(_WINDOW_UPDATE, _SYN, number, encode_extensions(extensions)))
        return number

    def accept(self, number: int) -> None:
        """Acknowledge a stream of the peer."""
        if number in self._streams:
            self.outgoing.append(encode(_WINDOW_UPDATE, _ACK, number, 0))

    def window(self, number: int) -> int:
        """Bytes that may be sent on a stream now."""
        stream = self._streams.get(number)
        return stream.send.left if stream is not None and not stream.ended_by_us else 0

    def acknowledged(self, number: int) -> bool:
        """Whether the peer has taken a stream; True for one that is gone."""
        stream = self._streams.get(number)
        return stream is None or stream.acknowledged

    def send(self, number: int, data: bytes) -> None:
        """Send data, not more than ``window`` allows. Errors: ``ValueError`` for more, and after ``end``."""
        stream = self._streams.get(number)
        if stream is None or not data:
            return
        if stream.ended_by_us:
            raise ValueError("data after the end of a stream")
        stream.send.spend(len(data))
        if len(data) <= MAX_FRAME:
            self.outgoing += (encode(_DATA, 0, number, len(data)), data)
            return
        view = memoryview(data)
        for start in range(0, len(data), MAX_FRAME):
            piece = view[start : start + MAX_FRAME]
            self.outgoing += (encode(_DATA, 0, number, len(piece)), piece)

    def consume(self, number: int, count: int) -> bool:
        """``count`` bytes of a stream have been passed on. True: enough for a grant, which is due."""
        stream = self._streams.get(number)
        if stream is None or stream.ended_by_peer:
            return False
        return stream.receive.consumed(count)

    def grant(self, number: int, now: float) -> None:
        """Let the peer send more on a stream; now: seconds of any clock that goes on."""
        stream = self._streams.get(number)
        if stream is None:
            return
        window = stream.receive
        largest = INITIAL_WINDOW + self.budget.share(number)
        window.tune(now, self.round_trip.seconds, largest=largest, scarce=self.budget.scarce)
        self.budget.charge(number, window.size - INITIAL_WINDOW)
        granted = window.grant()
        if granted:
            self.outgoing.append(encode(_WINDOW_UPDATE, 0, number, granted))

    def end(self, number: int) -> None:
        """Send no more on a stream; again is harmless."""
        stream = self._streams.get(number)
        if stream is None or stream.ended_by_us:
            return
        stream.ended_by_us = True
        self.outgoing.append(encode(_WINDOW_UPDATE, _FIN, number, 0))
        if stream.ended_by_peer:
            self._drop(number)

    def reset(self, number: int) -> None:
        """Drop a stream."""
        if number in self._streams:
            self._drop(number)
            self.outgoing.append(encode(_WINDOW_UPDATE, _RST, number, 0))

    def ping(self) -> int:
        """Ask whether the peer is there: the number that its ``Pong`` will have."""
        number = self._pings
        self._pings = (number + 1) % 2**32
        self.outgoing.append(encode(_PING, _SYN, 0, number))
        return number

    def go_away(self, code: GoAway) -> None:
        """Announce to the peer that this side takes no new streams, or why it ends the session."""
        self.outgoing.append(encode(_GO_AWAY, 0, 0, code))

    def _drop(self, number: int) -> None:
        stream = self._streams.pop(number)
        if number % 2 == self._peers_parity:
            self._peers_streams -= 1
        elif not stream.acknowledged:
            self._unacknowledged -= 1

    # Going on elsewhere.

    def freeze(self) -> ConnectionSnapshot:
        """The whole state, for ``thaw`` in another process; ``outgoing`` is not in it."""
        return ConnectionSnapshot(
            next_stream=self._next_stream,
            pings=self._pings,
            partial=self._reader.partial,
            left=self._reader.left,
            payload_of=self._reader.stream,
            ends_after_payload=self._ends_after_payload,
            peer_went_away=self.peer_went_away,
            streams={
                number: StreamSnapshot(
                    send_left=stream.send.left,
                    receive_left=stream.receive.left,
                    taken=stream.receive.taken,
                    acknowledged=stream.acknowledged,
                    ended_by_us=stream.ended_by_us,
                    ended_by_peer=stream.ended_by_peer,
                    window=stream.receive.size,
                )
                for number, stream in self._streams.items()
            },
            round_trip=self.round_trip.seconds,
        )

    @classmethod
    def thaw(cls, role: Role, state: ConnectionSnapshot, *, max_streams: int, budget: WindowBudget) -> YamuxConnection:
        """Go on where ``freeze`` was called."""
        connection = cls(role, max_streams=max_streams, budget=budget)
        connection.round_trip = RoundTrip(state.round_trip)
        connection._next_stream = state.next_stream
        connection._pings = state.pings
        connection._reader.partial = state.partial
        connection._reader.left = state.left
        connection._reader.stream = state.payload_of
        connection._ends_after_payload = state.ends_after_payload
        connection.peer_went_away = state.peer_went_away
        for number, frozen in state.streams.items():
            stream = _Stream(acknowledged=frozen.acknowledged)
            stream.send.left = frozen.send_left
            stream.receive = ReceiveWindow(frozen.receive_left, frozen.taken, frozen.window)
            budget.charge(number, frozen.window - INITIAL_WINDOW)
            stream.ended_by_us = frozen.ended_by_us
            stream.ended_by_peer = frozen.ended_by_peer
            connection._streams[number] = stream
            if number % 2 == connection._peers_parity:
                connection._peers_streams += 1
            elif not frozen.acknowledged:
                connection._unacknowledged += 1
        return connection
