"""The visitor's side of a connection: admission, the first bytes, a refusal, the end, and the account of it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from abc import ABC, abstractmethod

from tfgateway.net.addresses import plain, within
from tfgateway.net.proxyproto import Addresses
from tfgateway.proxy import refusals
from tfgateway.proxy.connection.context import LiveConnection, ProxyContext
from tfgateway.proxy.connection.states import ENDED, READING, REFUSED, RELAYING, TRANSITIONS
from tfgateway.proxy.eventloop.deadlines import Deadlines
from tfgateway.proxy.parse.first_bytes import FirstBytes, Request
from tfgateway.proxy.protocol import Protocol
from tfgateway.proxy.refusals import Refusal, Refused
from tfgateway.telemetry.logs import logger

_READ_SIZE = 16 * 1024
_LINGER_BYTES = 256 * 1024  # bytes that are read and thrown away after a refusal

_log = logger("proxy")


class DownstreamConnection(ABC):
    """An accepted connection. Whatever happens, it is closed in the end (T-12), and counted once.

    Where it goes is a matter of the class below: ``_route`` and ``_drop_upstream``, and what the engine calls.
    """

    __slots__ = (
        "_announced",
        "_context",
        "_counted",
        "_deadlines",
        "_left",
        "_peer",
        "_reader",
        "_started",
        "_visitor",
        "detail",
        "host",
        "listener",
        "method",
        "outcome",
        "seconds",
        "source",
        "state",
        "to_target",
        "to_visitor",
    )

    def __init__(self, context: ProxyContext, visitor: socket.SocketType, source: str, listener: Protocol) -> None:
        """``visitor``: non-blocking, from the IP literal ``source``."""
        self.state = READING
        self._context = context
        self._visitor = visitor
        self._peer = source  # who really connected, whatever it announces
        self._started = context.engine.now
        self._reader = FirstBytes(listener)
        self._announced: Addresses | None = None  # by a trusted balancer
        self._counted: str | None = None  # the source whose limit this counts for
        self._deadlines: Deadlines[LiveConnection] | None = None  # where this waits; a state has one at most
        self._left = 0  # bytes that are still thrown away
        # For the access log:
        self.source = source
        self.listener = listener
        self.method = ""
        self.host = ""
        self.outcome = "error"
        self.detail = ""
        self.to_target = 0
        self.to_visitor = 0
        self.seconds = 0.0

    @property
    @abstractmethod
    def target(self) -> str:
        """Where it was routed: ``ADDRESS:PORT``, ``tunnel``, or ""."""

    @abstractmethod
    def ready(self, descriptor: int, events: int) -> None:
        """See ``engine.Watcher``."""

    @abstractmethod
    def expire(self) -> None:
        """The deadline of its state has passed."""

    @abstractmethod
    def fail(self) -> None:
        """See ``engine.Watcher``."""

    @abstractmethod
    def cut(self) -> None:
        """This process stops."""

    @abstractmethod
    def _route(self, request: Request) -> None:
        """Lead it where it asks. Errors: ``Refused``; ``OSError`` of the visitor's socket."""

    @abstractmethod
    def _drop_upstream(self) -> None:
        """Close what leads to its target, if that is still its own; again is harmless."""

    def start(self) -> None:
        """Admit the connection, or reject it, and read what has come already. Raises nothing."""
        context = self._context
        context.live.add(self)
        context.metrics.active[self.listener] += 1
        try:
            if context.trusted and within(ipaddress.ip_address(self.source), context.trusted):
                self._reader = FirstBytes(self.listener, after_header=True)
                admitted = context.admission.enter(None)
            else:
                admitted = context.admission.enter(self.source)
                self._counted = self.source
            if admitted:
                self._read()
            else:
                self._reject(admitted=False)
        except Exception:
            _log.exception("connection not served", source=self.source, listener=self.listener)
            self.fail()

    def evict(self) -> None:
        """It has been silent longer than all others, and there are too many."""
        self._reject()

    def _read(self) -> None:
        while True:
            try:
                data = self._visitor.recv(_READ_SIZE)
            except BlockingIOError:
                self._wait_for_more()
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

    def _wait_for_more(self) -> None:
        context = self._context
        descriptor = self._visitor.fileno()
        if descriptor in context.engine:
            return
        if len(context.heads) >= context.settings.max_unmatched:
            # The one that has been silent longest gives way to one that may ask for something.
            oldest = context.heads.oldest()
            if oldest is not None:
                oldest.evict()
        self._wait_in(context.heads)
        context.engine.watch(descriptor, self)

    def _wait_in(self, deadlines: Deadlines[LiveConnection] | None) -> None:
        """The deadline of what begins now; the one before is forgotten."""
        if self._deadlines is not None:
            self._deadlines.stop(self)
        self._deadlines = deadlines
        if deadlines is not None:
            deadlines.start(self, self._context.engine.now)

    def _take(self, data: bytes) -> bool:
        """The next bytes. True: they say what is asked for, and it is routed. Errors: ``Refused``, ``OSError``."""
        request = self._reader.feed(data)
        while isinstance(request, Addresses):
            self._take_addresses(request)
            request = self._reader.feed(b"")
        if request is None:
            return False
        if self._deadlines is not None:
            self._wait_in(None)
        self.method, self.host = request.method, request.host
        request = self._context.loop_guard.passed(request, self._visitor, self._peer, self.source)
        self._route(request)
        return True

    def _take_addresses(self, announced: Addresses) -> None:
        """A trusted balancer says who is behind it. Errors: ``Refused``."""
        self._announced = announced
        self.source = announced.source
        if not self._context.admission.claim(self.source):
            raise Refused(refusals.TOO_MANY)
        self._counted = self.source

    def _both_ends(self) -> Addresses:
        """Of the visitor's connection, as it or a trusted balancer says. Errors: ``OSError``: it has broken."""
        if self._announced is not None:
            return self._announced
        near, far = self._visitor.getsockname(), self._visitor.getpeername()
        return Addresses(self.source, far[1], plain(near[0]), near[1])

    def _refuse(self, refusal: Refusal, detail: str = "") -> None:
        """Send the reason, and wait for the end: closing with bytes unread would reset it away (RFC 9112 §9.6)."""
        context = self._context
        self._drop_upstream()
        self.outcome, self.detail = refusal.outcome, detail
        answer = refusal.answer(self._reader.speaks, self.method)
        self._reader.discard()
        try:
            if answer:
                self._visitor.send(answer)  # a fresh connection has room for it
                self._visitor.shutdown(socket.SHUT_WR)
        except OSError:
            answer = b""  # the visitor has gone
        if not answer:
            self._close(refusal.outcome, detail)
            return
        self.state = TRANSITIONS[REFUSED][self.state]
        self._left = _LINGER_BYTES
        self._wait_in(context.lingering)
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
        """Answer at once or not at all: a connection over a limit gets no more time."""
        with contextlib.suppress(OSError):
            with contextlib.suppress(BlockingIOError):
                self._visitor.recv(_READ_SIZE)  # closing with bytes unread would reset the answer away
            self._visitor.send(refusals.TOO_MANY.answer(self.listener))
        self._close(refusals.TOO_MANY.outcome, admitted=admitted)

    def _close(self, outcome: str, detail: str = "", *, admitted: bool = True) -> None:
        """Close what is open, and account for the connection; again is harmless."""
        context = self._context
        if not context.leave(self):
            return
        state = self.state
        self.state = TRANSITIONS[ENDED][state]
        if self._deadlines is not None:
            self._deadlines.stop(self)
        if state is not RELAYING:  # the relay has closed it
            context.engine.close_soon(self._visitor)
        self._drop_upstream()
        if admitted:
            context.admission.leave(self._counted)
        self.outcome, self.detail = outcome, detail
        self.seconds = context.engine.now - self._started
        context.metrics.connection_ended(self.listener, outcome, self.seconds, self.to_target, self.to_visitor)
        if context.access_log is not None:
            context.access_log.write(self)
