"""The supervisor's end of the channel to one worker: never blocks, and survives the supervisor's re-execution."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from tfgateway.errors import ParseError
from tfgateway.workers.ipc.protocol import Frames, FromWorker, ToWorker, decode_from_worker, encode

_READ = 1 << 18
_MAX_UNSENT = 16 * 1024 * 1024
"""Bytes that a worker may leave unread before it is given up; a configuration fits in."""
_NO_ROOM = (errno.ENOBUFS, errno.ENOMEM)
_RETRY = 0.05
"""Seconds until the kernel is asked again that had no memory."""


class Channel:
    """Messages over one end of a socket pair."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[FromWorker], None],
        *,
        unread: bytes = b"",
        unsent: bytes = b"",
    ) -> None:
        """unread, unsent: what a predecessor of this process had begun to read and to write."""
        sock.setblocking(False)
        self.socket = sock
        self._on_message = on_message
        self._frames = Frames(unread)
        self._unsent = bytearray(unsent)
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, self.receive)
        if unsent:
            loop.add_writer(sock, self._flush)

    @property
    def unread(self) -> bytes:
        """Received bytes of an incomplete message, for a successor."""
        return self._frames.unread

    @property
    def unsent(self) -> bytes:
        """Bytes that were not sent yet, for a successor."""
        return bytes(self._unsent)

    def send(self, message: ToWorker) -> None:
        """Send a message now or when the worker reads; to a worker that is gone, not at all."""
        if self.socket.fileno() < 0:
            return
        idle = not self._unsent
        self._unsent += encode(message)
        if len(self._unsent) > _MAX_UNSENT:
            self.close()
        elif idle:
            self._flush()

    def receive(self) -> None:
        """Read and handle all messages that are there."""
        while self.socket.fileno() >= 0:
            try:
                data = self.socket.recv(_READ)
                bodies = list(self._frames.feed(data))
            except BlockingIOError:
                return
            except (OSError, ParseError):
                data = b""
            if not data:  # the worker has ended or sends invalid messages; its end or silence is noticed elsewhere
                self.close()
                return
            for body in bodies:
                message = decode_from_worker(body)
                if message is not None:
                    self._on_message(message)

    def close(self) -> None:
        """Close the socket; again is harmless."""
        if self.socket.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self.socket)
            loop.remove_writer(self.socket)
            self.socket.close()

    def _flush(self) -> None:
        if self.socket.fileno() < 0:
            return
        loop = asyncio.get_running_loop()
        try:
            sent = self.socket.send(self._unsent)
            del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in _NO_ROOM:
                loop.call_later(_RETRY, self._flush)
                return
            self._unsent.clear()
            self.receive()  # the worker has ended: its last messages may still be there
            return
        if self._unsent:
            loop.add_writer(self.socket, self._flush)
        else:
            loop.remove_writer(self.socket)
