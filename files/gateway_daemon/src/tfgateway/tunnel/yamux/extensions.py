"""What our programs agree on beyond yamux, in a place where old ones see nothing but credit.

The window update that opens a stream has length 0 in old programs, and who takes the stream adds it to its send window.
Ours put ``_MARK`` and the extensions there: on the stream of its registration a client says what it can do,
on the stream of a visitor the gateway says what it does. Who does not know them ignores them.
"""

from __future__ import annotations

from enum import IntFlag

_MARK = 0x5446_0000
_MASK = 0xFFFF_0000


class Extension(IntFlag):
    """Bits of the length."""

    NOTICES = 1
    """Registration: the client keeps the stream open for notices (``tunnel.notices``)."""
    ADDRESS = 2
    """Registration: the client wants each visitor's address. Visitor: the stream begins with a PROXY header."""
    PASS_ON = 4
    """Registration: the client can take a PROXY header where the service has one. Visitor: it is for the service."""


NONE = Extension(0)
_KNOWN = Extension.NOTICES | Extension.ADDRESS | Extension.PASS_ON


def encode_extensions(extensions: Extension) -> int:
    """The length of the window update that opens a stream."""
    return _MARK | extensions if extensions else 0


def decode_extensions(length: int) -> tuple[Extension, int]:
    """(extensions, credit) in the length of a window update that opens a stream; unknown bits are ignored."""
    if length & _MASK != _MARK:
        return NONE, length
    return Extension(length & _KNOWN), 0
