"""The TCP connection of a session, plain or inside TLS: reads what comes, keeps what does not go out yet."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from tfgateway.net.sockets import close

_SCRATCH = 256 * 1024
_AT_ONCE = 128  # buffers of one system call
_TLS_ROUNDS = 16  # records that are read before others get their turn
_TLS_SMALL = 16 * 1024
_TLS_CHUNK = 64 * 1024
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

# One buffer for all sessions: what is read is passed on before anything else is read.
_scratch = memoryview(bytearray(_SCRATCH))

Buffer = bytes | memoryview


class Wire:
    """Owns a connected, non-blocking socket."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        received: Callable[[memoryview], None],
        drained: Callable[[], None],
        lost: Callable[[str], None],
        write_timeout: float,
    ) -> None:
        """Start reading.

        received: gets a slice that is valid until it returns. drained: less than before waits to be sent. lost: the
        connection ended or broke, with the reason; the owner closes. write_timeout: seconds without progress after
        which a peer that takes nothing is lost. Errors: ``OSError``; the socket is closed then.
        """
        self._sock = sock
        self._received = received
        self._drained = drained
        self._lost = lost
        self._write_timeout = write_timeout
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Buffer] = deque()
        self._stalled: asyncio.TimerHandle | None = None
        self._broken = False  # something was lost: nothing that comes behind it may be sent
        self.unsent = 0
        """Bytes that wait to be sent."""
        self._readable: Callable[[], None] = self._read_tls if self.secure else self._read_plain
        try:
            self._loop.add_reader(sock.fileno(), self._readable)
        except OSError:
            close(sock)
            raise

    @property
    def secure(self) -> bool:
        """Inside TLS: what the cipher remembers cannot move to another process."""
        return isinstance(self._sock, ssl.SSLSocket)

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send these after what waits already. They must not change any more."""
        if self.closed or self._broken:
            return
        self._queue.extend(buffers)
        self.unsent += sum(map(len, buffers))
        if self._stalled is None:
            self._flush()

    def close(self) -> None:
        """Again is harmless. What was handed to the kernel still goes out."""
        if not self.closed:
            close(self.release())

    def release(self) -> socket.socket:
        """The socket, watched no more; it is the caller's."""
        self._loop.remove_reader(self._sock.fileno())
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
            self._loop.remove_writer(self._sock.fileno())
        return self._sock

    def unsent_bytes(self) -> bytes:
        """A copy of what waits to be sent."""
        return b"".join(self._queue)

    def _read_plain(self) -> None:
        try:
            count = self._sock.recv_into(_scratch)
        except _NOT_NOW:
            return
        except OSError as error:
            self._lost(error.strerror or "broken")
            return
        if count:
            self._received(_scratch[:count])
        else:
            self._lost("closed by the peer")

    def _read_tls(self) -> None:
        for _ in range(_TLS_ROUNDS):
            self._read_plain()
            if self.closed:
                return
            if not self._pending():
                return
        self._loop.call_soon(self._read_rest)

    def _read_rest(self) -> None:
        if not self.closed:
            self._read_tls()

    def _pending(self) -> int:
        """Bytes that TLS has decrypted already: the kernel does not report them."""
        return self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0

    def _writable(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
            try:
                self._loop.remove_writer(self._sock.fileno())
            except OSError as error:
                self._lost(error.strerror or "broken")
                return
        self._flush()
        if not self.closed:
            self._drained()

    def _flush(self) -> None:
        queue = self._queue
        while queue:
            try:
                sent = self._send_some()
            except _NOT_NOW:
                self._wait_for_room()
                return
            except OSError as error:
                self._break(error)
                return
            self.unsent -= sent
            while sent:
                first = queue[0]
                if len(first) > sent:
                    queue[0] = memoryview(first)[sent:]
                    break
                sent -= len(first)
                queue.popleft()

    def _wait_for_room(self) -> None:
        try:
            self._loop.add_writer(self._sock.fileno(), self._writable)
        except OSError as error:
            self._break(error)
        else:
            self._stalled = self._loop.call_later(self._write_timeout, self._lost, "it takes nothing")

    def _break(self, error: OSError) -> None:
        self._broken = True
        self._queue.clear()
        self.unsent = 0
        # From the loop: the caller that is sending now is not done with its own state.
        self._loop.call_soon(self._lost, error.strerror or "broken")

    def _send_some(self) -> int:
        if isinstance(self._sock, ssl.SSLSocket):
            self._join_first()
            return self._sock.send(self._queue[0])
        return self._sock.sendmsg(islice(self._queue, _AT_ONCE))

    def _join_first(self) -> None:
        """Many small ones in one record. What was tried may be tried again with more behind it (SSL_write(3))."""
        queue = self._queue
        if len(queue) > 1 and len(queue[0]) < _TLS_SMALL:
            joined = bytearray()
            while queue and len(joined) < _TLS_CHUNK:
                joined += queue.popleft()
            queue.appendleft(bytes(joined))
