"""The listening sockets of a plane: a set for each slot, held by the supervisor while the address is served."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tfgateway.errors import AddressInUseError, ConfigError, GatewayError
from tfgateway.net.addresses import host_port
from tfgateway.plane import Endpoint
from tfgateway.telemetry.logs import logger

_BACKLOG = 4096
"""Connections that wait to be accepted; the kernel caps it at net.core.somaxconn."""

_log = logger("workers")


@dataclass
class ListenSocket:
    """A listening socket. Before ``open`` it is not bound: it accepts nothing and blocks nobody."""

    slot: int
    endpoint: Endpoint
    socket: socket.socket
    is_open: bool = False

    def open(self) -> None:
        """Bind and listen. Errors: ``GatewayError``."""
        try:
            self.socket.bind(host_port(self.endpoint.address))
            if self.endpoint.kind == "tcp":
                self.socket.listen(_BACKLOG)
        except OSError as error:
            raise _cannot_listen(self.endpoint, error) from error
        self.is_open = True


class ListenSockets:
    """All listening sockets of a plane."""

    def __init__(self, listeners: Iterable[ListenSocket] = ()) -> None:
        self._listeners = list(listeners)

    def __iter__(self) -> Iterator[ListenSocket]:
        return iter(self._listeners)

    def prepare(self, endpoints: Sequence[Endpoint], slots: int) -> list[ListenSocket]:
        """Make the missing sockets of so many slots, closed; the new ones. Errors: ``GatewayError``, and none is kept.

        An address family that this machine does not have is left out, with a warning: the default settings name IPv6.
        """
        made: list[ListenSocket] = []
        try:
            for endpoint in endpoints:
                have = {listener.slot for listener in self._listeners if listener.endpoint == endpoint}
                made += [_make(slot, endpoint) for slot in range(slots) if slot not in have]
        except OSError as error:
            _close(made)
            if error.errno != errno.EAFNOSUPPORT:
                raise _cannot_listen(endpoint, error) from error
            _log.warning("not listening: no such address family here", listen=endpoint.address)
            return self.prepare([one for one in endpoints if one is not endpoint], slots)
        self._listeners += made
        if not self._listeners:
            raise ConfigError("no address that can be listened on")
        return made

    def of(self, slot: int, workers: int, endpoints: Collection[Endpoint]) -> list[ListenSocket]:
        """The sockets of a worker. Slots beyond the number of workers are shared out: no accept queue is lost."""
        return [
            listener
            for listener in self._listeners
            if listener.slot % workers == slot and listener.endpoint in endpoints
        ]

    def open(self, listeners: Collection[ListenSocket]) -> None:
        """Open those that are closed, none unless their addresses are free. Errors: ``GatewayError``."""
        closed = [listener for listener in listeners if not listener.is_open]
        ours = {listener.endpoint for listener in self._listeners if listener.is_open}
        for endpoint in {listener.endpoint for listener in closed} - ours:
            _probe(endpoint)
        for listener in closed:
            listener.open()

    def discard(self, listeners: Collection[ListenSocket]) -> None:
        """Close these for good."""
        _close(listeners)
        self._listeners = [listener for listener in self._listeners if listener not in listeners]

    def keep_only(self, endpoints: Collection[Endpoint]) -> None:
        """Close the sockets of all other endpoints."""
        self.discard([listener for listener in self._listeners if listener.endpoint not in endpoints])


def bind(endpoint: Endpoint, *, shared: bool = True) -> socket.socket:
    """A non-blocking socket, bound unless it is shared: then ``ListenSocket.open`` binds it. Errors: ``OSError``."""
    host, port = host_port(endpoint.address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_DGRAM if endpoint.kind == "udp" else socket.SOCK_STREAM
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, kind))
        sock.setblocking(False)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if endpoint.kind == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if not shared:
            sock.bind((host, port))
        undo.pop_all()
    return sock


def _make(slot: int, endpoint: Endpoint) -> ListenSocket:
    return ListenSocket(slot, endpoint, bind(endpoint))


def _probe(endpoint: Endpoint) -> None:
    """Fail when another process has the address, even one that would share it. Errors: ``GatewayError``."""
    try:
        bind(endpoint, shared=False).close()
    except OSError as error:
        raise _cannot_listen(endpoint, error) from error


def _close(listeners: Iterable[ListenSocket]) -> None:
    for listener in listeners:
        listener.socket.close()


def _cannot_listen(endpoint: Endpoint, error: OSError) -> GatewayError:
    kind = AddressInUseError if error.errno == errno.EADDRINUSE else GatewayError
    return kind(f"cannot listen on {endpoint.address}/{endpoint.kind}: {error.strerror}")
