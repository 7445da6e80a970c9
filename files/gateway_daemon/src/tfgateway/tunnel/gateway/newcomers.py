"""Connections of clients that have not sent their secret yet."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial

from tfgateway.net.sockets import close, send_at_once
from tfgateway.settings import ProxySettings
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.gateway.metrics import TunnelMetrics
from tfgateway.tunnel.session.limits import SessionLimits
from tfgateway.tunnel.session.session import Session, StreamHandler
from tfgateway.tunnel.session.tls import secure
from tfgateway.tunnel.yamux.connection import Role, YamuxConnection
from tfgateway.tunnel.yamux.extensions import Extension
from tfgateway.tunnel.yamux.windows import WindowBudget

_MOST = 2048
"""The oldest goes when there are more."""

_log = logger("tunnel")


class Newcomers:
    """Of one worker."""

    def __init__(
        self,
        settings: ProxySettings,
        metrics: TunnelMetrics,
        *,
        limits: SessionLimits,
        budget: WindowBudget,
        opened: Callable[[str, Session, int, Extension], StreamHandler | None],
        over: Callable[[Session, str], None],
        available: Callable[[Session], None],
    ) -> None:
        """budget: of all sessions. opened, over, available: as ``Session`` has them; the first gets the source too."""
        self._settings = settings
        self._metrics = metrics
        self._limits = limits
        self._budget = budget
        self._opened = opened
        self._over = over
        self._available = available
        self._sessions: dict[Session, None] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: Session) -> bool:
        return session in self._sessions

    def discard(self, session: Session) -> None:
        """It has sent its secret, or ended."""
        self._sessions.pop(session, None)

    def accept(self, sock: socket.socket, source: str) -> None:
        """A client connected on the plain port: a non-blocking socket, and its IP literal."""
        budget = WindowBudget(self._limits.windows, self._budget)
        try:
            send_at_once(sock)
            session = Session(
                sock,
                YamuxConnection(Role.SERVER, max_streams=1, budget=budget),  # T-17
                limits=self._limits,
                opened=partial(self._opened, source),
                over=self._over,
                available=self._available,
            )
        except OSError as error:
            close(sock)
            _log.warning("tunnel client lost", source=source, reason=error.strerror)
            return
        self._sessions[session] = None
        self._loop.call_later(self._settings.head_timeout, self._no_secret_yet, session)  # T-2
        if len(self._sessions) > _MOST:
            self._metrics.refusals.labels("crowded").inc()
            next(iter(self._sessions)).close("too many clients that send no secret")

    def accept_tls(self, context: ssl.SSLContext, sock: socket.socket, source: str) -> None:
        """The same on the port with TLS (T-21)."""
        if len(self._handshakes) > _MOST:
            self._metrics.refusals.labels("crowded").inc()
            close(sock)
            return
        task = asyncio.create_task(self._accept_tls(context, sock, source))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    def close(self) -> None:
        """End them; again is harmless."""
        for session in list(self._sessions):
            session.close("this gateway ends")
        for task in self._handshakes:
            task.cancel()

    async def _accept_tls(self, context: ssl.SSLContext, sock: socket.socket, source: str) -> None:
        with contextlib.suppress(OSError):  # a scanner, most likely
            async with asyncio.timeout(self._settings.head_timeout):
                wrapped = await secure(sock, context, None)
            self.accept(wrapped, source)

    def _no_secret_yet(self, session: Session) -> None:
        if session in self._sessions:
            self._metrics.refusals.labels("silent").inc()
            session.close("it did not send its secret in time")
