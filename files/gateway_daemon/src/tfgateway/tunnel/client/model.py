"""What a tunnel client is asked to do, and how it stands."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from tfgateway.tunnel.notices import Outcome
from tfgateway.tunnel.session.limits import RelayTimeouts, SessionLimits

HostPort = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What to connect to what."""

    secret: bytes = field(repr=False)
    local: HostPort | None
    """Where visitors without TLS are relayed to; None: they are refused."""
    local_tls: HostPort | None
    """Where those with TLS are relayed to."""
    backoff: float = 5.0
    """Seconds before the second attempt; they double up to a minute."""
    dial_timeout: float = 10.0
    """Seconds for connecting, to a gateway or to a service, and for a visitor's first byte."""
    timeouts: RelayTimeouts = RelayTimeouts()  # noqa: RUF009 - it cannot change
    """After which a visitor is cut."""
    proxy_protocol: int | None = None
    """Version of the PROXY protocol that gives the service the visitor's address (T-18); 0: none; None: what the
    gateway's operator has set for the service."""
    once: bool = False
    """End with the first session instead of connecting again."""
    tls: ssl.SSLContext | None = None
    """For the connections to the gateways; None: in clear, as the old client."""
    tls_name: str = ""
    """In the gateways' certificates; empty: the host that is connected to."""
    limits: SessionLimits = field(default_factory=SessionLimits)
    max_visitors: int = 1000
    """At once with each gateway; further ones are refused."""
    may_change: bool = False
    """Addresses are asked for although they are not needed now: the next reload may change that."""


@dataclass(frozen=True, slots=True)
class ConfiguredTunnel:
    """A service at one gateway."""

    name: str
    """Empty: it is the only service."""
    remote: HostPort
    options: ClientOptions
    tls_files: tuple[str, ...] = ()
    """What the TLS context was made of."""

    @property
    def identity(self) -> tuple[object, ...]:
        """Two with the same are one session: what else is different holds for its next visitors."""
        options = self.options
        return self.name, self.remote, options.secret, options.tls is None, options.tls_name, self.tls_files


class Phase(StrEnum):
    """The state of the session with one gateway."""

    CONNECTING = "connecting"
    WAITING = "waiting"
    """Connected, but the gateway does not know the secret yet."""
    CONNECTED = "connected"
    """Visitors can come."""
    RETRYING = "retrying"
    ENDED = "ended"
    """With ``once``: it is not tried again."""


@dataclass(slots=True)
class RemoteStatus:
    """What is shown of one gateway."""

    remote: str
    name: str = ""
    """Of the service; empty: it is the only one."""
    phase: Phase = Phase.CONNECTING
    reason: str = ""
    """Why it is not connected."""
    outcome: Outcome | None = None
    """What the gateway has said last; None: nothing since the session began."""
    replaced: int = 0
    """How often another client has taken the secret."""
    retry_in: float = 0.0
    """Seconds, in the phase ``retrying``."""
    since: float = 0.0
    """Event loop's time when the phase began."""
    sessions: int = 0
    """How often it was connected."""
    visitors: int = 0
    """So far."""
    active: int = 0
    """Now."""
    failed: int = 0
    """Visitors for which the local service could not be reached."""
    received: int = 0
    """Bytes from visitors."""
    sent: int = 0
    """Bytes to visitors."""
    last_visit: float = 0.0
    """Seconds since 1970 when the last visitor came; 0: none has."""
    round_trip: float = 0.0
    """Seconds to the gateway and back; 0: not known yet, or not connected."""


Changed = Callable[[RemoteStatus], None]
