"""The target of one connection: chosen, dialled, and replaced by another one when it does not accept."""

from __future__ import annotations

import socket

from tfgateway.net.addresses import shown
from tfgateway.proxy.eventloop.engine import Engine
from tfgateway.proxy.loops.own_dials import OwnDials
from tfgateway.proxy.protocol import HTTP, Protocol
from tfgateway.proxy.refusals import NO_TARGET, Refusal, Refused
from tfgateway.proxy.upstream.balance import Member, TargetPool
from tfgateway.proxy.upstream.dial import Dialler, refused

_MOST_TRIES = 3  # targets of a service, or addresses of one, for one connection

Failure = tuple[Refusal, str]
"""Why no target can be had, with a detail for the access log."""


class Upstream:
    """Dials for one connection, which waits until the target accepts, and asks for another one when it does not."""

    __slots__ = (
        "_address",
        "_dialler",
        "_engine",
        "_member",
        "_own_dials",
        "_pool",
        "_protocol",
        "_tried",
        "dialled_at",
        "socket",
    )

    def __init__(self, engine: Engine, dialler: Dialler, own_dials: OwnDials | None) -> None:
        """own_dials: where connections are noted before anything is sent, see ``LoopGuard.to_note``."""
        self._engine = engine
        self._dialler = dialler
        self._own_dials = own_dials
        self._address = "", 0
        self._pool: TargetPool | None = None
        self._protocol = HTTP
        self._tried: tuple[tuple[Member, str], ...] = ()
        self._member: Member | None = None
        self.socket: socket.SocketType | None = None
        """Of the target that is dialled, and later relayed to."""
        self.dialled_at = 0.0
        """By the engine's clock."""

    @property
    def target(self) -> str:
        """The last one that was dialled: ``ADDRESS:PORT``; "": there was none."""
        address, port = self._address
        return shown(address, port) if port else ""

    def dial(self, address: str, port: int, *, by_operator: bool) -> Failure | None:
        """Begin to connect to the only target of a service. None: it is under way, at ``socket``."""
        self._address = address, port
        self.dialled_at = self._engine.now
        try:
            self.socket = self._dialler.dial(address, port, by_operator=by_operator)
            if self._own_dials is not None:
                self._own_dials.note(self.socket, address, port)
        except Refused as why:
            return why.refusal, why.detail
        except OSError as error:
            self.drop()
            broken = refused(error)
            return broken.refusal, broken.detail
        return None

    def dial_one_of(self, pool: TargetPool, protocol: Protocol) -> Failure | None:
        """Begin to connect to a target of a static service. None: it is under way, at ``socket``."""
        self._pool = pool
        self._protocol = protocol
        return self.fail_over((NO_TARGET, ""))

    def fail_over(self, failure: Failure) -> Failure | None:
        """Dial another target in place of the one that did not accept: nothing was delivered to it.

        None: it is under way, at ``socket``. Else why not: the reason of the target that was dialled last.
        """
        pool = self._pool
        while True:
            self.drop()
            if pool is None or len(self._tried) >= _MOST_TRIES:
                return failure
            chosen = pool.choose(self._protocol, self._engine.now, self._tried)
            if chosen is None:
                return failure
            self._tried += (chosen,)
            member, address = chosen
            member.active += 1
            self._member = member
            failed = self.dial(address, member.port(self._protocol), by_operator=True)
            if failed is None:
                return None
            failure = failed

    def drop(self) -> None:
        """Close the connection to the target, and let its place go; again is harmless."""
        target, self.socket = self.socket, None
        if target is not None:
            self._engine.close_soon(target)
        member, self._member = self._member, None
        if member is not None:
            member.active -= 1
