"""All listening sockets of the DNS plane."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence

from structlog.typing import FilteringBoundLogger

from tfgateway.dns.answer.counters import QueryCounters
from tfgateway.dns.answer.fast_path import FastPath
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.rate_limit import RateLimiter
from tfgateway.dns.answer.respond import Reply, Transport, respond, servfail
from tfgateway.dns.answer.stream_path import StreamPath
from tfgateway.dns.answer.updates import needs_reconciler
from tfgateway.dns.server.sockets import prepare_udp
from tfgateway.dns.server.tcp import TcpListener
from tfgateway.dns.server.udp import UdpListener
from tfgateway.dns.server.updates.handler import UpdateHandler
from tfgateway.dns.zones.zones import Zones
from tfgateway.plane import Listening, share
from tfgateway.settings import DnsSettings


class Listeners:
    """UDP and TCP at every listening address."""

    def __init__(
        self,
        zones: Zones,
        service: ServerOptions,
        limiter: RateLimiter | None,
        settings: DnsSettings,
        counts: QueryCounters,
        log: FilteringBoundLogger,
        *,
        workers: int = 1,
        updates: UpdateHandler | None = None,
    ) -> None:
        """limiter: None: responses over UDP are not limited; workers: that share the connections that are allowed.

        updates: None: nobody but operators has keys, and nobody may change anything.
        """
        self._updates = updates
        self._zones = zones
        self._service = service
        self._counts = counts
        self._log = log
        self._fast = FastPath(
            zones, service, limiter, self._answer_udp, counts, needs_reconciler if updates is not None else None
        )
        self._udp: list[UdpListener] = []
        self._covered: dict[socket.socket, UdpListener | asyncio.Server] = {}
        """Another slot's socket -> what serves a duplicate of it."""
        self._tcp = TcpListener(
            self._answer_tcp,
            StreamPath(zones, service, counts),
            counts,
            idle=settings.tcp_idle,
            connections=share(settings.tcp_connections, workers),
            connections_per_client=settings.tcp_connections_per_client,
            later=self._answer_tcp_later if updates is not None else None,
        )

    @property
    def tcp_connections(self) -> int:
        """The number of open TCP connections."""
        return self._tcp.connections

    async def start(self, listening: Sequence[Listening]) -> None:
        """Serve these sockets, which listen already."""
        for one in listening:
            if one.endpoint.kind == "udp":
                self._udp.append(self._serve_udp(one.socket))
            else:
                await self._tcp.listen(one.socket)
        self._log.info("listening", addresses=[one.endpoint.address for one in listening], zones=len(self._zones))

    async def cover(self, listening: Sequence[Listening]) -> None:
        """Serve these sockets of other slots as well, and no others any more. Connections go on."""
        wanted = {one.socket: one for one in listening}
        for sock in self._covered.keys() - wanted.keys():
            self._covered.pop(sock).close()
        # Duplicates, to close them and not the socket; all before the first await, during which those may be closed.
        new = {sock: sock.dup() for sock in wanted.keys() - self._covered.keys()}
        for sock, own in new.items():
            if wanted[sock].endpoint.kind == "udp":
                self._covered[sock] = self._serve_udp(own)
            else:
                self._covered[sock] = await self._tcp.listen(own)

    def _serve_udp(self, sock: socket.socket) -> UdpListener:
        prepare_udp(sock, self._service.udp_size)
        listener = UdpListener(sock, self._fast, self._counts, self._log, self._updates)
        listener.start()
        return listener

    async def close(self) -> None:
        """Stop listening and end connections; harmless when nothing was started."""
        await self.cover(())
        for listener in self._udp:
            listener.close()
        await self._tcp.close()

    def _answer_udp(self, message: bytes, client: bytes) -> Reply | None:
        return self._respond(message, client, "udp")

    def _answer_tcp(self, message: bytes, client: bytes) -> Iterator[bytes]:
        return self._messages(self._respond(message, client, "tcp"), message)

    async def _answer_tcp_later(self, message: bytes, client: bytes) -> Iterator[bytes]:
        reply = await self._updates.answer(message, client, "tcp") if self._updates is not None else None
        return self._messages(reply, message)

    def _messages(self, reply: Reply | None, message: bytes) -> Iterator[bytes]:
        """The messages of a reply, which may be a zone."""
        if reply is None:
            return
        yield reply.message
        if reply.rest is None:
            return
        while True:
            try:
                yield reply.rest.send(int(time.time()))
            except StopIteration:
                return
            except Exception as error:
                self._log.error("zone transfer broken off", message=message.hex(), reason=repr(error), exc_info=True)
                raise ConnectionAbortedError from error

    def _respond(self, message: bytes, client: bytes, transport: Transport) -> Reply | None:
        """``respond`` that never raises: a query that it fails on gets SERVFAIL, and the next one is answered."""
        try:
            return respond(message, client, int(time.time()), self._zones, self._service, transport, self._counts)
        except Exception as error:
            self._log.error("query not answered", message=message.hex(), reason=repr(error), exc_info=True)
            return servfail(message, self._service, transport, self._counts)
