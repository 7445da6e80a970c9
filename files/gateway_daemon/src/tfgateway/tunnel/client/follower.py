"""Keeps a session with each gateway."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from functools import partial

from tfgateway.aio import Backoff
from tfgateway.errors import ParseError
from tfgateway.net.addresses import shown
from tfgateway.tunnel.client.connect import connect, words
from tfgateway.tunnel.client.incoming import IncomingStream
from tfgateway.tunnel.client.model import Changed, ConfiguredTunnel, Phase, RemoteStatus
from tfgateway.tunnel.handshake import encode_handshake
from tfgateway.tunnel.notices import Notice, NoticeParser, Outcome
from tfgateway.tunnel.session.session import Session, StreamHandler
from tfgateway.tunnel.session.stream_relay import StreamRelayed
from tfgateway.tunnel.session.tls import secure
from tfgateway.tunnel.yamux.connection import Role, YamuxConnection
from tfgateway.tunnel.yamux.extensions import Extension
from tfgateway.tunnel.yamux.windows import WindowBudget

_STEADY = 60.0
"""Seconds after which a session counts as one that worked: the next attempt is quick again."""
_LONGEST_PAUSE = 60.0
"""Seconds between two attempts, unless the first pause is longer."""

_LEFT = "the gateway asks for a new session"
_FINAL = (Outcome.UNKNOWN, Outcome.REVOKED, Outcome.REPLACED, Outcome.CROWDED)
_OFTEN = 3
_MAX_ENDING = 4
"""Sessions that a gateway is about to end; the oldest goes when there are more."""


class Follower:
    """Keeps a session with one gateway."""

    def __init__(self, tunnel: ConfiguredTunnel, changed: Changed, budget: WindowBudget) -> None:
        host, port = tunnel.remote
        self._remote = tunnel.remote
        self._options = tunnel.options
        self._changed = changed
        self._budget = budget
        self.status = RemoteStatus(shown(host, port), tunnel.name)
        self._notice = Notice(Outcome.REGISTERED)
        self._session: Session | None = None
        self._retired = False
        self._visitor_left = asyncio.Event()
        self._ending: list[Session] = []
        """Sessions that the gateway is about to end: their visitors stay to their end."""
        self._loop = asyncio.get_running_loop()

    def look(self) -> RemoteStatus:
        """How it stands now."""
        session = self._session
        self.status.round_trip = session.round_trip if session is not None and not session.closed else 0.0
        return self.status

    def change(self, tunnel: ConfiguredTunnel) -> None:
        """Of the same identity: it holds for visitors from now on."""
        self._options = tunnel.options

    async def retire(self) -> None:
        """Take no more visitors; returns when those that are there have left."""
        self._retired = True
        if self._session is not None and not self._session.closed:
            self._session.leave()
        while self.status.active:
            self._visitor_left.clear()
            await self._visitor_left.wait()

    async def run(self) -> None:
        """Until cancelled; with ``once``, or retired, until the session ends."""
        try:
            await self._follow()
        finally:
            for session in list(self._ending):
                session.close("the client ends")

    async def _follow(self) -> None:
        backoff = Backoff(self._options.backoff, max(_LONGEST_PAUSE, self._options.backoff))
        while True:
            self.status.outcome = None
            self._phase(Phase.CONNECTING)
            started = self._loop.time()
            try:
                reason = await self._attempt()
            except TimeoutError:
                reason = "it does not answer"
            except ssl.SSLCertVerificationError as error:
                reason = f"its certificate is not valid: {error.verify_message}"
            except OSError as error:
                reason = words(error)
            if self.status.phase is Phase.CONNECTED and self._loop.time() - started > _STEADY:
                backoff.succeeded()
            if reason == _LEFT and self._loop.time() - started > self._options.backoff:
                continue  # others are there already: no visitor needs to wait
            if self._options.once or self._retired:
                self._phase(Phase.ENDED, reason)
                return
            self.status.retry_in = backoff.failed()
            self._phase(Phase.RETRYING, reason)
            await asyncio.sleep(self.status.retry_in)

    def _phase(self, phase: Phase, reason: str = "") -> None:
        self.status.phase = phase
        self.status.reason = reason
        self.status.since = self._loop.time()
        self._changed(self.look())

    async def _attempt(self) -> str:
        """One session from the first packet to its end: why it ended. Errors: ``OSError``, ``TimeoutError``."""
        self._notice = Notice(Outcome.REGISTERED)
        async with asyncio.timeout(self._options.dial_timeout):
            sock = await connect(self._remote)
            if self._options.tls is not None:
                sock = await secure(sock, self._options.tls, self._options.tls_name or self._remote[0])
        over: asyncio.Future[str] = self._loop.create_future()
        limits = self._options.limits
        session = Session(
            sock,
            YamuxConnection(Role.CLIENT, max_streams=limits.streams, budget=WindowBudget(limits.windows, self._budget)),
            limits=limits,
            opened=self._visited,
            over=partial(self._over, over),
            left=lambda _session: None if over.done() else over.set_result(_LEFT),
        )
        self._session = session
        try:
            stream = session.open(self._extensions())
            session.bind(stream, _RegistrationStream(session, stream, self._noticed))
            # In one frame: the old server reads once (T-14).
            session.send(stream, encode_handshake(self._options.secret))
            session.end(stream)
            self._phase(Phase.WAITING)
            if await over == _LEFT and not session.closed:
                self._ending.append(session)
                if len(self._ending) > _MAX_ENDING:
                    self._ending[0].close("the gateway does not end it")
            if over.result() != _LEFT and self._notice.outcome in _FINAL:
                return self._said()
            return over.result()
        finally:
            if session not in self._ending:
                session.close("the client ends")

    def _extensions(self) -> Extension:
        version = self._options.proxy_protocol
        if self._options.may_change:
            return Extension.NOTICES | Extension.ADDRESS | Extension.PASS_ON
        if version is None:
            return Extension.NOTICES | Extension.PASS_ON
        return Extension.NOTICES | Extension.ADDRESS if version else Extension.NOTICES

    def _over(self, over: asyncio.Future[str], session: Session, reason: str) -> None:
        if session in self._ending:
            self._ending.remove(session)
        if not over.done():
            over.set_result(reason)

    def _noticed(self, notice: Notice) -> None:
        self._notice = notice
        self.status.outcome = notice.outcome
        if notice.outcome is Outcome.REGISTERED:
            self.status.sessions += 1
            self._phase(Phase.CONNECTED)
        elif notice.outcome is Outcome.REPLACED:
            self.status.replaced += 1

    def _said(self) -> str:
        often = self.status.replaced if self._notice.outcome is Outcome.REPLACED else 0
        return self._notice.reason + (f", {often} times by now: each client needs its own" if often >= _OFTEN else "")

    def _visited(self, session: Session, stream: int, extensions: Extension) -> StreamHandler | None:
        if self.status.active >= self._options.max_visitors:
            self.status.failed += 1
            return None
        self.status.last_visit = time.time()
        self.status.visitors += 1
        self.status.active += 1
        session.accept(stream)
        return IncomingStream(session, stream, extensions, self._options, self._left)

    def _left(self, relayed: StreamRelayed | None) -> None:
        self.status.active -= 1
        self._visitor_left.set()
        if relayed is None:
            self.status.failed += 1
        else:
            self.status.received += relayed.to_socket
            self.status.sent += relayed.to_stream


class _RegistrationStream:
    """The first stream, with the handshake: a ``StreamHandler`` that takes notices.

    An old gateway ends the stream when it has taken the secret, or knows it.
    """

    buffered = 0

    def __init__(self, session: Session, stream: int, noticed: Callable[[Notice], None]) -> None:
        self._session = session
        self._stream = stream
        self._noticed = noticed
        self._parser = NoticeParser()
        self._registered = False

    def received(self, data: memoryview) -> None:
        """See ``StreamHandler``."""
        self._session.consume(self._stream, len(data))
        try:
            notices = self._parser.feed(data)
        except ParseError as error:
            self._session.close(str(error))
            return
        for notice in notices:
            if notice.outcome is Outcome.REGISTERED:
                self._session.measure()
            self._registered = self._registered or notice.outcome is Outcome.REGISTERED
            self._noticed(notice)

    def ended(self) -> None:
        """See ``StreamHandler``."""
        if not self._registered:
            self._noticed(Notice(Outcome.REGISTERED))

    def dropped(self, reason: str) -> None:
        """See ``StreamHandler``."""

    def may_send(self) -> None:
        """See ``StreamHandler``."""
