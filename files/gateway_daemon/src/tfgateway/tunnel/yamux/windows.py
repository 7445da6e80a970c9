"""Flow control of one stream: what the peer may still send, and when it is granted more. Pure: the clock is passed in.

A sender that waits for grants gets one window a round trip. So a window follows the rate at which its stream is read,
within a budget of memory: what a peer was granted it may send, and may have to be kept. yamux has no frame to take a
grant back: a window shrinks by grants that are held back. On a short way the initial window is enough, and more would
only queue before what others send.
"""

from __future__ import annotations

from tfgateway.errors import ParseError

INITIAL_WINDOW = 256 * 1024
"""Bytes that each side of a new stream may send before it is granted more. Fixed by the protocol."""
PORTION = INITIAL_WINDOW // 2
"""Bytes that are granted at once, at least, where waiting for them costs nothing."""
_SMALL_PORTION = INITIAL_WINDOW // 8
"""The same where it costs a round trip."""
_LONG = 0.002
"""Seconds: a round trip that is worth more grants, and larger windows."""
_GAIN = 1.5
"""Of what is read in a round trip, the size of a window: it grows as long as that brings more, and queues little."""
_SHRINK = 8
"""A window becomes smaller by this part of it at once, unless memory is scarce."""
_LARGEST_WINDOW = 2**32 - 1
_PERIOD = 150.0
"""Seconds after which a round trip counts for as long again."""
_UNKNOWN = float("inf")


class RoundTrip:
    """The round trip to the peer: the shortest of the last minutes, since what waits before a ping makes one longer."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._shortest = self._before = seconds or _UNKNOWN
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """0: it is not known yet."""
        shortest = min(self._shortest, self._before)
        return 0.0 if shortest == _UNKNOWN else shortest

    def add(self, seconds: float, now: float) -> None:
        """One was measured; now: seconds of any clock that goes on."""
        if self._since is None:
            self._since = now
        elif now - self._since >= _PERIOD:
            self._since, self._before, self._shortest = now, self._shortest, _UNKNOWN
        self._shortest = min(self._shortest, seconds)


class WindowBudget:
    """Bytes by which windows may exceed the initial one, of a session together, and of all sessions of a process.

    A stream gets a third of what the others leave: there is always some left for the next one.
    """

    def __init__(self, limit: int, parent: WindowBudget | None = None) -> None:
        self._limit = limit
        self._parent = parent
        self._extra: dict[int, int] = {}
        self.used = 0
        """Bytes that are in use."""

    @property
    def scarce(self) -> bool:
        """More than half is in use: windows shrink to what their streams need."""
        return 2 * self.used > self._limit or (self._parent is not None and self._parent.scarce)

    def share(self, stream: int) -> int:
        """How many bytes a stream may have."""
        own = self._extra.get(stream, 0)
        free = self._limit - self.used
        if self._parent is not None:
            free = min(free, self._parent._limit - self._parent.used)
        return max(0, own + free) // 3

    def charge(self, stream: int, extra: int) -> None:
        """A stream has this many bytes from now on; 0: it has ended, and nothing of it is kept any more."""
        change = extra - self._extra.get(stream, 0)
        if change:
            self._add(change)
            self._extra[stream] = extra
            if not extra:
                del self._extra[stream]

    def close(self) -> None:
        """The session has ended."""
        self._add(-self.used)
        self._extra.clear()

    def _add(self, change: int) -> None:
        self.used += change
        if self._parent is not None:
            self._parent._add(change)


class ReceiveWindow:
    """What the peer may send: ``size`` is ``left``, what is kept here, and ``taken`` together."""

    __slots__ = ("_kept_back", "_portion", "_read", "_since", "_wanted", "left", "size", "taken")

    def __init__(self, left: int = INITIAL_WINDOW, taken: int = 0, size: int = INITIAL_WINDOW) -> None:
        self.left = left
        """Bytes that the peer may still send."""
        self.taken = taken
        """Bytes that may be granted again."""
        self.size = size
        self._wanted = size
        self._portion = PORTION
        self._since: float | None = None
        self._kept_back = 0
        """Of ``taken``, what was there when the peer was granted something last."""
        self._read = 0
        """Bytes that were read from the stream ``_since`` then."""

    def announced(self, count: int) -> None:
        """A frame of ``count`` bytes begins. Errors: ``ParseError`` when the peer was not granted them."""
        if count > self.left:
            raise ParseError(f"yamux: {count} bytes for a window of {self.left}")
        self.left -= count

    def consumed(self, count: int) -> bool:
        """``count`` bytes left the stream. True: enough for a grant, ``tune`` and ``grant`` are due."""
        self.taken += count
        return self.taken >= self._portion

    def tune(self, now: float, round_trip: float, *, largest: int, scarce: bool) -> None:
        """Set the size to what the stream needs.

        now: seconds. round_trip: seconds; 0: not known. largest: bytes. scarce: what it does not need is given back.
        """
        self._read += self.taken - self._kept_back
        if self._since is None:
            self._since, self._read = now, 0
        elif 2 * self._read >= self.size:
            needed = self._needed(now - self._since, round_trip)
            self._wanted = needed if scarce else max(self.size - self.size // _SHRINK, needed)
            self._since, self._read = now, 0
        self._portion = PORTION if round_trip < _LONG else _SMALL_PORTION
        # What the peer was granted already stays its own.
        size = max(min(self._wanted, largest), INITIAL_WINDOW, self.size - self.taken)
        self.taken += size - self.size
        self.size = size

    def _needed(self, passed: float, round_trip: float) -> int:
        if round_trip < _LONG:
            return INITIAL_WINDOW
        most = 2 * self.size  # what comes at once says little about a rate
        needed = _GAIN * self._read * round_trip
        return int(needed / passed) if needed < most * passed else most

    def grant(self) -> int:
        """Bytes that the peer is granted now; 0: it waits."""
        if self.taken < self._portion:
            self._kept_back = self.taken
            return 0
        granted, self.taken, self._kept_back = self.taken, 0, 0
        self.left += granted
        return granted


class SendWindow:
    """What the peer lets us send."""

    __slots__ = ("left",)

    def __init__(self, left: int = INITIAL_WINDOW) -> None:
        self.left = left

    def granted(self, count: int) -> bool:
        """The peer grants more; True when there was nothing left before."""
        was_empty = not self.left
        self.left = min(self.left + count, _LARGEST_WINDOW)
        return was_empty and self.left > 0

    def spend(self, count: int) -> None:
        """Use up ``count`` bytes. Errors: ``ValueError``: the caller sends more than it may."""
        if count > self.left:
            raise ValueError(f"{count} bytes for a window of {self.left}")
        self.left -= count
