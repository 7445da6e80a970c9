"""One visitor from the accepted connection to the closed one: sniff, route, dial, relay, account for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

from tfgateway.errors import ParseError
from tfgateway.proxy.answers import BAD_REQUEST, HEAD_TIMEOUT, HTTP2_PREFACE, NO_TUNNEL, UNKNOWN_HOST, Refused
from tfgateway.proxy.clienthello import HANDSHAKE_RECORD, ClientHelloParser
from tfgateway.proxy.dial import Dialler
from tfgateway.proxy.httphead import Http2Preface, RequestHeadParser
from tfgateway.proxy.metrics import ProxyMetrics
from tfgateway.proxy.relay import relay
from tfgateway.proxy.routing import Plane, Route, RouteTable
from tfgateway.settings import ProxySettings
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.seam import NoTunnel, Tunnels, Visitor

_READ_SIZE = 16 * 1024
_FAREWELL_TIME = 2.0  # seconds for an answer to leave and for the visitor to close
_FAREWELL_BYTES = 256 * 1024  # octets that are read and thrown away meanwhile

_log = logger("proxy")


@dataclass(slots=True)
class Visit:
    """What is known of a connection so far: its line in the access log."""

    source: str
    listener: Plane
    speaks: Plane | None = None
    """The protocol that a refusal is answered in; None: nothing was said yet, or neither of the two."""
    method: str = ""
    host: str = ""
    target: str = ""
    outcome: str = "error"
    detail: str = ""
    to_target: int = 0
    to_visitor: int = 0


class _Gone(Exception):
    """The visitor ended before he had said what he wants."""


class Forwarder:
    """Serves connections. Each ends with both sockets closed (T-12), its figures counted and one access log line."""

    def __init__(
        self, settings: ProxySettings, table: RouteTable, dialler: Dialler, tunnels: Tunnels, metrics: ProxyMetrics
    ) -> None:
        self._settings = settings
        self._table = table
        self._dialler = dialler
        self._tunnels = tunnels
        self._metrics = metrics

    async def serve(self, visitor: socket.socket, source: str, listener: Plane) -> None:
        """Serve one accepted, non-blocking socket to its end. Raises nothing but cancellation."""
        visit = Visit(source, listener)
        clock = asyncio.get_running_loop().time
        started = clock()
        self._metrics.active.labels(listener).inc()
        try:
            await self._serve(visitor, visit)
        except _Gone:
            visit.outcome = "no_request"
        except OSError as error:
            visit.outcome, visit.detail = "reset", error.strerror or ""
        except asyncio.CancelledError:
            visit.outcome = "cut"
            raise
        except Exception:
            # One connection that this program fails on must not end the others.
            _log.exception("connection not served", source=source, listener=listener)
        finally:
            visitor.close()
            self._metrics.active.labels(listener).dec()
            self.account(visit, clock() - started)

    def account(self, visit: Visit, seconds: float) -> None:
        """Count a connection that has ended and write its line in the access log."""
        self._metrics.connections.labels(visit.listener, visit.outcome).inc()
        self._metrics.bytes_to_target.inc(visit.to_target)
        self._metrics.bytes_to_visitor.inc(visit.to_visitor)
        _log.info(
            "connection",
            listener=visit.listener,
            source=visit.source,
            host=visit.host,
            target=visit.target,
            outcome=visit.outcome,
            detail=visit.detail,
            to_target=visit.to_target,
            to_visitor=visit.to_visitor,
            seconds=round(seconds, 6),
        )

    async def _serve(self, visitor: socket.socket, visit: Visit) -> None:
        try:
            plane, first = await self._sniff(visitor, visit)
            route = self._route(visit.host, plane)
            if route.secret:
                await self._carry(visitor, visit, plane, first, route.secret)
                return
            target = await self._dial(route, route.port(plane), visit)
        except Refused as refused:
            visit.outcome, visit.detail = refused.refusal.outcome, refused.detail
            await _farewell(visitor, refused.refusal.answer(visit.speaks, visit.method))
            return
        with target:
            relayed = await relay(visitor, target, first, idle_timeout=self._settings.idle_timeout)
        visit.outcome, visit.to_target, visit.to_visitor = relayed.ending, relayed.to_target, relayed.to_visitor

    async def _sniff(self, visitor: socket.socket, visit: Visit) -> tuple[Plane, bytes]:
        """What kind of traffic it is, and the bytes read so far; notes the host in ``visit``."""
        try:
            async with asyncio.timeout(self._settings.head_timeout):  # T-2
                if visit.listener is Plane.TLS:
                    return await _sniff_tls(visitor, visit)
                return await _sniff_http(visitor, visit)
        except TimeoutError as error:
            raise Refused(HEAD_TIMEOUT) from error
        except Http2Preface as error:
            raise Refused(HTTP2_PREFACE) from error
        except ParseError as error:
            raise Refused(BAD_REQUEST, str(error)) from error

    def _route(self, host: str, plane: Plane) -> Route:
        route = self._table.find(host)
        if route is None:
            raise Refused(UNKNOWN_HOST)
        if not route.secret and not route.port(plane):
            raise Refused(UNKNOWN_HOST, f"the service has no {plane} port")
        return route

    async def _carry(self, visitor: socket.socket, visit: Visit, plane: Plane, first: bytes, secret: bytes) -> None:
        visit.target = "tunnel"
        try:
            carried = await self._tunnels.carry(Visitor(visitor, first, visit.source, plane, secret))
        except NoTunnel as error:
            raise Refused(NO_TUNNEL) from error
        visit.outcome, visit.to_target, visit.to_visitor = carried.ending, carried.to_target, carried.to_visitor

    async def _dial(self, route: Route, port: int, visit: Visit) -> socket.socket:
        visit.target = f"[{route.address}]:{port}" if ":" in route.address else f"{route.address}:{port}"
        clock = asyncio.get_running_loop().time
        started = clock()
        target = await self._dialler.dial(route, port)
        self._metrics.dial_seconds.observe(clock() - started)
        return target


async def _sniff_http(visitor: socket.socket, visit: Visit) -> tuple[Plane, bytes]:
    parser = RequestHeadParser()
    head = None
    while head is None:
        data = await _read(visitor)
        visit.speaks = Plane.HTTP
        head = parser.feed(data)
    visit.method, visit.host = head.method, head.host
    return Plane.HTTP, bytes(parser.received)


async def _sniff_tls(visitor: socket.socket, visit: Visit) -> tuple[Plane, bytes]:
    data = await _read(visitor)
    if data[0] != HANDSHAKE_RECORD:
        return Plane.HTTP, data  # no TLS: nameless, and for the plain port of CATCH_ALL (spec tcprouter §3)
    visit.speaks = Plane.TLS
    parser = ClientHelloParser()
    hello = parser.feed(data)
    while hello is None:
        hello = parser.feed(await _read(visitor))
    visit.host = hello.server_name
    return Plane.TLS, bytes(parser.received)


async def _read(visitor: socket.socket) -> bytes:
    data = await asyncio.get_running_loop().sock_recv(visitor, _READ_SIZE)
    if not data:
        raise _Gone
    return data


async def _farewell(visitor: socket.socket, answer: bytes) -> None:
    """Send the answer and wait for the end: closing with bytes unread would reset the answer away (RFC 9112 §9.6)."""
    if not answer:
        return
    loop = asyncio.get_running_loop()
    left = _FAREWELL_BYTES
    with contextlib.suppress(OSError):  # TimeoutError is one: whoever does not listen misses his answer
        async with asyncio.timeout(_FAREWELL_TIME):
            await loop.sock_sendall(visitor, answer)
            visitor.shutdown(socket.SHUT_WR)
            while left > 0 and (data := await loop.sock_recv(visitor, _READ_SIZE)):
                left -= len(data)
