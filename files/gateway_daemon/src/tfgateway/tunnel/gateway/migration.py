"""Sessions of a worker that drains, handed over to those that stay, with the visitors in them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from tfgateway.net.sockets import close
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.gateway.registry import Client, Registry
from tfgateway.tunnel.gateway.visits import Visits
from tfgateway.tunnel.links.link import Link
from tfgateway.tunnel.links.messages import SessionDelivery
from tfgateway.tunnel.links.worker_links import WorkerLinks

_AT_ONCE = 32
"""Sessions that are handed over at the same time."""
_BACK_WITHIN = 5.0
"""Seconds within which a client connects again when it is asked to; one that has not by then never will."""

_log = logger("tunnel")


class SessionHandover:
    """All of one worker."""

    def __init__(
        self,
        links: WorkerLinks,
        registry: Registry,
        visits: Visits,
        *,
        release: Callable[[Client], None],
        keep: Callable[[SessionDelivery, list[socket.socket]], bool],
    ) -> None:
        """release: called before a client is handed over: this worker does not have it any more.

        keep: go on here with what no other worker has taken; False: that was not possible, and it has ended.
        """
        self._links = links
        self._registry = registry
        self._visits = visits
        self._release = release
        self._keep = keep
        self._loop = asyncio.get_running_loop()
        self._reported = False
        self.moving = 0
        """Sessions that are on their way to another worker."""

    async def move(self, clients: Sequence[Client]) -> bool:
        """Move each. False: some that other workers would not take are here again."""
        kept: list[str] = []
        for start in range(0, len(clients), _AT_ONCE):
            part = clients[start : start + _AT_ONCE]
            moved = await asyncio.gather(*map(self._move, part))
            kept += [client.digest.hex() for client, gone in zip(part, moved, strict=True) if not gone]
        if kept and not self._reported:
            _log.error("tunnels stay in a worker that ends: no other takes them; trying again", tunnels=kept[:10])
        self._reported = bool(kept)
        return not kept

    async def _move(self, client: Client) -> bool:
        """Hand one session over, or close it when it is idle and cannot be handed over. False: it was refused."""
        session = client.session
        if session.closed:
            return True
        if next(self._links.successors(), None) is None:
            # A peer that has not sent its ``Hello`` yet may be the one that stays.
            if session.idle and self._links.complete:
                session.close("this worker ends")
            return True
        if session.secure:
            self._send_away(client)
            return True
        self._release(client)
        visits = self._visits.release(session)
        sock, connection, unsent = session.release()
        state = SessionDelivery(
            secret=client.secret,
            source=client.source,
            since=client.since,
            registration=client.registration,
            connection=connection,
            unsent=unsent,
            streams=visits.streams,
            extensions=client.extensions,
        )
        sockets = [sock, *visits.sockets]
        self.moving += 1
        try:
            taken = await self._deliver(state, sockets)
        finally:
            self.moving -= 1
        if taken:
            for one in sockets:
                close(one)
        kept = not taken and self._keep(state, sockets)
        visits.gone()
        return not kept

    async def _deliver(self, state: SessionDelivery, sockets: Sequence[socket.socket]) -> bool:
        """To the first that takes it; each is asked once."""
        asked: list[Link] = []
        for link in self._links.successors():
            if link in asked:
                break
            asked.append(link)
            if await link.deliver(state, sockets):
                return True
        return False

    def _send_away(self, client: Client) -> None:
        """Visitors are routed to this session until its client is back at another worker, and those in it stay."""
        now = self._loop.time()
        if not client.sent_away:
            client.sent_away = now
            client.session.leave()
        elif client.session.idle and (not self._registry.holds(client) or now > client.sent_away + _BACK_WITHIN):
            client.session.close("this worker ends")
