"""Settings of the proxy plane: ``[proxy]`` and its static services."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tfgateway.settings.section import Port, Seconds, Section, Workers


class TargetSettings(Section, frozen=True):
    """One of ``targets`` of a [[proxy.services]]."""

    address: str
    """IP literal or host name; names are resolved regularly."""
    http_port: Port = 0
    """0: takes no plain HTTP."""
    tls_port: Port = 0
    """0: takes no TLS."""
    weight: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Its share of the visitors, relative to the other targets."""


class CheckSettings(Section, frozen=True):
    """[proxy.services.check]: health checks of the targets."""

    type: Literal["tcp", "http"] = "tcp"
    """``tcp``: accepts a connection; ``http``: answers ``path`` with a status below 400."""
    port: Port = 0
    """0: the target's HTTP port or, without one, its TLS port."""
    path: Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*\Z")] = "/"
    """Path that is asked for; only with ``http``."""
    host: Annotated[str, msgspec.Meta(pattern=r"^[!-~]*\Z")] = ""
    """Host field of the request, only with ``http``; empty: the first of ``names``."""
    interval: Seconds = 5.0
    """Seconds between two checks."""
    timeout: Seconds = 2.0
    """Seconds that one check may take."""
    rise: Annotated[int, msgspec.Meta(ge=1)] = 2
    """Checks in a row that must pass until a target that was down is used again."""
    fall: Annotated[int, msgspec.Meta(ge=1)] = 3
    """Checks in a row that must fail until a target is not used any more."""


class ServiceSettings(Section, frozen=True):
    """[[proxy.services]]: static services, looked up before those in redis."""

    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Host names; ``CATCH_ALL``: all names without a service of their own."""
    targets: tuple[TargetSettings, ...] = ()
    tunnel_secret: str = ""
    """Secret of the tunnel that serves these names, instead of ``targets``; of the options, ``allow`` and
    ``proxy_protocol`` go with it."""
    balance: Literal["round_robin", "least_connections"] = "round_robin"
    """How a target is chosen for the next visitor."""
    check: CheckSettings | None = None
    """Health check; without it, a target always counts as up."""
    slow_start: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds in which a target that came back gets its full share step by step; needs ``check``."""
    allow: tuple[str, ...] = ()
    """Networks (CIDR) whose visitors are served; empty: everybody."""
    proxy_protocol: Literal["off", "v1", "v2"] = "off"
    """Version of the PROXY protocol that gives targets the visitor's address (T-18). Behind a tunnel it takes
    ``tfgateway tunnel`` as its client."""


class ProxySettings(Section, frozen=True):
    """[proxy]: the data plane for HTTP, TLS and tunnels."""

    workers: Workers = 0
    """Processes; 0: half as many as processors."""
    listen_http: tuple[str, ...] = ("0.0.0.0:80", "[::]:80")
    """``ADDRESS:PORT`` of the sockets for plain HTTP."""
    listen_tls: tuple[str, ...] = ("0.0.0.0:443", "[::]:443")
    """``ADDRESS:PORT`` of the sockets for TLS."""
    router_toml: str = ""
    """An old ``router.toml`` whose static services are honoured; empty: none."""
    head_timeout: Seconds = 10.0
    """Seconds until a visitor must have sent its ClientHello or HTTP head (T-2)."""
    dial_timeout: Seconds = 10.0
    """Seconds until a target must have accepted a connection."""
    idle_timeout: Seconds = 3600.0
    """Seconds without data in either direction after which a connection is closed."""
    half_closed_timeout: Seconds = 300.0
    """The same for a visitor of a tunnel when one direction has ended."""
    drain_timeout: Seconds = 30.0
    """Seconds that open connections have to end at a stop or reload."""
    max_connections: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """Open connections of visitors at most; each worker has its part, and a tunnel's visitors are in the worker with
    the tunnel: one that is full refuses more with 503 although others are not."""
    max_connections_per_source: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Of them, those of one IPv4 address or IPv6 /64 in each worker: the kernel spreads connections over workers by
    chance, and so many are never refused."""
    max_unmatched: Annotated[int, msgspec.Meta(ge=1)] = 2000
    """Visitors that have not sent a request yet, each worker having its part; above, the one that is silent longest is
    closed."""
    services: tuple[ServiceSettings, ...] = ()
    proxy_protocol_from: tuple[str, ...] = ()
    """Networks (CIDR) of balancers whose connections begin with a PROXY header (v1 or v2)."""
    access_log: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of the connections that get a line in the log: 1 for all, 0 for none."""
    allowed_targets: tuple[str, ...] = ()
    """Networks (CIDR) that tenants may name although they are denied by default (T-15)."""
    listen_tunnels: tuple[str, ...] = ("0.0.0.0:18000", "[::]:18000")
    """``ADDRESS:PORT`` of the sockets for tunnel clients; empty: none are accepted."""
    listen_tunnels_tls: tuple[str, ...] = ()
    """The same inside TLS (T-21); needs ``tunnel_certificate`` and ``tunnel_key``."""
    tunnel_certificate: str = ""
    """Path of the certificate chain, PEM."""
    tunnel_key: str = ""
    """Path of its private key, PEM."""
    tunnel_grace: Seconds = 10.0
    """Seconds for which a visitor waits for a client that is reconnecting."""
    tunnel_share: bool = False
    """Clients with one secret share its visitors; by default the newest one replaces the others."""
    tunnel_streams: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Visitors in one tunnel at once."""
    tunnel_unknown: Annotated[int, msgspec.Meta(ge=0)] = 64
    """Clients that each worker holds although no service has their secret yet (T-4) ..."""
    tunnel_unknown_time: Seconds = 30.0
    """... and for how many seconds."""
    metrics: str = "127.0.0.1:9155"
    """``ADDRESS:PORT`` of the proxy's metrics page."""
