"""One visitor from the accepted connection to the closed one: read, route, dial, relay, account for it.

A state machine on the engine: no task of its own, and nothing that waits. Only a visitor of a tunnel gets a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Collection, Coroutine
from typing import Any

import msgspec

from tfgateway.errors import ParseError
from tfgateway.proxy import refusals
from tfgateway.proxy.context import ProxyContext
from tfgateway.proxy.eventloop.deadlines import Deadlines
from tfgateway.proxy.eventloop.engine import BROKEN
from tfgateway.proxy.parse import proxyproto
from tfgateway.proxy.parse.clienthello import HANDSHAKE_RECORD, ClientHelloParser, read_usual_hello
from tfgateway.proxy.parse.httphead import (
    HeadTooLarge,
    Http2Preface,
    NotImplementedHere,
    RequestHeadParser,
    VersionNotSupported,
    read_usual_head,
)
from tfgateway.proxy.protocol import HTTP, TLS, Plane
from tfgateway.proxy.refusals import Refusal, Refused
from tfgateway.proxy.relay.relay import Ending, Relay, Relayed
from tfgateway.proxy.routing.table import Route
from tfgateway.proxy.upstream.balance import Member
from tfgateway.proxy.upstream.dial import refused
from tfgateway.sockets import keep_alive, ordinary
from tfgateway.targets import IPNetwork
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.api import DialFailed, NoTunnel, RelayedByTunnel, Visitor

_READ_SIZE = 16 * 1024
_FAREWELL_BYTES = 256 * 1024  # octets that are read and thrown away after an answer
_MOST_TRIES = 3  # targets of a service, or addresses of one, for one visitor

_log = logger("proxy")


_UNREADABLE: dict[type[ParseError], Refusal] = {
    HeadTooLarge: refusals.HEAD_TOO_LARGE,
    Http2Preface: refusals.HTTP2_PREFACE,
    NotImplementedHere: refusals.NOT_IMPLEMENTED,
    VersionNotSupported: refusals.VERSION_NOT_SUPPORTED,
}
_HEAD, _DIAL, _RELAY, _TUNNEL, _FAREWELL, _OVER = range(6)
"""Stages of a connection."""


class _Notes(msgspec.Struct, array_like=True):
    """What goes with a visitor of a tunnel into another worker."""

    listener: Plane
    started: float
    """By the monotonic clock, which all processes of a machine share."""
    method: str
    host: str
    spoke: bool


class Connection:
    """An accepted visitor. Whatever happens, his sockets are closed in the end (T-12), and he is counted once."""

    __slots__ = (
        "_address",
        "_announced",
        "_context",
        "_counted",
        "_deadlines",
        "_dial_started",
        "_expects_header",
        "_first",
        "_hello",
        "_left",
        "_member",
        "_plane",
        "_relay",
        "_request",
        "_route",
        "_settled",
        "_speaks",
        "_stage",
        "_started",
        "_target",
        "_task",
        "_tried",
        "_visitor",
        "detail",
        "host",
        "listener",
        "method",
        "outcome",
        "seconds",
        "source",
        "to_target",
        "to_visitor",
    )

    def __init__(self, context: ProxyContext, visitor: socket.SocketType, source: str, listener: Plane) -> None:
        """``visitor``: non-blocking, from the IP literal ``source``."""
        self._context = context
        self._visitor = visitor
        self._stage = _HEAD
        self._started = context.engine.now
        self._deadlines: Deadlines[Connection] | None = None  # where this waits; a stage has one at most
        self._counted: str | None = None  # the source whose limit this counts for
        self._expects_header = False
        self._announced: proxyproto.Addresses | None = None
        self._hello: ClientHelloParser | None = None
        self._request: RequestHeadParser | None = None
        self._plane = listener  # what kind of traffic it turned out to be
        self._speaks: Plane | None = None  # in which protocol to refuse; None: nothing was said, or neither of the two
        self._first = b""
        self._left = 0
        self._route: Route | None = None
        self._member: Member | None = None
        self._tried: tuple[tuple[Member, str], ...] = ()
        self._target: socket.SocketType | None = None
        self._dial_started = 0.0
        self._relay: Relay | None = None
        self._settled = False  # it has lasted longer than most do
        self._task: asyncio.Task[None] | None = None
        # For the access log:
        self.source = source
        self.listener = listener
        self.method = ""
        self.host = ""
        self._address = "", 0
        self.outcome = "error"
        self.detail = ""
        self.to_target = 0
        self.to_visitor = 0
        self.seconds = 0.0

    @property
    def target(self) -> str:
        """Where he was led: ``ADDRESS:PORT``, ``tunnel``, or nowhere."""
        address, port = self._address
        if not port:
            return address
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def start(self) -> None:
        """Admit the visitor, or turn him away, and read what he has sent already. Raises nothing."""
        context = self._context
        context.live.add(self)
        context.metrics.active[self.listener] += 1
        try:
            if context.trusted and _within(self.source, context.trusted):
                self._expects_header = True
                admitted = context.admission.enter(None)
            else:
                admitted = context.admission.enter(self.source)
                self._counted = self.source
            if admitted:
                self._read_head()
            else:
                self._reject(admitted=False)
        except Exception:
            _log.exception("connection not served", source=self.source, listener=self.listener)
            self.fail()

    # -- what the engine and the context call

    def ready(self, descriptor: int, events: int) -> None:
        stage = self._stage
        if stage is _DIAL:
            if self._target is not None and descriptor == self._target.fileno():
                self._try_target()
            elif events & BROKEN:
                self._close("reset")
        elif stage is _HEAD:
            self._read_head()
        elif stage is _FAREWELL:
            self._linger()

    def expire(self) -> None:
        """The deadline of this stage has passed (T-2)."""
        stage = self._stage
        if stage is _HEAD:
            self._refuse(refusals.HEAD_TIMEOUT)
        elif stage is _DIAL:
            self._dial_failed(Refused(refusals.DIAL_TIMEOUT))
        elif stage is _RELAY:
            self._look_whether_idle()
        elif stage is _FAREWELL:
            self._close(self.outcome)

    def fail(self) -> None:
        """A mistake of this program happened here, or the kernel cannot watch a socket: nobody else may suffer."""
        if self._relay is not None:
            self._relay.finish(Ending.ERROR)
        elif self._stage in (_HEAD, _DIAL):
            self._refuse(refusals.ERROR)
        else:
            self._close("error")

    def cut(self) -> None:
        """This process stops."""
        if self._task is not None:
            self._task.cancel()
        elif self._relay is not None:
            self._relay.finish(Ending.CUT)
        else:
            self._close("cut")

    # -- reading what the visitor wants

    def _read_head(self) -> None:
        while True:
            try:
                data = self._visitor.recv(_READ_SIZE)
            except BlockingIOError:
                self._wait_for_head()
                return
            except OSError as error:
                self._close("reset", error.strerror or "")
                return
            if not data:
                self._close("no_request")
                return
            try:
                if self._take(data):
                    return
            except Refused as why:
                self._refuse(why.refusal, why.detail)
                return
            except OSError as error:
                self._close("reset", error.strerror or "")
                return

    def _wait_for_head(self) -> None:
        context = self._context
        descriptor = self._visitor.fileno()
        if descriptor in context.engine:
            return
        if len(context.heads) >= context.settings.max_unmatched:
            # Whoever has been silent longest gives way to somebody who may want something.
            oldest = context.heads.oldest()
            if oldest is not None:
                oldest._reject()
        self._wait_in(context.heads)
        context.engine.watch(descriptor, self)

    def _wait_in(self, deadlines: Deadlines[Connection] | None) -> None:
        """The deadline of what begins now; the one before is forgotten."""
        if self._deadlines is not None:
            self._deadlines.stop(self)
        self._deadlines = deadlines
        if deadlines is not None:
            deadlines.start(self, self._context.engine.now)

    def _take(self, data: bytes) -> bool:
        """The next bytes of the visitor. True: he has said what he wants, and is led there. Errors: ``Refused``."""
        if self._expects_header:
            data = self._take_proxy_header(data)
            if not data:
                return False
        try:
            known = self._take_hello(data) if self.listener is TLS else self._take_request(data)
        except ParseError as error:
            raise Refused(_UNREADABLE.get(type(error), refusals.BAD_REQUEST), str(error)) from error
        if known:
            if self._deadlines is not None:
                self._wait_in(None)
            if self._hello is not None or self._request is not None:
                self._hello = self._request = None
            self._route_visitor()
        return known

    def _take_proxy_header(self, data: bytes) -> bytes:
        """The visitor's own bytes that follow it; empty: none yet. Errors: ``Refused``."""
        self._first += data
        try:
            header = proxyproto.read(self._first)
        except ParseError as error:
            raise Refused(refusals.BAD_PROXY_HEADER, str(error)) from error
        if header is None:
            return b""
        self._expects_header = False
        rest, self._first = self._first[header.length :], b""
        if header.addresses is not None:
            self._announced = header.addresses
            self.source = header.addresses.source
            if not self._context.admission.claim(self.source):
                raise Refused(refusals.TOO_MANY)
            self._counted = self.source
        return rest

    def _take_hello(self, data: bytes) -> bool:
        parser = self._hello
        if parser is None:
            if data[0] != HANDSHAKE_RECORD:
                # No TLS: nameless, and for the plain port of CATCH_ALL (spec tcprouter §3).
                self._plane = HTTP
                self._first = data
                return True
            self._speaks = TLS
            usual = read_usual_hello(data)
            if usual is not None:
                self.host = usual.server_name
                self._first = data
                return True
            parser = self._hello = ClientHelloParser()
        hello = parser.feed(data)
        if hello is None:
            return False
        self.host = hello.server_name
        self._first = bytes(parser.received)
        return True

    def _take_request(self, data: bytes) -> bool:
        parser = self._request
        if parser is None:
            self._speaks = HTTP
            usual = read_usual_head(data)
            if usual is not None:
                self.method, self.host = usual.method, usual.host
                self._first = data
                return True
            parser = self._request = RequestHeadParser()
        head = parser.feed(data)
        if head is None:
            return False
        self.method, self.host = head.method, head.host
        self._first = bytes(parser.received)
        return True

    # -- leading him there

    def _route_visitor(self) -> None:
        """Errors: ``Refused``; ``OSError`` of the visitor's socket."""
        route = self._context.table.find(self.host)
        if route is None:
            raise Refused(refusals.UNKNOWN_HOST)
        self._route = route
        options = route.options
        if options is not None and not options.allows(self.source):
            raise Refused(refusals.FORBIDDEN)
        if route.secret:
            self._enter_tunnel(route.secret)
            return
        if options is None:
            port = route.port(self._plane)
            if not port:
                raise self._no_port()
            self._dial(route.address, port, by_operator=route.by_operator)
            return
        if not route.takes(self._plane):
            raise self._no_port()
        if options.proxy_protocol:
            self._first = proxyproto.encode(options.proxy_protocol, self._both_ends()) + self._first
        self._dial_member()

    def _no_port(self) -> Refused:
        return Refused(refusals.UNKNOWN_HOST, f"the service has no {self._plane} port")

    def _both_ends(self) -> proxyproto.Addresses:
        """Of the visitor's connection, as it or a trusted balancer says. Errors: ``OSError``: it has broken."""
        if self._announced is not None:
            return self._announced
        near, far = self._visitor.getsockname(), self._visitor.getpeername()
        return proxyproto.Addresses(self.source, far[1], near[0].partition("%")[0], near[1])

    def _enter_tunnel(self, secret: bytes) -> None:
        self._stage = _TUNNEL
        self._address = "tunnel", 0
        self._context.engine.let_go(self._visitor.fileno())
        sock = self._visitor = ordinary(self._visitor)
        notes = _Notes(self.listener, self._started, self.method, self.host, self._speaks is not None)
        visitor = Visitor(sock, self._first, self.source, self._plane, secret, context=msgspec.msgpack.encode(notes))
        self._first = b""
        self._start_tunnel_relay(self._context.tunnels.relay(visitor))

    def be_adopted(self, visitor: Visitor, carrying: Coroutine[Any, Any, RelayedByTunnel]) -> None:
        """Go on where another worker had brought this visitor; ``carrying`` as from ``Tunnels.carry``."""
        with contextlib.suppress(msgspec.MsgspecError):  # without the notes his account is poorer
            notes = msgspec.msgpack.decode(visitor.context, type=_Notes)
            self.listener, self._started = notes.listener, notes.started
            self.method, self.host = notes.method, notes.host
            self._speaks = self._plane if notes.spoke else None
        self._stage = _TUNNEL
        self._address = "tunnel", 0
        context = self._context
        context.live.add(self)
        context.metrics.active[self.listener] += 1
        # The limits were asked where he came in; here he is counted all the same.
        context.admission.take_in(self.source)
        self._counted = self.source
        self._start_tunnel_relay(carrying)

    def _start_tunnel_relay(self, carrying: Coroutine[Any, Any, RelayedByTunnel]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._relayed_by_tunnel(carrying))

    async def _relayed_by_tunnel(self, carrying: Coroutine[Any, Any, RelayedByTunnel]) -> None:
        try:
            carried = await carrying
        except NoTunnel as error:
            self._task = None
            self._refuse(refusals.DIAL_FAILED if isinstance(error, DialFailed) else refusals.NO_TUNNEL)
        except asyncio.CancelledError:
            self._close("cut")
            raise
        except Exception:
            _log.exception("connection not served", source=self.source, listener=self.listener)
            self._close("error")
        else:
            self.to_target, self.to_visitor = carried.to_target, carried.to_visitor
            self._close(carried.ending)
        finally:
            self._task = None

    def _dial_member(self) -> None:
        """The next target of a static service. Errors: ``Refused``."""
        pool = self._route.pool if self._route is not None else None
        chosen = pool.choose(self._plane, self._context.engine.now, self._tried) if pool is not None else None
        if chosen is None:
            raise Refused(refusals.NO_TARGET)
        self._tried += (chosen,)
        member, address = chosen
        member.active += 1
        self._member = member
        self._dial(address, member.port(self._plane), by_operator=True)

    def _dial(self, address: str, port: int, *, by_operator: bool) -> None:
        """Connect to a target. Whether it is refused at once or later, ``_dial_failed`` goes on."""
        self._address = address, port
        self._stage = _DIAL
        self._dial_started = self._context.engine.now
        try:
            self._target = self._context.dialler.dial(address, port, by_operator=by_operator)
        except Refused as why:
            self._dial_failed(why)
            return
        # On a short way the connection is there already, and the head leaves with no event in between.
        self._try_target()

    def _try_target(self) -> None:
        """Send the head: it leaves when the connection is there, and fails when that has failed."""
        target = self._target
        if target is None:
            return
        try:
            sent = target.send(self._first)
        except BlockingIOError:
            context = self._context
            if target.fileno() not in context.engine:
                self._wait_in(context.dials)
            context.engine.watch_room(target.fileno(), self)
        except OSError as error:
            self._dial_failed(refused(error))
        else:
            self._begin_relay(target, sent)

    def _dial_failed(self, why: Refused) -> None:
        """Another target of the service gets the visitor if there is one: nothing of his was delivered yet."""
        self._drop_target()
        if self._tried and len(self._tried) < _MOST_TRIES:
            with contextlib.suppress(Refused):  # the first reason is the better one
                self._dial_member()
                return
        self._refuse(why.refusal, why.detail)

    def _drop_target(self) -> None:
        target, self._target = self._target, None
        if target is not None:
            self._context.engine.close_soon(target)
        member, self._member = self._member, None
        if member is not None:
            member.active -= 1

    # -- relaying

    def _begin_relay(self, target: socket.SocketType, sent: int) -> None:
        context = self._context
        engine = context.engine
        context.metrics.dial_times.add(engine.now - self._dial_started)
        self._stage = _RELAY
        first, self._first = self._first, b""
        relay = self._relay = Relay(engine, context.pipes, self._visitor, target, first, self, sent=sent)
        relay.start()
        self._wait_in(context.young)

    def _look_whether_idle(self) -> None:
        context, relay = self._context, self._relay
        if relay is None:
            return
        if not self._settled:
            self._settled = True
            if self._target is not None and self._target.fileno() >= 0:
                with contextlib.suppress(OSError):  # the idle time-out finds a dead one too
                    keep_alive(self._target)
        if context.engine.now - relay.idle_since() >= context.settings.idle_timeout:
            relay.finish(Ending.IDLE)
        else:
            self._wait_in(context.looks)

    def relayed(self, relayed: Relayed) -> None:
        """Called by the relay, which has closed both sockets."""
        self._relay = self._target = None
        self.to_target, self.to_visitor = relayed.to_target, relayed.to_visitor
        self._close(relayed.ending)

    # -- the end

    def _refuse(self, refusal: Refusal, detail: str = "") -> None:
        """Say why, and wait for the end: closing with bytes unread would reset the answer away (RFC 9112 §9.6)."""
        context = self._context
        self._drop_target()
        self._first = b""
        self._hello = self._request = None
        self.outcome, self.detail = refusal.outcome, detail
        answer = refusal.answer(self._speaks, self.method)
        try:
            if answer:
                self._visitor.send(answer)  # a fresh connection has room for it
                self._visitor.shutdown(socket.SHUT_WR)
        except OSError:
            answer = b""  # whoever does not listen misses his answer
        if not answer:
            self._close(refusal.outcome, detail)
            return
        self._stage = _FAREWELL
        self._left = _FAREWELL_BYTES
        self._wait_in(context.farewells)
        descriptor = self._visitor.fileno()
        if descriptor not in context.engine:
            context.engine.watch(descriptor, self)
        self._linger()

    def _linger(self) -> None:
        """Throw away what still comes, until the visitor has closed."""
        try:
            while self._left > 0:
                data = self._visitor.recv(_READ_SIZE)
                if not data:
                    break
                self._left -= len(data)
        except BlockingIOError:
            return
        except OSError as error:
            self.detail = self.detail or error.strerror or ""
        self._close(self.outcome, self.detail)

    def _reject(self, *, admitted: bool = True) -> None:
        """Answer at once or not at all: whoever is over a limit gets no more of our time."""
        with contextlib.suppress(OSError):
            with contextlib.suppress(BlockingIOError):
                self._visitor.recv(_READ_SIZE)  # closing with bytes unread would reset the answer away
            self._visitor.send(refusals.TOO_MANY.answer(self.listener))
        self._close(refusals.TOO_MANY.outcome, admitted=admitted)

    def _close(self, outcome: str, detail: str = "", *, admitted: bool = True) -> None:
        """Close what is open and account for the visit; again is harmless."""
        context = self._context
        if not context.leave(self):
            return
        stage, self._stage = self._stage, _OVER
        if self._deadlines is not None:
            self._deadlines.stop(self)
        if stage is not _RELAY:
            context.engine.close_soon(self._visitor)
        if self._target is not None or self._member is not None:
            self._drop_target()
        if admitted:
            context.admission.leave(self._counted)
        self.outcome, self.detail = outcome, detail
        self.seconds = context.engine.now - self._started
        context.metrics.account(self.listener, outcome, self.seconds, self.to_target, self.to_visitor)
        if context.access_log is not None:
            context.access_log.write(self)


def adopt(context: ProxyContext, visitor: Visitor, carrying: Coroutine[Any, Any, RelayedByTunnel]) -> None:
    """Take in a visitor of a tunnel whom another worker hands over (``tunnel.api.Adopt``, given the context)."""
    Connection(context, visitor.socket, visitor.source, Plane(visitor.plane)).be_adopted(visitor, carrying)


def _within(source: str, networks: Collection[IPNetwork]) -> bool:
    address = ipaddress.ip_address(source)
    return any(address in network for network in networks)
