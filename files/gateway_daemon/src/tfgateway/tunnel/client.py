"""The tunnel client: keeps a session with each gateway, and relays its visitors to a local service."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from tfgateway.aio import Backoff
from tfgateway.net.addresses import shown
from tfgateway.net.sockets import AddressInfo, close, resolve, send_at_once
from tfgateway.tunnel.handshake import encode_handshake
from tfgateway.tunnel.session.limits import RelayTimeouts, SessionLimits
from tfgateway.tunnel.session.session import Session, StreamHandler
from tfgateway.tunnel.session.stream_relay import StreamEnding, StreamRelay, StreamRelayed
from tfgateway.tunnel.session.tls import secure
from tfgateway.tunnel.yamux.connection import Role, YamuxConnection
from tfgateway.tunnel.yamux.windows import WindowBudget

_TLS_HANDSHAKE = 0x16
_STEADY = 60.0
"""Seconds after which a session counts as one that worked: the next attempt is quick again."""
_WINDOWS = 64 * 1024 * 1024
"""Bytes by which the receive windows of all sessions may exceed the initial one."""
_LONGEST_PAUSE = 60.0
"""Seconds between two attempts, unless the first pause is longer."""

HostPort = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What to connect to what."""

    secret: bytes = field(repr=False)
    local: HostPort | None
    """Where visitors without TLS are relayed to; None: they are refused."""
    local_tls: HostPort | None
    """Where those with TLS are relayed to."""
    backoff: float = 5.0
    """Seconds before the second attempt; they double up to a minute."""
    dial_timeout: float = 10.0
    """Seconds for connecting, to a gateway or to a service, and for a visitor's first byte."""
    timeouts: RelayTimeouts = RelayTimeouts()  # noqa: RUF009 - it cannot change
    """After which a visitor is cut."""
    tls: ssl.SSLContext | None = None
    """For the connections to the gateways; None: in clear, as the old client."""
    tls_name: str = ""
    """In the gateways' certificates; empty: the host that is connected to."""
    limits: SessionLimits = field(default_factory=SessionLimits)


class Phase(StrEnum):
    """The state of the session with one gateway."""

    CONNECTING = "connecting"
    WAITING = "waiting"
    """Connected, but the gateway does not know the secret yet."""
    CONNECTED = "connected"
    """Visitors can come."""
    RETRYING = "retrying"


@dataclass(slots=True)
class RemoteStatus:
    """What is shown of one gateway."""

    remote: str
    phase: Phase = Phase.CONNECTING
    reason: str = ""
    """Why it is not connected."""
    retry_in: float = 0.0
    """Seconds, in the phase ``retrying``."""
    since: float = 0.0
    """Event loop's time when the phase began."""
    sessions: int = 0
    """How often it was connected."""
    visitors: int = 0
    """So far."""
    active: int = 0
    """Now."""
    failed: int = 0
    """Visitors for which the local service could not be reached."""
    received: int = 0
    """Bytes from visitors."""
    sent: int = 0
    """Bytes to visitors."""


Changed = Callable[[RemoteStatus], None]

_LEFT = "the gateway asks for a new session"
_MAX_ENDING = 4
"""Sessions that a gateway is about to end; the oldest goes when there are more."""


async def run(remotes: list[HostPort], options: ClientOptions, changed: Changed) -> None:
    """Keep a session with each of ``remotes`` until cancelled. ``changed`` is called with every new phase."""
    budget = WindowBudget(_WINDOWS)
    async with asyncio.TaskGroup() as group:
        for remote in remotes:
            group.create_task(_Follower(remote, options, changed, budget).run())


class _Follower:
    """Keeps a session with one gateway."""

    def __init__(self, remote: HostPort, options: ClientOptions, changed: Changed, budget: WindowBudget) -> None:
        host, port = remote
        self._remote = remote
        self._options = options
        self._changed = changed
        self._budget = budget
        self._status = RemoteStatus(shown(host, port))
        self._ending: list[Session] = []
        """Sessions that the gateway is about to end: their visitors stay to their end."""
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        try:
            await self._follow()
        finally:
            for session in list(self._ending):
                session.close("the client ends")

    async def _follow(self) -> None:
        backoff = Backoff(self._options.backoff, max(_LONGEST_PAUSE, self._options.backoff))
        while True:
            self._phase(Phase.CONNECTING)
            started = self._loop.time()
            try:
                reason = await self._attempt()
            except TimeoutError:
                reason = "it does not answer"
            except ssl.SSLCertVerificationError as error:
                reason = f"its certificate is not valid: {error.verify_message}"
            except OSError as error:
                reason = _words(error)
            if self._status.phase is Phase.CONNECTED and self._loop.time() - started > _STEADY:
                backoff.succeeded()
            if reason == _LEFT and self._loop.time() - started > self._options.backoff:
                continue  # others are there already: no visitor needs to wait
            self._status.retry_in = backoff.failed()
            self._phase(Phase.RETRYING, reason)
            await asyncio.sleep(self._status.retry_in)

    def _phase(self, phase: Phase, reason: str = "") -> None:
        self._status.phase = phase
        self._status.reason = reason
        self._status.since = self._loop.time()
        self._changed(self._status)

    async def _attempt(self) -> str:
        """One session from the first packet to its end: why it ended. Errors: ``OSError``, ``TimeoutError``."""
        async with asyncio.timeout(self._options.dial_timeout):
            sock = await _connect(self._remote)
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
        try:
            stream = session.open()
            session.bind(stream, _Handshake(self._registered))
            # In one frame: the old server reads once (T-14).
            session.send(stream, encode_handshake(self._options.secret))
            session.end(stream)
            self._phase(Phase.WAITING)
            if await over == _LEFT and not session.closed:
                self._ending.append(session)
                if len(self._ending) > _MAX_ENDING:
                    self._ending[0].close("the gateway does not end it")
            return over.result()
        finally:
            if session not in self._ending:
                session.close("the client ends")

    def _over(self, over: asyncio.Future[str], session: Session, reason: str) -> None:
        if session in self._ending:
            self._ending.remove(session)
        if not over.done():
            over.set_result(reason)

    def _registered(self) -> None:
        self._status.sessions += 1
        self._phase(Phase.CONNECTED)

    def _visited(self, session: Session, stream: int) -> StreamHandler:
        self._status.visitors += 1
        self._status.active += 1
        session.accept(stream)
        return _NewStream(session, stream, self._options, self._left)

    def _left(self, relayed: StreamRelayed | None) -> None:
        self._status.active -= 1
        if relayed is None:
            self._status.failed += 1
        else:
            self._status.received += relayed.to_socket
            self._status.sent += relayed.to_stream


