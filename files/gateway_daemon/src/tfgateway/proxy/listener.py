"""Accepting from listening sockets that other processes share."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from tfgateway.net.addresses import plain
from tfgateway.net.sockets import adopt, tune
from tfgateway.plane import Listening
from tfgateway.proxy.eventloop.engine import Engine
from tfgateway.telemetry.logs import logger

_AT_ONCE = 64  # accepted connections before others get their turn
_OF_ONE_CONNECTION = {
    *(errno.ECONNABORTED, errno.EPROTO, errno.EPERM),
    *(errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP),
    errno.ENETUNREACH,
}
"""Errors of accept(2) that are about the connection that was to be accepted; others may be behind it."""
_PAUSE = 0.2  # seconds after an accept that failed
_DEFER = 1  # seconds; see tcp(7): longer, and a visitor that sends nothing takes no descriptor here

_log = logger("proxy")


class Listener:
    """Accepts at one listening socket; ``on_accept`` gets each connection, non-blocking, and its peer's IP literal."""

    def __init__(
        self, engine: Engine, listening: Listening, on_accept: Callable[[socket.SocketType, str], None]
    ) -> None:
        self.address = listening.endpoint.address
        self._engine = engine
        self._socket = listening.socket
        self._family = int(listening.socket.family)
        self._on_accept = on_accept
        self._resume: asyncio.TimerHandle | None = None
        self._accepting = False

    def start(self) -> None:
        """Accept."""
        tune(self._socket)
        # The kernel reports a connection with its first bytes: they are read straight after accept.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER)
        self._watch()

    def stop(self) -> None:
        """Accept no more; the socket stays open. Again is harmless."""
        self._accepting = False
        if self._resume is not None:
            self._resume.cancel()
        if self._socket.fileno() >= 0:
            self._engine.let_go(self._socket.fileno())

    def close(self) -> None:
        """Stop, and close the socket, which others may go on with. Again is harmless."""
        self.stop()
        self._socket.close()

    def ready(self, _descriptor: int, _events: int) -> None:
        for _ in range(_AT_ONCE):
            if not self._accepting:
                return
            try:
                descriptor, peer = self._socket._accept()  # type: ignore[attr-defined]  # of the class below
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _OF_ONE_CONNECTION:
                    self._pause(error)
                    return
                continue
            try:
                connection = adopt(self._family, descriptor)
            except OSError as error:
                _log.warning("connection lost", listen=self.address, reason=error.strerror)
                continue
            self._on_accept(connection, plain(peer[0]))

    def fail(self) -> None:
        """One connection was not taken; the others are."""

    def _watch(self) -> None:
        try:
            self._engine.watch_listener(self._socket.fileno(), self)
        except OSError as error:
            self._pause(error)
        else:
            self._accepting = True

    def _pause(self, error: OSError) -> None:
        """Out of descriptors, most likely (T-10): visitors wait in the backlog, the process neither spins nor ends."""
        self.stop()
        self._resume = asyncio.get_running_loop().call_later(_PAUSE, self._watch)
        _log.warning("accepting paused", listen=self.address, reason=error.strerror)
