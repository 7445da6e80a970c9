"""The interface between proxy and tunnels: the proxy finds the tunnel for a connection, the tunnels relay it.

The proxy accounts for the connection (limits, metrics, access log), the tunnels keep the sessions.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from tfgateway.errors import GatewayError
from tfgateway.net.proxyproto import Addresses


class NoTunnel(GatewayError):
    """No client with this secret is connected, and none came within ``proxy.tunnel_grace``."""


class DialFailed(NoTunnel):
    """The client dropped the visitor before an byte of an answer: the service behind it is not there."""


@dataclass(slots=True)
class Visitor:
    """A connection whose service is reached through a tunnel."""

    socket: socket.socket
    """Connected, non-blocking, not watched."""
    first: bytes
    """What was read from it so far: the client gets it before anything else (old programs rely on it)."""
    source: str
    """IP literal of the visitor."""
    protocol: str
    """``http`` or ``tls``."""
    secret: bytes = field(repr=False)
    """Names the tunnel (T-13: never in a log)."""
    context: bytes = b""
    """What the proxy needs to account for it: goes with it into another worker."""
    addresses: Callable[[], Addresses | None] = lambda: None
    """Both ends of its connection, for a client that asks for them (T-18). None: not known. Errors: ``OSError``."""
    proxy_protocol: int = 0
    """Version of the PROXY header that its service has at the client; 0: as the client is set."""


@dataclass(frozen=True, slots=True)
class RelayedByTunnel:
    """What became of a visitor that a tunnel took."""

    ending: str
    """The outcome in metrics and access log: ``closed``, ``reset``, ``idle`` as for a dialled target, or
    ``handed_over`` when another worker of this gateway took the descriptor and does the account."""
    to_target: int = 0
    """Bytes that went into the tunnel, ``first`` included."""
    to_visitor: int = 0


Adopt = Callable[[Visitor, Coroutine[Any, Any, RelayedByTunnel]], None]
"""Takes a visitor over from another worker of this gateway: the proxy here accounts for it. It awaits the second as it
would ``Tunnels.relay``, with the same errors."""


class Tunnels(Protocol):
    """The sessions of all tunnel clients, as the proxy sees them."""

    def add_secret(self, secret: bytes) -> None:
        """A service with this secret is known now, in the file or in redis: clients may register under it (T-4)."""

    def remove_secret(self, secret: bytes) -> None:
        """The last service with this secret is gone: its sessions end."""

    async def relay(self, visitor: Visitor) -> RelayedByTunnel:
        """Serve one visitor to its end, then close its socket.

        Errors: ``NoTunnel``, with the socket open and nothing read from it or sent to it: the
        proxy answers. Cancelled at the end of draining: closes the socket too.
        """