class _Handshake:
    """The first stream, with the handshake: the gateway ends it when it knows the secret."""

    buffered = 0

    def __init__(self, registered: Callable[[], None]) -> None:
        self._registered = registered

    def received(self, data: memoryview) -> None:
        pass

    def ended(self) -> None:
        self._registered()

    def dropped(self, reason: str) -> None:
        pass

    def may_send(self) -> None:
        pass


class _NewStream:
    """A visitor's stream until the local service has accepted: a ``StreamHandler`` that keeps what comes.

    One that sends nothing keeps no other waiting, and one that fails ends alone (T-16).
    """

    def __init__(
        self, session: Session, stream: int, options: ClientOptions, left: Callable[[StreamRelayed | None], None]
    ) -> None:
        self._session = session
        self._stream = stream
        self._options = options
        self._left = left
        self._first = bytearray()
        self._ended = False
        self._over = False
        self._dialling: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._silence = self._loop.call_later(options.dial_timeout, self._refuse)

    @property
    def buffered(self) -> int:
        """See ``StreamHandler``."""
        return len(self._first)

    def received(self, data: memoryview) -> None:
        """See ``StreamHandler``. The window bounds what is kept."""
        self._first += data
        self._session.count_buffered(len(data))  # may drop this stream
        if self._dialling is None and not self._over:
            self._silence.cancel()
            # Only what the first byte says counts: whether it is TLS.
            tls = self._first[0] == _TLS_HANDSHAKE
            target = self._options.local_tls if tls else self._options.local
            self._dialling = asyncio.create_task(self._dial(target))

    def ended(self) -> None:
        """See ``StreamHandler``."""
        self._ended = True
        if self._dialling is None:
            self._refuse()

    def dropped(self, reason: str) -> None:
        """See ``StreamHandler``."""
        if self._dialling is not None:
            self._dialling.cancel()
        self._give_up()

    def may_send(self) -> None:
        """See ``StreamHandler``."""

    async def _dial(self, target: HostPort | None) -> None:
        try:
            if target is None:
                raise ConnectionRefusedError
            async with asyncio.timeout(self._options.dial_timeout):
                sock = await _connect(target)
        except OSError:  # TimeoutError is one
            self._refuse()
            return
        self._session.count_buffered(-len(self._first))
        relay = StreamRelay(
            self._session,
            self._stream,
            sock,
            b"",
            timeouts=self._options.timeouts,
            done=partial(self._done, sock),
        )
        self._session.bind(self._stream, relay)
        relay.received(memoryview(bytes(self._first)))
        if self._ended:
            relay.ended()
        relay.start()

    def _done(self, sock: socket.socket, relayed: StreamRelayed) -> None:
        if relayed.ending is StreamEnding.REFUSED:
            close(sock)
        self._left(relayed)

    def _refuse(self) -> None:
        self._session.reset(self._stream)
        self._give_up()

    def _give_up(self) -> None:
        self._over = True
        self._silence.cancel()
        self._session.count_buffered(-len(self._first))
        self._left(None)


def _words(error: OSError) -> str:
    """The kernel's text for an error: asyncio has put the address in its place."""
    known = isinstance(error.errno, int) and error.errno > 0 and not isinstance(error, ssl.SSLError)
    return os.strerror(error.errno) if known and error.errno else error.strerror or str(error)


def _literal(host: str, port: int) -> Sequence[AddressInfo]:
    """What ``getaddrinfo`` gives for an IP literal, without a thread for it; empty: it is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, socket.SOCK_STREAM, 0, "", (host, port))]
    return []


async def _connect(address: HostPort) -> socket.socket:
    """A connected, non-blocking socket to the first address that accepts. Errors: ``OSError``."""
    loop = asyncio.get_running_loop()
    host, port = address
    found = _literal(host, port) or await resolve(host, port)
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, where in found:
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            send_at_once(sock)
            await loop.sock_connect(sock, where)
        except BaseException as error:
            if sock is not None:
                close(sock)
            if not isinstance(error, OSError):
                raise
            problem = error
        else:
            return sock
    raise problem
