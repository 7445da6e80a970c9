"""Kernel pipes for ``splice``: bytes of a long transfer go through one without entering this process."""

from __future__ import annotations

import contextlib
import fcntl
import os

_SIZE = 1 << 20  # bytes: what pipe(7) allows every user
_USEFUL = 128 * 1024  # bytes: below, copying is as fast


class Pipe:
    """One pipe, owned by the transfer that has taken it."""

    __slots__ = ("filled", "read", "write")

    def __init__(self) -> None:
        self.read, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.filled = 0
        """Bytes that are in it."""

    def close(self) -> None:
        for end in (self.read, self.write):
            with contextlib.suppress(OSError):  # Linux gives the descriptor back whatever close(2) reports
                os.close(end)


class Pipes:
    """A bounded number of pipes, each owned by one transfer at a time.

    The kernel bounds what all pipes of an unprivileged user hold together (pipe-user-pages-soft, pipe(7)), and so does
    ``limit`` with their descriptors: a transfer that gets none copies.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._made = 0
        self._free: list[Pipe] = []
        self._unused = 0

    def take(self) -> Pipe | None:
        """An empty pipe; None when there is none to be had."""
        if self._free:
            pipe = self._free.pop()
            self._unused = min(self._unused, len(self._free))
            return pipe
        if self._made >= self._limit:
            return None
        try:
            pipe = Pipe()
        except OSError:
            return None  # out of descriptors: visitors need them more
        if not _enlarge(pipe):
            pipe.close()
            return None
        self._made += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """After use; what is still in it is lost."""
        if pipe.filled:
            pipe.close()
            self._made -= 1
        else:
            self._free.append(pipe)

    def trim(self) -> None:
        """Close those that were not needed since the last call."""
        for _ in range(self._unused):
            self._free.pop(0).close()
            self._made -= 1
        self._unused = len(self._free)


def _enlarge(pipe: Pipe) -> bool:
    """Whether it is worth its descriptors then."""
    with contextlib.suppress(OSError):  # pipe-user-pages-soft of pipe(7): it stays as it is
        fcntl.fcntl(pipe.write, fcntl.F_SETPIPE_SZ, _SIZE)
    try:
        return fcntl.fcntl(pipe.write, fcntl.F_GETPIPE_SZ) >= _USEFUL
    except OSError:
        return False
