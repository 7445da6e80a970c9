"""The gateway's side of all tunnels in one worker: clients register, visitors are relayed, sessions move to others."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Collection, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from tfgateway.net.sockets import close, ordinary
from tfgateway.redis_schema.tunnels import Connected, fingerprint
from tfgateway.settings import ProxySettings
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.api import Adopt, RelayedByTunnel, Visitor
from tfgateway.tunnel.digest import Digest, digest_of
from tfgateway.tunnel.gateway.failure_budget import FailureBudget
from tfgateway.tunnel.gateway.metrics import TunnelMetrics
from tfgateway.tunnel.gateway.migration import SessionHandover
from tfgateway.tunnel.gateway.newcomers import Newcomers
from tfgateway.tunnel.gateway.registration import Registration
from tfgateway.tunnel.gateway.registry import Client, Registry
from tfgateway.tunnel.gateway.takeovers import Takeovers
from tfgateway.tunnel.gateway.visits import REFUSED_PAUSE, Visits
from tfgateway.tunnel.links.messages import Content, SessionDelivery, VisitorDelivery
from tfgateway.tunnel.links.shared_key import shared_key
from tfgateway.tunnel.links.worker_links import WorkerLinks
from tfgateway.tunnel.notices import Notice, Outcome
from tfgateway.tunnel.session.limits import SessionLimits
from tfgateway.tunnel.session.session import Session, StreamHandler
from tfgateway.tunnel.yamux.connection import Role
from tfgateway.tunnel.yamux.extensions import Extension
from tfgateway.tunnel.yamux.windows import WindowBudget

_KEY = "tunnels.key"
_MAX_CLIENTS = 16
"""That share one secret."""
_WINDOWS = 64 * 1024 * 1024
"""Bytes by which the receive windows of all sessions may exceed the initial one."""
_UNKNOWN = Notice(Outcome.UNKNOWN)
_CROWDED = Notice(Outcome.CROWDED)
_DRAIN_LOOK = 0.05
"""Seconds between two looks at what is left."""

_log = logger("tunnel")


class TunnelServer:
    """``tunnel.api.Tunnels`` with real sessions. To be used from one event loop."""

    def __init__(
        self,
        settings: ProxySettings,
        metrics: TunnelMetrics,
        *,
        runtime: Path,
        name: str,
        adopt: Adopt,
        limits: SessionLimits | None = None,
    ) -> None:
        """runtime: directory of this gateway's workers alone, the others being reached there; name: of this worker.

        adopt: takes visitors that another worker hands over. Errors: ``OSError`` for a directory that cannot be used.
        """
        self._settings = settings
        self._metrics = metrics
        self._adopt = adopt
        self._limits = limits or SessionLimits(streams=settings.tunnel_streams)
        self._budget = WindowBudget(_WINDOWS)
        self._key = shared_key(runtime / _KEY)
        self._loop = asyncio.get_running_loop()
        self._registry = Registry(
            share=settings.tunnel_share,
            max_early=settings.tunnel_unknown,
            max_clients=_MAX_CLIENTS,
        )
        self._takeovers = Takeovers()
        self._failures = FailureBudget(burst=settings.tunnel_unknown, per_second=1.0)
        self._newcomers = Newcomers(
            settings,
            metrics,
            budget=self._budget,
            limits=self._limits,
            opened=self._registered,
            over=self._over,
            available=self._available,
        )
        self.accept = self._newcomers.accept
        self.accept_tls = self._newcomers.accept_tls
        self._clients: dict[Session, Client] = {}
        self._seen: set[Digest] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.changed = asyncio.Event()
        """Set when ``connected`` gives something else."""
        self._links = WorkerLinks(runtime, name, self)
        self._visits = Visits(
            settings, metrics, key=self._key, registry=self._registry, links=self._links, ended=self._available
        )
        self._handover = SessionHandover(
            self._links,
            self._registry,
            self._visits,
            release=self._release,
            keep=self._keep,
        )
        metrics.watch(
            up=lambda: len(self._registry),
            early=lambda: self._registry.early,
            streams=lambda: len(self._visits),
        )

    # What the proxy calls (``tunnel.api.Tunnels``).

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
            self._links.retract(digest)
        if self._links.draining:  # those that are back at another worker are not registered here any more
            revoked = [client for client in self._clients.values() if client.digest == digest]
        for client in revoked:
            client.end(Notice(Outcome.REVOKED))

    async def relay(self, visitor: Visitor) -> RelayedByTunnel:
        """See ``Tunnels``."""
        return await self._visits.relay(visitor, self._loop.time() + self._settings.tunnel_grace, hops=0)

    # Clients.

    def _registered(self, source: str, session: Session, stream: int, extensions: Extension) -> StreamHandler | None:
        """The client opened a stream: its first is the handshake, there are no others (T-17)."""
        if session not in self._newcomers:
            return None
        return Registration(
            session,
            stream,
            partial(self._introduced, source, session, extensions),
            partial(self._rejected, source),
        )

    def _rejected(self, source: str, session: Session, reason: str) -> None:
        self._metrics.registrations.labels("rejected").inc()
        self._failed(source, "handshake", reason)
        session.close(reason)

    def _failed(self, source: str, label: str, reason: str) -> None:
        """Count, and log as long as the source has not used up its budget: from then on one line says so."""
        now = self._loop.time()
        self._metrics.refusals.labels(label).inc()
        if self._failures.exhausted(source, now):
            return
        self._failures.failed(source, now)
        _log.info("tunnel client not registered", source=source, reason=reason)
        if self._failures.exhausted(source, now):
            _log.warning("a source failed too often: its next failures are only counted", source=source)

    def _introduced(self, source: str, session: Session, extensions: Extension, stream: int, secret: bytes) -> None:
        self._newcomers.discard(session)
        digest = digest_of(self._key, secret)
        client = Client(session, secret, digest, source, time.monotonic_ns(), stream, int(extensions))
        known = self._registry.knows(digest, secret)
        if not known and self._failures.exhausted(source, self._loop.time()):  # T-4: it is not held either
            self._metrics.registrations.labels("rejected").inc()
            self._failed(source, "unknown_secret", _UNKNOWN.reason)
            client.end(_UNKNOWN)
            return
        self._clients[session] = client
        if known:
            self._register(client)
            return
        self._metrics.registrations.labels("early").inc()
        self._failed(source, "unknown_secret", _UNKNOWN.reason)
        client.notify(_UNKNOWN)
        self._loop.call_later(self._settings.tunnel_unknown_time, self._still_unknown, client)
        for oldest in self._registry.add_early(client):
            oldest.end(_CROWDED)

    def _still_unknown(self, client: Client) -> None:
        if client.session in self._clients and not self._registry.knows(client.digest, client.secret):
            client.end(_UNKNOWN)

    def _register(self, client: Client, how: str = "") -> None:
        """how: "moved" here from another worker, "kept" in this one that drains, or empty: it has just come."""
        outcome = how or ("reconnected" if client.digest in self._seen else "new")
        self._seen.add(client.digest)
        replaced = self._registry.add(client)
        for older in replaced:
            if self._settings.tunnel_share:
                older.end(_CROWDED)
            else:
                self._replace(older, client.source)
        if outcome != "kept":
            self._metrics.registrations.labels(outcome).inc()
        if client in replaced:
            return
        self.changed.set()
        self._links.announce(client.digest, client.since, client.source)
        if not how:
            if client.extensions & Extension.NOTICES:
                client.notify(Notice(Outcome.REGISTERED))
                client.session.measure()
            else:
                client.session.end(client.registration)  # by this an old client knows that it is registered
        if outcome != "kept":
            _log.info("tunnel up", tunnel=client.digest.hex(), source=client.source, how=outcome)
        self._visits.client_changed(client.digest)
        if self._links.draining and outcome != "kept":
            self._spawn(self._handover.move([client]))

    def _replace(self, older: Client, source: str) -> None:
        """A newer client has its secret; source: IP literal, or empty: it is not known."""
        self._metrics.takeovers.inc()
        if self._takeovers.add(older.digest, self._loop.time()):
            _log.warning(
                "clients take a tunnel's secret from each other: each needs a secret of its own, or set tunnel_share",
                tunnel=older.digest.hex(),
                sources=[older.source, source],
            )
        older.end(Notice(Outcome.REPLACED, source))

    def _over(self, session: Session, reason: str) -> None:
        self._newcomers.discard(session)
        self._visits.forget(session)
        self._metrics.ended.inc()
        client = self._clients.pop(session, None)
        if client is None:
            return
        self._discard(client)
        _log.info("tunnel down", tunnel=client.digest.hex(), source=client.source, reason=reason)

    def _discard(self, client: Client) -> None:
        if self._registry.discard(client):
            self.changed.set()
            self._links.retract(client.digest)

    def _available(self, session: Session) -> None:
        client = self._clients.get(session)
        if client is not None:
            self._visits.client_changed(client.digest)

    # Other workers.

    def set_peers(self, names: Collection[str]) -> None:
        """The other workers of this gateway that live now."""
        self._links.set_peers(names)

    def connected(self) -> dict[str, Connected]:
        """Clients of this worker with a known secret, by its fingerprint: for ``report``."""
        ago = time.time_ns() - time.monotonic_ns()
        return {
            fingerprint(client.secret.decode("utf-8", "replace")): Connected(
                (client.since + ago) // 1_000_000_000, client.source
            )
            for client in self._registry.registered()
        }

    def connected_since(self) -> dict[Digest, int]:
        """See ``links.Owner``."""
        return self._registry.digests

    def peer_has(self, digest: Digest, since: int, source: str) -> None:
        """See ``links.Owner``."""
        for client in self._registry.sent_away_before(digest, since):
            self._discard(client)  # its visitors stay to their end
        for client in self._registry.older_than(digest, since):
            self._replace(client, source)
        self._visits.client_changed(digest)

    def delivered(self, content: Content, sockets: list[socket.socket]) -> None:
        """See ``links.Owner``."""
        if isinstance(content, VisitorDelivery):
            visitor = Visitor(
                sockets[0],
                content.first,
                content.source,
                content.plane,
                content.secret,
                content.context,
                lambda: content.addresses,
                content.proxy_protocol,
            )
            self._adopt(visitor, self._visits.relay(visitor, content.deadline, hops=content.hops + 1))
        else:
            self._resume(content, sockets)

    def _resume(self, state: SessionDelivery, sockets: list[socket.socket], *, kept: bool = False) -> bool:
        """Go on with a session of another worker, or with one that no other has taken. False: it has ended."""
        try:
            session = Session.resume(
                sockets[0],
                Role.SERVER,
                state.connection,
                state.unsent,
                limits=self._limits,
                budget=WindowBudget(self._limits.windows, self._budget),
                opened=partial(self._registered, state.source),
                over=self._over,
                available=self._available,
            )
        except OSError as error:
            for sock in sockets:
                close(sock)
            _log.warning("tunnel client lost", source=state.source, reason=error.strerror)
            return False
        client = Client(
            session,
            state.secret,
            digest_of(self._key, state.secret),
            state.source,
            state.since,
            state.registration,
            state.extensions,
        )
        self._clients[session] = client
        for stream, sock in zip(state.streams, sockets[1:], strict=True):
            self._adopt(*self._visits.resume(session, state.secret, stream, sock))
        if self._registry.knows(client.digest, client.secret):
            self._register(client, "kept" if kept else "moved")
        else:  # revoked, or not known to this worker yet
            self._loop.call_later(self._settings.tunnel_unknown_time, self._still_unknown, client)
            for oldest in self._registry.add_early(client):
                oldest.end(_CROWDED)
        return True

    def _keep(self, state: SessionDelivery, sockets: list[socket.socket]) -> bool:
        """Go on with a session that no other worker has taken. False: it has ended.

        To the proxy its visitors are gone, and it closes what it has of them: they come back with their own sockets.
        """
        kept: list[socket.socket] = []
        try:
            for sock in sockets:
                kept.append(ordinary(sock))  # noqa: PERF401 - those before one that fails are closed
        except OSError as error:
            for sock in (*kept, *sockets):
                close(sock)
            _log.warning("tunnel client lost", source=state.source, reason=error.strerror)
            return False
        return self._resume(state, kept, kept=True)

    def _release(self, client: Client) -> None:
        self._clients.pop(client.session, None)
        self._discard(client)

    # The end.

    async def drain(self) -> None:
        """No client is accepted any more: hand every session over to a worker that stays, with all that is in it.

        What cannot move ends when its last visitor has left: sessions inside TLS, whose clients are asked to connect
        again before, and all of them when no worker stays.
        Returns when no session is left here and none is on its way. Cancelled when time is up; ``close`` then cuts the
        rest.
        """
        self._links.drain()
        while True:
            while self._clients or self._newcomers or self._handover.moving:
                moved = await self._handover.move(list(self._clients.values()))
                await asyncio.sleep(_DRAIN_LOOK if moved else REFUSED_PAUSE)
            await self._links.quiesce()
            if not self._clients and not self._handover.moving:
                return

    def close(self) -> None:
        """End everything; again is harmless."""
        self._newcomers.close()
        for session in list(self._clients):
            session.close("this gateway ends")
        self._links.close()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
