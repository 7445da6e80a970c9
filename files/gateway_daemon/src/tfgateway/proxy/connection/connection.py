"""An accepted connection and where it goes: to a target, which is dialled and relayed to, or into a tunnel.

A state machine (``states``) on the engine: no task of its own, and nothing that waits. Only one in a tunnel has a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any

import msgspec

from tfgateway.net import proxyproto
from tfgateway.net.sockets import keep_alive, ordinary
from tfgateway.proxy import refusals
from tfgateway.proxy.connection.context import ProxyContext
from tfgateway.proxy.connection.downstream import DownstreamConnection
from tfgateway.proxy.connection.states import (
    CONNECTED,
    DIALLED,
    DIALLING,
    ENTERED_TUNNEL,
    FAILED_OVER,
    LINGERING,
    READING,
    RELAYING,
    TRANSITIONS,
)
from tfgateway.proxy.eventloop.engine import BROKEN
from tfgateway.proxy.parse.first_bytes import Request
from tfgateway.proxy.protocol import Protocol
from tfgateway.proxy.refusals import Refused
from tfgateway.proxy.relay.relay import Ending, Relay, Relayed
from tfgateway.proxy.routing.table import Route
from tfgateway.proxy.upstream.dial import refused
from tfgateway.proxy.upstream.upstream import Failure, Upstream
from tfgateway.telemetry.logs import logger
from tfgateway.tunnel.api import DialFailed, NoTunnel, RelayedByTunnel, Visitor

_log = logger("proxy")


class _TunnelledConnection(msgspec.Struct, array_like=True):
    """What goes with a tunnelled connection into another worker."""

    listener: Protocol
    started: float
    """By the monotonic clock, which all processes of a machine share."""
    method: str
    host: str
    spoke: bool
    """It has said in which protocol to refuse it."""


class Connection(DownstreamConnection):
    """An accepted connection, and what it is joined to."""

    __slots__ = ("_first", "_relay", "_settled", "_task", "_tunnelled", "_upstream")

    def __init__(self, context: ProxyContext, visitor: socket.SocketType, source: str, listener: Protocol) -> None:
        """``visitor``: non-blocking, from the IP literal ``source``."""
        super().__init__(context, visitor, source, listener)
        self._first = b""  # what the target gets before anything else
        self._upstream: Upstream | None = None
        self._relay: Relay | None = None
        self._settled = False  # it has lasted longer than most do
        self._tunnelled = False
        self._task: asyncio.Task[None] | None = None  # in a tunnel

    @property
    def target(self) -> str:
        """Where it was routed: ``ADDRESS:PORT``, ``tunnel``, or ""."""
        if self._upstream is not None:
            return self._upstream.target
        return "tunnel" if self._tunnelled else ""

    def ready(self, descriptor: int, events: int) -> None:
        """See ``engine.Watcher``."""
        state = self.state
        if state is DIALLING:
            upstream = self._upstream
            if upstream is None:
                return
            if upstream.socket is not None and descriptor == upstream.socket.fileno():
                self._send_first(upstream)
            elif events & BROKEN:
                self._close("reset")
        elif state is READING:
            self._read()
        elif state is LINGERING:
            self._linger()

    def expire(self) -> None:
        """The deadline of this state has passed (T-2)."""
        state = self.state
        if state is READING:
            self._refuse(refusals.HEAD_TIMEOUT)
        elif state is DIALLING:
            self._fail_over((refusals.DIAL_TIMEOUT, ""))
        elif state is RELAYING:
            self._check_idle()
        elif state is LINGERING:
            self._close(self.outcome)

    def fail(self) -> None:
        """This program made an error here, or the kernel cannot watch a socket: no other connection may suffer."""
        if self._relay is not None:
            self._relay.finish(Ending.ERROR)
        elif self.state in (READING, DIALLING):
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

    # -- the way to the target

    def _route(self, request: Request) -> None:
        """Errors: ``Refused``; ``OSError`` of the visitor's socket."""
        route = self._context.table.find(request.host)
        if route is None:
            raise Refused(refusals.UNKNOWN_HOST)
        options = route.options
        if options is not None and not options.allows(self.source):
            raise Refused(refusals.FORBIDDEN)
        if route.secret:
            self._enter_tunnel(route, request)
        else:
            self._dial(route, request)

    def _dial(self, route: Route, request: Request) -> None:
        """Errors: as ``_route``."""
        context, options, protocol = self._context, route.options, request.protocol
        port = 0 if options is not None else route.port(protocol)
        if not (port or route.takes(protocol)):
            raise Refused(refusals.UNKNOWN_HOST, f"the service has no {protocol} port")
        self._first = request.data
        if options is not None and options.proxy_protocol:
            self._first = proxyproto.encode(options.proxy_protocol, self._both_ends()) + request.data
        self.state = TRANSITIONS[DIALLED][self.state]
        upstream = self._upstream = Upstream(context.engine, context.dialler, context.loop_guard.to_note(request))
        if options is None or options.pool is None:
            failure = upstream.dial(route.address, port, by_operator=route.by_operator)
        else:
            failure = upstream.dial_one_of(options.pool, protocol)
        if failure is None:
            # On a short way the connection is there already, and the first bytes leave with no event in between.
            self._send_first(upstream)
        else:
            self._refuse(*failure)

    def _send_first(self, upstream: Upstream) -> None:
        """Send what was read: it leaves when the target has accepted, and fails when that has failed."""
        target = upstream.socket
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
            why = refused(error)
            self._fail_over((why.refusal, why.detail))
        else:
            self._begin_relay(target, sent, upstream.dialled_at)

    def _fail_over(self, failure: Failure) -> None:
        upstream = self._upstream
        if upstream is None:
            return
        failed = upstream.fail_over(failure)
        if failed is None:
            self.state = TRANSITIONS[FAILED_OVER][self.state]
            self._send_first(upstream)
        else:
            self._refuse(*failed)

    def _begin_relay(self, target: socket.SocketType, sent: int, dialled_at: float) -> None:
        context = self._context
        engine = context.engine
        context.metrics.dial_times.add(engine.now - dialled_at)
        self.state = TRANSITIONS[CONNECTED][self.state]
        first, self._first = self._first, b""
        relay = self._relay = Relay(engine, context.pipes, self._visitor, target, first, self, sent=sent)
        relay.start()
        self._wait_in(context.young)

    def _check_idle(self) -> None:
        context, relay, upstream = self._context, self._relay, self._upstream
        if relay is None or upstream is None:
            return
        if not self._settled:
            self._settled = True
            if upstream.socket is not None and upstream.socket.fileno() >= 0:
                with contextlib.suppress(OSError):  # the idle time-out finds a dead one too
                    keep_alive(upstream.socket)
        if context.engine.now - relay.idle_since() >= context.settings.idle_timeout:
            relay.finish(Ending.IDLE)
        else:
            self._wait_in(context.idle_checks)

    def relayed(self, relayed: Relayed) -> None:
        """Called by the relay, which has closed both sockets."""
        self._relay = None
        if self._upstream is not None:
            self._upstream.socket = None
        self.to_target, self.to_visitor = relayed.to_target, relayed.to_visitor
        self._close(relayed.ending)

    def _drop_upstream(self) -> None:
        self._first = b""
        if self._upstream is not None:
            self._upstream.drop()

    # -- the way into a tunnel

    def _enter_tunnel(self, route: Route, request: Request) -> None:
        """Errors: ``OSError``."""
        self._tunnelled = True
        self.state = TRANSITIONS[ENTERED_TUNNEL][self.state]
        self._context.engine.let_go(self._visitor.fileno())
        sock = self._visitor = ordinary(self._visitor)
        tunnelled = _TunnelledConnection(
            self.listener, self._started, self.method, self.host, self._reader.speaks is not None
        )
        context = msgspec.msgpack.encode(tunnelled)
        version = route.options.proxy_protocol if route.options is not None else 0
        visitor = Visitor(
            sock, request.data, self.source, request.protocol, route.secret, context, self._both_ends, version
        )
        self._follow_tunnel(self._context.tunnels.relay(visitor))

    def resume(self, visitor: Visitor, relaying: Coroutine[Any, Any, RelayedByTunnel]) -> None:
        """Go on where another worker has handed the connection over; ``relaying`` as from ``Tunnels.relay``."""
        with contextlib.suppress(msgspec.MsgspecError):  # without it, what is logged of it is poorer
            tunnelled = msgspec.msgpack.decode(visitor.context, type=_TunnelledConnection)
            self.listener, self._started = tunnelled.listener, tunnelled.started
            self.method, self.host = tunnelled.method, tunnelled.host
            self._reader.speaks = Protocol(visitor.protocol) if tunnelled.spoke else None
        self._tunnelled = True
        self.state = TRANSITIONS[ENTERED_TUNNEL][self.state]
        context = self._context
        context.live.add(self)
        context.metrics.active[self.listener] += 1
        # The limits were applied where it was accepted; here it is counted all the same.
        context.admission.take_in(self.source)
        self._counted = self.source
        self._follow_tunnel(relaying)

    def _follow_tunnel(self, relaying: Coroutine[Any, Any, RelayedByTunnel]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._relayed_by_tunnel(relaying))

    async def _relayed_by_tunnel(self, relaying: Coroutine[Any, Any, RelayedByTunnel]) -> None:
        try:
            relayed = await relaying
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
            self.to_target, self.to_visitor = relayed.to_target, relayed.to_visitor
            self._close(relayed.ending)
        finally:
            self._task = None


def adopt(context: ProxyContext, visitor: Visitor, relaying: Coroutine[Any, Any, RelayedByTunnel]) -> None:
    """Take a tunnelled connection over from another worker (``tunnel.api.Adopt``, given the context)."""
    Connection(context, visitor.socket, visitor.source, Protocol(visitor.protocol)).resume(visitor, relaying)
