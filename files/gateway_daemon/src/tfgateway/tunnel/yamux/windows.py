"""Flow control of one stream: what the peer may still send, and when it is granted more."""

from __future__ import annotations

from tfgateway.errors import ParseError

INITIAL_WINDOW = 256 * 1024
"""Bytes that each side of a new stream may send before it is granted more. Fixed by the protocol."""
_LARGEST_WINDOW = 2**32 - 1


class ReceiveWindow:
    """What the peer may send. It is granted more once half of the window was taken from the stream."""

    __slots__ = ("left", "taken")

    def __init__(self, left: int = INITIAL_WINDOW, taken: int = 0) -> None:
        self.left = left
        """Bytes that the peer may still send."""
        self.taken = taken
        """Bytes that were taken from the stream since the last grant."""

    def announced(self, count: int) -> None:
        """A frame of ``count`` bytes begins. Errors: ``ParseError`` when the peer was not granted them."""
        if count > self.left:
            raise ParseError(f"yamux: {count} bytes for a window of {self.left}")
        self.left -= count

    def consumed(self, count: int) -> int:
        """``count`` bytes left the stream: how many the peer shall be granted now, often none."""
        self.taken += count
        if self.taken < INITIAL_WINDOW // 2:
            return 0
        granted, self.taken = self.taken, 0
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
