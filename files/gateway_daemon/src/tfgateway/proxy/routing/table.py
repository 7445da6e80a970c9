"""From a host name to where its traffic goes: the operator's static services, redis, the static CATCH_ALL."""

from __future__ import annotations

import ipaddress
import re
import typing
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tfgateway.errors import SchemaError
from tfgateway.net.addresses import IPV4, IPNetwork, within
from tfgateway.net.idn import to_unicode
from tfgateway.proxy.protocol import TLS, Protocol
from tfgateway.proxy.upstream.balance import TargetPool
from tfgateway.redis_schema.keys import domain_of_service_key
from tfgateway.redis_schema.services import Service, decode_service

CATCH_ALL = "CATCH_ALL"
"""Name of the static service that gets what no other service has a name for."""


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """What only an operator can give a service."""

    pool: TargetPool | None = None
    """Its targets; None: a tunnel."""
    allow: tuple[IPNetwork, ...] = ()
    """Networks whose visitors are served; empty: all are."""
    proxy_protocol: int = 0
    """Version of the PROXY protocol that gives its targets the visitor's address; 0: none does (T-18)."""

    def allows(self, source: str) -> bool:
        """Whether a visitor from this IP literal is served."""
        return not self.allow or within(ipaddress.ip_address(source), self.allow)


@dataclass(frozen=True, slots=True)
class Route:
    """Where the traffic of one service goes."""

    address: str
    """An IP literal in canonical form (T-1); "" for a tunnel."""
    http_port: int
    """0: the service takes no plain HTTP."""
    tls_port: int
    """0: the service takes no TLS."""
    by_operator: bool
    """From the operator's own file: the deny rule for tenants does not apply (T-15)."""
    secret: bytes = field(default=b"", repr=False)
    """Of the tunnel that leads there; empty: reached by dialling."""
    options: RouteOptions | None = None

    @property
    def pool(self) -> TargetPool | None:
        """The targets of a static service; None: the address of the route, or a tunnel."""
        return None if self.options is None else self.options.pool

    def takes(self, protocol: Protocol) -> bool:
        """Whether there is a target for such traffic."""
        pool = self.pool
        return bool(self.port(protocol)) if pool is None else pool.takes(protocol)

    def port(self, protocol: Protocol) -> int:
        return self.tls_port if protocol is TLS else self.http_port


@dataclass(frozen=True, slots=True)
class StaticRoutes:
    """Services of the operator's file."""

    by_host: Mapping[str, Route] = field(default_factory=dict)
    """Keys in lower case (T-19)."""
    catch_all: Route | None = None


_IPV4 = re.compile(IPV4)
"""As ``ipaddress`` takes and writes it, at a twentieth of its time: there may be a million."""


class SecretWatcher(typing.Protocol):
    """Is notified of the secrets that tunnels may have (``tunnel.api.Tunnels``)."""

    def add_secret(self, secret: bytes) -> None: ...

    def remove_secret(self, secret: bytes) -> None: ...


class RouteTable:
    """All services, looked up in memory for each connection."""

    def __init__(self, static: StaticRoutes, tunnels: SecretWatcher) -> None:
        """``tunnels`` is notified of each secret that some service has, and when the last service with it is gone."""
        self._static = static
        self._tunnels = tunnels
        self._from_redis: dict[str, Route] = {}
        self._secrets: Counter[bytes] = Counter()
        for route in (*static.by_host.values(), static.catch_all):
            self._change_secret(None, route)

    def __len__(self) -> int:
        """Services known from redis."""
        return len(self._from_redis)

    def update(self, key: bytes, value: bytes | None) -> None:
        """Take the new value of a service key, ``None`` when it is gone.

        Errors: ``SchemaError`` for a value that cannot be used; the service is unknown then, as to the old router.
        """
        domain = domain_of_service_key(key)
        if domain is None:
            return
        before = self._from_redis.pop(domain, None)
        after = None
        try:
            if value is not None:
                after = self._from_redis[domain] = route_of(decode_service(value), by_operator=False)
        finally:
            self._change_secret(before, after)

    def _change_secret(self, before: Route | None, after: Route | None) -> None:
        """Count by secret; one that stays is not reported as gone, which would cut its sessions."""
        gone = before.secret if before else b""
        new = after.secret if after else b""
        if gone == new:
            return
        if new:
            self._secrets[new] += 1
            if self._secrets[new] == 1:
                self._tunnels.add_secret(new)
        if gone:
            self._secrets[gone] -= 1
            if not self._secrets[gone]:
                del self._secrets[gone]
                self._tunnels.remove_secret(gone)

    def find(self, host: str) -> Route | None:
        """The route for a host as ``hosts.host_name`` gives it, "" when the visitor named none.

        Redis is asked for names only: an entry with an empty domain would capture all nameless traffic (T-8), and
        its CATCH_ALL is an ordinary name that no lower-case host equals (T-9).
        """
        if host:
            route = self._static.by_host.get(host) or self._from_redis.get(host)
            if route is None and "xn--" in host:
                # A name that was written into redis by hand may be there as people read it.
                route = self._from_redis.get(to_unicode(host) or "")
            if route is not None:
                return route
        return self._static.catch_all


def route_of(service: Service, *, by_operator: bool) -> Route:
    """Check a service and take what routing needs. Errors: ``SchemaError``, without any of its secrets (T-13)."""
    if service.clientsecret:
        secret = service.clientsecret.encode()
        return Route(address="", http_port=0, tls_port=0, by_operator=by_operator, secret=secret)
    for name, port in (("httpport", service.httpport), ("tlsport", service.tlsport)):
        if not 0 <= port <= 65535:
            raise SchemaError(f"{name} {port} is not a port")
    return Route(_literal(service.addr), service.httpport, service.tlsport, by_operator=by_operator)


def _literal(text: str) -> str:
    """An IP literal in canonical form: anything else made the old router dial its own host (T-1)."""
    if _IPV4.fullmatch(text):
        return text
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise SchemaError("addr is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise SchemaError("addr is an IPv6 address with a zone")
        return str(address.ipv4_mapped or address)
    return str(address)
