"""Whether a request has been here before, by every mark it may carry."""

from __future__ import annotations

import socket

from tfgateway.proxy import refusals
from tfgateway.proxy.loops.own_dials import OwnDials
from tfgateway.proxy.loops.repeated_hellos import RepeatedHellos
from tfgateway.proxy.parse.cdn_loop import CdnLoop
from tfgateway.proxy.parse.first_bytes import Request
from tfgateway.proxy.protocol import TLS
from tfgateway.proxy.refusals import Refused
from tfgateway.telemetry.logs import logger

_log = logger("proxy")


class LoopGuard:
    """Refuses requests that this gateway itself, or another one, sends back here; ``close`` it."""

    def __init__(self, own_dials: OwnDials, hellos: RepeatedHellos, cdn_loop: CdnLoop) -> None:
        """Both tables are closed with this."""
        self._own_dials = own_dials
        self._hellos = hellos
        self._cdn_loop = cdn_loop

    def close(self) -> None:
        """Close the tables."""
        self._own_dials.close()
        self._hellos.close()

    def passed(self, request: Request, visitor: socket.SocketType, peer: str, source: str) -> Request:
        """The request as it is passed on, by which it is known if it comes back.

        peer: the IP literal that ``visitor`` is connected to; source: the one behind it, as a trusted balancer says.

        Errors: ``Refused``: it has come back. ``OSError``: the visitor's socket has broken.
        """
        if request.protocol is TLS:
            if self._hellos.was_here(request.data, source):
                _log.warning("connection was here before", host=request.host, source=source)
                raise Refused(refusals.LOOP)
            return request
        if request.method:
            added = self._cdn_loop.added(request.data, request.host)
            if added is None:
                _log.warning("request was here before", host=request.host, source=source)
                raise Refused(refusals.LOOP)
            return Request(request.protocol, request.method, request.host, added)
        if self._own_dials.has(peer, visitor):
            _log.warning("visitor comes from this gateway itself", protocol=request.protocol)
            raise Refused(refusals.LOOP)
        return request

    def to_note(self, request: Request) -> OwnDials | None:
        """Where a connection that is dialled for this request is noted; None: the request itself is known again."""
        return None if request.protocol is TLS or request.method else self._own_dials
