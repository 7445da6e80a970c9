"""Visitors in one worker: relayed through the session of their client, or handed over to the worker that has it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from tfgateway.net import proxyproto
from tfgateway.net.proxyproto import Addresses
from tfgateway.net.sockets import close
from tfgateway.settings import ProxySettings
from tfgateway.tunnel.api import DialFailed, NoTunnel, RelayedByTunnel, Visitor
from tfgateway.tunnel.digest import Digest, digest_of
from tfgateway.tunnel.gateway.metrics import TunnelMetrics
from tfgateway.tunnel.gateway.registry import Client, Registry
from tfgateway.tunnel.links.messages import StreamDelivery, VisitorDelivery
from tfgateway.tunnel.links.worker_links import WorkerLinks
from tfgateway.tunnel.session.limits import RelayTimeouts
from tfgateway.tunnel.session.session import Session
from tfgateway.tunnel.session.stream_relay import StreamEnding, StreamRelay, StreamRelayed
from tfgateway.tunnel.yamux.extensions import NONE, Extension

REFUSED_PAUSE = 0.2
"""Seconds after a worker did not take what was handed over to it."""
_HANDED_OVER = RelayedByTunnel("handed_over")
_MAX_HOPS = 3
_ADDRESS, _PASS_ON = int(Extension.ADDRESS), int(Extension.PASS_ON)


@dataclass(slots=True, eq=False)
class _Visit:
    """A visitor in a tunnel."""

    visitor: Visitor
    relay: StreamRelay
    ended: asyncio.Future[StreamRelayed | None]
    """None: it went on in another worker."""


@dataclass(frozen=True)
class Released:
    """The visits of a session that goes on elsewhere."""

    streams: tuple[StreamDelivery, ...]
    sockets: list[socket.socket]
    """Of the visitors, in the order of ``streams``."""
    _ended: list[asyncio.Future[StreamRelayed | None]]

    def gone(self) -> None:
        """Nothing is left of them here."""
        for ended in self._ended:
            if not ended.done():
                ended.set_result(None)


class Visits:
    """All of one worker."""

    def __init__(
        self,
        settings: ProxySettings,
        metrics: TunnelMetrics,
        *,
        key: bytes,
        registry: Registry,
        links: WorkerLinks,
        ended: Callable[[Session], None],
    ) -> None:
        """key: of ``digest_of``. ended: called after each visit, with the session that has room for another one."""
        self._settings = settings
        self._timeouts = RelayTimeouts(settings.idle_timeout, settings.half_closed_timeout)
        self._metrics = metrics
        self._key = key
        self._registry = registry
        self._links = links
        self._session_has_room = ended
        self._visits: dict[Session, dict[int, _Visit]] = {}
        self._waiting: dict[Digest, set[asyncio.Future[None]]] = {}
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return sum(map(len, self._visits.values()))

    async def relay(self, visitor: Visitor, deadline: float, *, hops: int) -> RelayedByTunnel:
        """See ``Tunnels``. deadline: of the event loop, for a client to come; hops: workers that handed it on."""
        digest = digest_of(self._key, visitor.secret)
        try:
            while True:
                client = self._registry.find(digest)
                if client is not None:
                    relayed = await self._route(client, visitor)
                    if relayed is not None:
                        return relayed
                    deadline = self._loop.time() + self._settings.tunnel_grace
                    continue
                link = self._links.holder(digest)
                refused = self._registry.refusal(digest)
                if link is not None and hops < _MAX_HOPS and (refused or not self._registry.has(digest)):
                    state = VisitorDelivery(
                        first=visitor.first,
                        source=visitor.source,
                        plane=visitor.protocol,
                        secret=visitor.secret,
                        context=visitor.context,
                        deadline=deadline,
                        hops=hops,
                        addresses=_addresses(visitor),
                        proxy_protocol=visitor.proxy_protocol,
                    )
                    if await link.deliver(state, [visitor.socket]):
                        close(visitor.socket)
                        return _HANDED_OVER
                    if self._loop.time() >= deadline:
                        raise NoTunnel("the worker that has its client does not take it")
                    await asyncio.sleep(REFUSED_PAUSE)
                    continue
                if refused:
                    raise NoTunnel(refused)
                await self._wait_for_change(digest, deadline)
        except asyncio.CancelledError:
            close(visitor.socket)
            raise

    def client_changed(self, digest: Digest) -> None:
        """Something has changed for visitors that wait for a client with this secret."""
        for changed in self._waiting.get(digest, ()):
            if not changed.done():
                changed.set_result(None)

    def resume(
        self, session: Session, secret: bytes, stream: StreamDelivery, sock: socket.socket
    ) -> tuple[Visitor, Coroutine[Any, Any, RelayedByTunnel]]:
        """Go on with a visit that was released; for ``Adopt``."""
        visitor = Visitor(sock, b"", stream.source, stream.plane, secret, stream.context)
        ended: asyncio.Future[StreamRelayed | None] = self._loop.create_future()
        relay = StreamRelay.resume(
            session,
            stream.stream,
            sock,
            stream.relay,
            timeouts=self._timeouts,
            done=partial(self._ended, ended),
        )
        self._join(session, stream.stream, _Visit(visitor, relay, ended))
        return visitor, self._went_on(session, stream.stream, ended, relay)

    def release(self, session: Session) -> Released:
        """Stop all of a session where they are: the relays own the sockets no more.

        Those that have ended, and only wait to be counted, have no socket any more: they stay.
        """
        visits = {stream: visit for stream, visit in self._visits.pop(session, {}).items() if not visit.ended.done()}
        streams = tuple(
            StreamDelivery(
                stream, visit.relay.release(), visit.visitor.source, visit.visitor.protocol, visit.visitor.context
            )
            for stream, visit in visits.items()
        )
        return Released(
            streams, [visit.relay.socket for visit in visits.values()], [visit.ended for visit in visits.values()]
        )

    def forget(self, session: Session) -> None:
        """A session has ended, and its visits with it."""
        self._visits.pop(session, None)

    async def _route(self, client: Client, visitor: Visitor) -> RelayedByTunnel | None:
        """Serve a visitor by this client; None: the client was lost before it took the visitor."""
        extensions = _for_visitor(client.extensions, visitor)
        header = proxyproto.encode(visitor.proxy_protocol or 2, _addresses(visitor)) if extensions else b""
        stream = client.session.open(extensions)
        client.session.expect_ack()
        ended: asyncio.Future[StreamRelayed | None] = self._loop.create_future()
        relay = StreamRelay(
            client.session,
            stream,
            visitor.socket,
            header + visitor.first,
            timeouts=self._timeouts,
            done=partial(self._ended, ended),
        )
        self._join(client.session, stream, _Visit(visitor, relay, ended))
        return await self._account(client.session, stream, ended, relay)

    def _join(self, session: Session, stream: int, visit: _Visit) -> None:
        self._visits.setdefault(session, {})[stream] = visit
        session.bind(stream, visit.relay)
        visit.relay.start()

    @staticmethod
    def _ended(ended: asyncio.Future[StreamRelayed | None], relayed: StreamRelayed) -> None:
        if not ended.done():
            ended.set_result(relayed)

    async def _account(
        self, session: Session, stream: int, ended: asyncio.Future[StreamRelayed | None], relay: StreamRelay
    ) -> RelayedByTunnel | None:
        try:
            relayed = await ended
        except asyncio.CancelledError:
            relay.cut()
            self._metrics.visits.labels("cut").inc()
            raise
        finally:
            self._visits.get(session, {}).pop(stream, None)
            self._session_has_room(session)
        if relayed is None:
            return _HANDED_OVER
        if relayed.untouched:
            return None
        self._metrics.visits.labels(relayed.ending).inc()
        self._metrics.bytes_to_client.inc(relayed.to_stream)
        self._metrics.bytes_to_visitor.inc(relayed.to_socket)
        if relayed.ending is StreamEnding.REFUSED:
            raise DialFailed("the client dropped the visitor")
        return RelayedByTunnel(relayed.ending, relayed.to_stream, relayed.to_socket)

    async def _went_on(
        self, session: Session, stream: int, ended: asyncio.Future[StreamRelayed | None], relay: StreamRelay
    ) -> RelayedByTunnel:
        relayed = await self._account(session, stream, ended, relay)
        if relayed is None:
            raise DialFailed("the client was lost")
        return relayed

    async def _wait_for_change(self, digest: Digest, deadline: float) -> None:
        changed: asyncio.Future[None] = self._loop.create_future()
        waiting = self._waiting.setdefault(digest, set())
        waiting.add(changed)
        try:
            async with asyncio.timeout_at(deadline):
                await changed
        except TimeoutError:
            raise NoTunnel("no client with this secret is connected") from None
        finally:
            waiting.discard(changed)
            if not waiting and self._waiting.get(digest) is waiting:
                del self._waiting[digest]


def _addresses(visitor: Visitor) -> Addresses | None:
    try:
        return visitor.addresses()
    except OSError:  # it has left, as its relay will notice
        return None


def _for_visitor(client: int, visitor: Visitor) -> Extension:
    """What a stream begins with: a PROXY header for a client that asks for it, or that passes it on to its service."""
    if visitor.proxy_protocol and client & _PASS_ON:
        return Extension.ADDRESS | Extension.PASS_ON
    return Extension.ADDRESS if client & _ADDRESS else NONE
