"""Listening sockets: bound at the start, accepting when there is something to serve."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from tfgateway.proxy.tcp import tune
from tfgateway.settings import host_port
from tfgateway.telemetry.logs import logger

_BACKLOG = 4096
_AT_ONCE = 64  # accepted connections before others get their turn
_PAUSE = 0.2  # seconds after an accept that failed

_log = logger("proxy")


class Listener:
    """One listening TCP socket. ``on_accept`` gets each connection, non-blocking, and its peer's IP literal."""

    def __init__(self, address: str, on_accept: Callable[[socket.socket, str], None]) -> None:
        """Bind, but do not listen yet: visitors are refused rather than kept waiting. Errors: ``OSError``."""
        self.address = address
        self._on_accept = on_accept
        self._resume: asyncio.TimerHandle | None = None
        host, port = host_port(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tune(self._socket)
            self._socket.bind((host, port))
        except BaseException:
            self._socket.close()
            raise

    def start(self) -> None:
        """Listen and accept. Errors: ``OSError`` when another process came first."""
        self._socket.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Stop accepting; again is harmless."""
        if self._resume is not None:
            self._resume.cancel()
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno != errno.ECONNABORTED:
                    self._pause(error)
                return
            connection.setblocking(False)
            self._on_accept(connection, peer[0].partition("%")[0])

    def _pause(self, error: OSError) -> None:
        """Out of descriptors, most likely (T-10): visitors wait in the backlog, the process neither spins nor ends."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        self._resume = loop.call_later(_PAUSE, loop.add_reader, self._socket, self._accept)
        _log.warning("accepting paused", listen=self.address, reason=error.strerror)
