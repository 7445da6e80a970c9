"""The gateway's side of all tunnels, in one worker: clients come, visitors are led to them, both can move on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tfgateway.layout.tunnels import Connected, fingerprint
from tfgateway.settings import ProxySettings
from tfgateway.sockets import close, send_at_once
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.greeting import Greeting
from tfgateway.tunnel.link import Link
from tfgateway.tunnel.mesh import Mesh
from tfgateway.tunnel.messages import Content, SessionState, StreamState, VisitorState
from tfgateway.tunnel.metrics import TunnelMetrics
from tfgateway.tunnel.registry import Client, Digest, Registry, digest_of
from tfgateway.tunnel.relay import Ending, Relay, Relayed
from tfgateway.tunnel.seam import Adopt, Carried, NotAnswered, NoTunnel, Visitor
from tfgateway.tunnel.session import Channel, Limits, Session
from tfgateway.tunnel.sharedkey import shared_key
from tfgateway.tunnel.strangers import Patience
from tfgateway.tunnel.tls import secure
from tfgateway.tunnel.yamux.connection import Connection, Role

_KEY = "tunnels.key"
_HANDED_OVER = Carried("handed_over")
_MAX_HOPS = 3
_MAX_NEWCOMERS = 2048
"""Connections that have not said their secret; the oldest goes when there are more."""

_MAX_CLIENTS = 16
"""That share one secret."""
_DRAIN_LOOK = 0.05
"""Seconds between two looks at what is left."""
_AT_ONCE = 32
"""Sessions that are handed over at the same time."""
_REFUSED_PAUSE = 0.2
"""Seconds after a worker did not take what was handed over to it."""
_BACK_WITHIN = 5.0
"""Seconds after which a client that was told to connect again, and has not, is taken for one that does not listen."""

_log = logger("tunnel")


@dataclass(slots=True, eq=False)
class _Visit:
    """A visitor in a tunnel."""

    visitor: Visitor
    relay: Relay
    ended: asyncio.Future[Relayed | None]
    """None: it went on in another worker."""


class TunnelServer:
    """``seam.Tunnels`` with real sessions. To be used from one event loop."""

    def __init__(
        self,
        settings: ProxySettings,
        metrics: TunnelMetrics,
        *,
        runtime: Path,
        name: str,
        adopt: Adopt,
        limits: Limits | None = None,
    ) -> None:
        """runtime: directory of this gateway's workers alone, the others being reached there; name: of this worker.

        adopt: takes visitors that another worker hands over. Errors: ``OSError`` for a directory that cannot be used.
        """
        self._settings = settings
        self._metrics = metrics
        self._adopt = adopt
        self._limits = limits or Limits(streams=settings.tunnel_streams)
        self._key = shared_key(runtime / _KEY)
        self._loop = asyncio.get_running_loop()
        self._registry = Registry(
            share=settings.tunnel_share,
            max_strangers=settings.tunnel_unknown,
            max_clients=_MAX_CLIENTS,
        )
        self._patience = Patience(burst=settings.tunnel_unknown, per_second=1.0)
        self._newcomers: OrderedDict[Session, None] = OrderedDict()
        self._clients: dict[Session, Client] = {}
        self._visits: dict[Session, dict[int, _Visit]] = {}
        self._news: dict[Digest, set[asyncio.Future[None]]] = {}
        self._seen: set[Digest] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.changed = asyncio.Event()
        """Set when ``connected`` gives something else."""
        self._mesh = Mesh(runtime, name, self)
        self._moving = 0
        """Sessions that are on their way to another worker."""
        self._told_kept = False
        metrics.watch(
            up=lambda: len(self._registry),
            early=lambda: self._registry.strangers,
            streams=lambda: sum(map(len, self._visits.values())),
        )

    # What the proxy calls (``seam.Tunnels``).

    def add_secret(self, secret: bytes) -> None:
        """See ``Tunnels``."""
        digest = digest_of(self._key, secret)
        for client in self._registry.add_secret(digest, secret):
            self._register(client)

    def remove_secret(self, secret: bytes) -> None:
        """See ``Tunnels``."""
        digest = digest_of(self._key, secret)
        self._seen.discard(digest)
        revoked = self._registry.remove_secret(digest)
        if revoked:
            self.changed.set()
            self._mesh.retract(digest)
        if self._mesh.draining:  # those that are back at another worker are not registered here any more
            revoked = [client for client in self._clients.values() if client.digest == digest]
        for client in revoked:
            client.session.close("its secret was revoked")

    async def carry(self, visitor: Visitor) -> Carried:
        """See ``Tunnels``."""
        return await self._carry(visitor, self._loop.time() + self._settings.tunnel_grace, hops=0)

    # Clients.

    def accept(self, sock: socket.socket, source: str) -> None:
        """A client connected on the plain port: a non-blocking socket, and its IP literal."""
        if self._patience.exhausted(source, self._loop.time()):
            close(sock)
            return
        try:
            send_at_once(sock)
            session = Session(
                sock,
                Connection(Role.SERVER, max_streams=1),  # T-17
                limits=self._limits,
                opened=partial(self._greeted, source),
                over=self._over,
                available=self._available,
            )
        except OSError as error:
            close(sock)
            _log.warning("tunnel client lost", source=source, reason=error.strerror)
            return
        self._newcomers[session] = None
        self._loop.call_later(self._settings.head_timeout, self._no_secret_yet, session)  # T-2
        if len(self._newcomers) > _MAX_NEWCOMERS:
            next(iter(self._newcomers)).close("too many that do not say who they are")

    def accept_tls(self, context: ssl.SSLContext, sock: socket.socket, source: str) -> None:
        """The same on the port with TLS (T-21)."""
        if self._patience.exhausted(source, self._loop.time()) or len(self._tasks) > _MAX_NEWCOMERS:
            close(sock)
        else:
            self._spawn(self._accept_tls(context, sock, source))

    async def _accept_tls(self, context: ssl.SSLContext, sock: socket.socket, source: str) -> None:
        with contextlib.suppress(OSError):  # a scanner, most likely
            async with asyncio.timeout(self._settings.head_timeout):
                wrapped = await secure(sock, context, None)
            self.accept(wrapped, source)

    def _no_secret_yet(self, session: Session) -> None:
        if session in self._newcomers:
            session.close("it did not say its secret in time")

    def _greeted(self, source: str, session: Session, stream: int) -> Channel | None:
        """The client opened a stream: its first is the handshake, there are no others (T-17)."""
        if session not in self._newcomers:
            return None
        return Greeting(session, stream, partial(self._introduced, source, session), partial(self._rejected, source))

    def _rejected(self, source: str, session: Session, reason: str) -> None:
        self._metrics.registrations.labels("rejected").inc()
        self._patience.failed(source, self._loop.time())
        _log.info("tunnel client rejected", source=source, reason=reason)
        session.close(reason)

    def _introduced(self, source: str, session: Session, stream: int, secret: bytes) -> None:
        self._newcomers.pop(session, None)
        digest = digest_of(self._key, secret)
        client = Client(session, secret, digest, source, time.monotonic_ns(), stream)
        self._clients[session] = client
        if self._registry.knows(digest, secret):
            self._register(client)
            return
        self._metrics.registrations.labels("early").inc()
        self._patience.failed(source, self._loop.time())
        self._loop.call_later(self._settings.tunnel_unknown_time, self._still_unknown, client)
        for oldest in self._registry.add_stranger(client):
            oldest.session.close("its secret is unknown")

    def _still_unknown(self, client: Client) -> None:
        if client.session in self._clients and not self._registry.knows(client.digest, client.secret):
            client.session.close("its secret is unknown")

    def _register(self, client: Client, how: str = "") -> None:
        """how: "moved" here from another worker, "kept" in this one that drains, or empty: it has just come."""
        outcome = how or ("reconnected" if client.digest in self._seen else "new")
        self._seen.add(client.digest)
        replaced = self._registry.add(client)
        for older in replaced:
            older.session.close("a newer client has its secret")
        if outcome != "kept":
            self._metrics.registrations.labels(outcome).inc()
        if client in replaced:
            return
        self.changed.set()
        self._mesh.announce(client.digest, client.since)
        if not how:
            client.session.end(client.greeting)  # tells the client that it is registered
        if outcome != "kept":
            _log.info("tunnel up", tunnel=client.digest.hex(), source=client.source, how=outcome)
        self._tell_news(client.digest)
        if self._mesh.draining and outcome != "kept":
            self._spawn(self._move_all([client]))

    def _over(self, session: Session, reason: str) -> None:
        self._newcomers.pop(session, None)
        self._visits.pop(session, None)
        self._metrics.ended.inc()
        client = self._clients.pop(session, None)
        if client is None:
            return
        self._discard(client)
        _log.info("tunnel down", tunnel=client.digest.hex(), source=client.source, reason=reason)

    def _discard(self, client: Client) -> None:
        if self._registry.discard(client):
            self.changed.set()
            self._mesh.retract(client.digest)

    def _available(self, session: Session) -> None:
        client = self._clients.get(session)
        if client is not None:
            self._tell_news(client.digest)

    # Visitors.

    async def _carry(self, visitor: Visitor, deadline: float, *, hops: int) -> Carried:
        digest = digest_of(self._key, visitor.secret)
        try:
            while True:
                client = self._registry.find(digest)
                if client is not None:
                    carried = await self._lead(client, visitor)
                    if carried is not None:
                        return carried
                    deadline = self._loop.time() + self._settings.tunnel_grace
                    continue
                link = self._mesh.holder(digest)
                if link is not None and hops < _MAX_HOPS and not self._registry.has(digest):
                    state = VisitorState(
                        first=visitor.first,
                        source=visitor.source,
                        plane=visitor.plane,
                        secret=visitor.secret,
                        context=visitor.context,
                        deadline=deadline,
                        hops=hops,
                    )
                    if await link.deliver(state, [visitor.socket]):
                        close(visitor.socket)
                        return _HANDED_OVER
                    if self._loop.time() >= deadline:
                        raise NoTunnel("the worker that has its client does not take it")
                    await asyncio.sleep(_REFUSED_PAUSE)
                    continue
                await self._wait_for_news(digest, deadline)
        except asyncio.CancelledError:
            close(visitor.socket)
            raise

    async def _lead(self, client: Client, visitor: Visitor) -> Carried | None:
        """Serve a visitor by this client; None: the client was lost before it took him."""
        stream = client.session.open()
        ended: asyncio.Future[Relayed | None] = self._loop.create_future()
        relay = Relay(
            client.session,
            stream,
            visitor.socket,
            visitor.first,
            idle_timeout=self._settings.idle_timeout,
            done=partial(self._ended, ended),
        )
        self._join(client.session, stream, _Visit(visitor, relay, ended))
        return await self._account(client.session, stream, ended, relay)

    def _join(self, session: Session, stream: int, visit: _Visit) -> None:
        self._visits.setdefault(session, {})[stream] = visit
        session.bind(stream, visit.relay)
        visit.relay.start()

    @staticmethod
    def _ended(ended: asyncio.Future[Relayed | None], relayed: Relayed) -> None:
        if not ended.done():
            ended.set_result(relayed)

    async def _account(
        self, session: Session, stream: int, ended: asyncio.Future[Relayed | None], relay: Relay
    ) -> Carried | None:
        try:
            relayed = await ended
        except asyncio.CancelledError:
            relay.cut()
            self._metrics.visits.labels("cut").inc()
            raise
        finally:
            self._visits.get(session, {}).pop(stream, None)
            self._available(session)
        if relayed is None:
            return _HANDED_OVER
        if relayed.untouched:
            return None
        self._metrics.visits.labels(relayed.ending).inc()
        self._metrics.bytes_to_client.inc(relayed.to_stream)
        self._metrics.bytes_to_visitor.inc(relayed.to_socket)
        if relayed.ending is Ending.REFUSED:
            raise NotAnswered("the client dropped the visitor")
        return Carried(relayed.ending, relayed.to_stream, relayed.to_socket)

    async def _wait_for_news(self, digest: Digest, deadline: float) -> None:
        news: asyncio.Future[None] = self._loop.create_future()
        waiting = self._news.setdefault(digest, set())
        waiting.add(news)
        try:
            async with asyncio.timeout_at(deadline):
                await news
        except TimeoutError:
            raise NoTunnel("no client with this secret is connected") from None
        finally:
            waiting.discard(news)
            if not waiting and self._news.get(digest) is waiting:
                del self._news[digest]

    def _tell_news(self, digest: Digest) -> None:
        for news in self._news.get(digest, ()):
            if not news.done():
                news.set_result(None)

    # Other workers.

    def set_peers(self, names: Collection[str]) -> None:
        """The other workers of this gateway that live now."""
        self._mesh.set_peers(names)

    def connected(self) -> dict[str, Connected]:
        """Clients of this worker with a known secret, by its fingerprint: what ``report`` tells."""
        ago = time.time_ns() - time.monotonic_ns()
        return {
            fingerprint(client.secret.decode("utf-8", "replace")): Connected(
                (client.since + ago) // 1_000_000_000, client.source
            )
            for client in self._registry.registered()
        }

    def held(self) -> dict[Digest, int]:
        """See ``mesh.Owner``."""
        return self._registry.digests

    def peer_has(self, digest: Digest, since: int) -> None:
        """See ``mesh.Owner``."""
        for client in self._registry.told_before(digest, since):
            self._discard(client)  # its visitors stay to their end
        for client in self._registry.older_than(digest, since):
            client.session.close("a newer client has its secret")
        self._tell_news(digest)

    def delivered(self, content: Content, sockets: list[socket.socket]) -> None:
        """See ``mesh.Owner``."""
        if isinstance(content, VisitorState):
            visitor = Visitor(sockets[0], content.first, content.source, content.plane, content.secret, content.context)
            self._adopt(visitor, self._carry(visitor, content.deadline, hops=content.hops + 1))
        else:
            self._resume(content, sockets)

    def _resume(self, state: SessionState, sockets: list[socket.socket], *, kept: bool = False) -> None:
        """Go on with a session of another worker, or with one of this worker that no other has taken."""
        try:
            session = Session.resume(
                sockets[0],
                Role.SERVER,
                state.connection,
                state.unsent,
                limits=self._limits,
                opened=partial(self._greeted, state.source),
                over=self._over,
                available=self._available,
            )
        except OSError as error:
            for sock in sockets:
                close(sock)
            _log.warning("tunnel client lost", source=state.source, reason=error.strerror)
            return
        client = Client(
            session, state.secret, digest_of(self._key, state.secret), state.source, state.since, state.greeting
        )
        self._clients[session] = client
        for stream, sock in zip(state.streams, sockets[1:], strict=True):
            visitor = Visitor(sock, b"", stream.source, stream.plane, state.secret, stream.context)
            ended: asyncio.Future[Relayed | None] = self._loop.create_future()
            relay = Relay.resume(
                session,
                stream.stream,
                sock,
                stream.relay,
                idle_timeout=self._settings.idle_timeout,
                done=partial(self._ended, ended),
            )
            self._join(session, stream.stream, _Visit(visitor, relay, ended))
            self._adopt(visitor, self._went_on(session, stream.stream, ended, relay))
        if self._registry.knows(client.digest, client.secret):
            self._register(client, "kept" if kept else "moved")
        else:  # revoked, or this worker has not heard of it yet
            self._loop.call_later(self._settings.tunnel_unknown_time, self._still_unknown, client)
            for oldest in self._registry.add_stranger(client):
                oldest.session.close("its secret is unknown")

    async def _went_on(
        self, session: Session, stream: int, ended: asyncio.Future[Relayed | None], relay: Relay
    ) -> Carried:
        carried = await self._account(session, stream, ended, relay)
        if carried is None:
            raise NotAnswered("the client was lost")
        return carried

    # The end.

    async def drain(self) -> None:
        """No client is accepted any more: hand every session over to a worker that stays, with all that is in it.

        What cannot move ends when its last visitor has left: sessions inside TLS, whose clients are told to connect
        again before, and all of them when no worker stays.
        Returns when no session is left here and none is on its way. Cancelled when time is up; ``close`` then cuts the
        rest.
        """
        self._mesh.drain()
        while True:
            while self._clients or self._newcomers or self._moving:
                moved = await self._move_all(list(self._clients.values()))
                await asyncio.sleep(_DRAIN_LOOK if moved else _REFUSED_PAUSE)
            await self._mesh.settled()
            if not self._clients and not self._moving:
                return

    async def _move_all(self, clients: Sequence[Client]) -> bool:
        """Move each. False: some that other workers would not take are here again."""
        kept: list[str] = []
        for start in range(0, len(clients), _AT_ONCE):
            part = clients[start : start + _AT_ONCE]
            moved = await asyncio.gather(*map(self._move, part))
            kept += [client.digest.hex() for client, gone in zip(part, moved, strict=True) if not gone]
        if kept and not self._told_kept:
            _log.error("tunnels stay in a worker that ends: no other takes them; trying again", tunnels=kept[:10])
        self._told_kept = bool(kept)
        return not kept

    async def _move(self, client: Client) -> bool:
        """Hand one session over, or close it when it is idle and cannot be handed over. False: it was refused."""
        session = client.session
        if session.closed:
            return True
        if next(self._mesh.successors(), None) is None:
            # As long as somebody has not been heard of, he may be the one who stays.
            if session.idle and self._mesh.complete:
                session.close("this worker ends")
            return True
        if session.secure:
            self._send_away(client)
            return True
        visits = self._visits.pop(session, {})
        self._clients.pop(session, None)
        self._discard(client)
        streams = tuple(
            StreamState(stream, visit.relay.release(), visit.visitor.source, visit.visitor.plane, visit.visitor.context)
            for stream, visit in visits.items()
        )
        sock, connection, unsent = session.release()
        state = SessionState(
            secret=client.secret,
            source=client.source,
            since=client.since,
            greeting=client.greeting,
            connection=connection,
            unsent=unsent,
            streams=streams,
        )
        sockets = [sock, *(visit.relay.socket for visit in visits.values())]
        self._moving += 1
        try:
            taken = await self._deliver(state, sockets)
        finally:
            self._moving -= 1
        if taken:
            for one in sockets:
                close(one)
        else:
            self._resume(state, sockets, kept=True)
        for visit in visits.values():
            if not visit.ended.done():
                visit.ended.set_result(None)
        return taken

    async def _deliver(self, state: SessionState, sockets: Sequence[socket.socket]) -> bool:
        """To the first that takes it; each is asked once."""
        asked: list[Link] = []
        for link in self._mesh.successors():
            if link in asked:
                break
            asked.append(link)
            if await link.deliver(state, sockets):
                return True
        return False

    def _send_away(self, client: Client) -> None:
        """Visitors are led to this session until its client is back at another worker, and those in it stay."""
        now = self._loop.time()
        if not client.told:
            client.told = now
            client.session.leave()
        elif client.session.idle and (not self._registry.holds(client) or now > client.told + _BACK_WITHIN):
            client.session.close("this worker ends")

    def close(self) -> None:
        """End everything; again is harmless."""
        for session in [*self._newcomers, *self._clients]:
            session.close("this gateway ends")
        self._mesh.close()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
