"""Reads and checks the whole of ``gateway.toml``."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import msgspec

from tfgateway.errors import ConfigError
from tfgateway.net.addresses import endpoint, host_port
from tfgateway.settings.dns import DnsSettings
from tfgateway.settings.node import (
    ExplorerSettings,
    FourToSixSettings,
    GatewaySettings,
    IdentitySettings,
    LogSettings,
    ReconcilerSettings,
    RedisSettings,
    WorkersSettings,
)
from tfgateway.settings.proxy import CheckSettings, ProxySettings, ServiceSettings
from tfgateway.settings.section import Section

DEFAULT_PATH = Path("/etc/tfgateway/gateway.toml")

_LEASE = 30.0
_LEASE_OF_A_GROUP = 5.0
_OF_TARGETS = ("balance", "check", "slow_start")
"""Options of a static service that are about its targets."""
_NO_OPTIONS = ServiceSettings(names=("",))
_OF_HTTP_CHECKS = ("path", "host")
"""Options of a health check that are about its request."""
_NO_CHECK_OPTIONS = CheckSettings()
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


class Settings(Section, frozen=True):
    """The content of ``gateway.toml``."""

    identity: IdentitySettings = IdentitySettings()
    redis: RedisSettings = RedisSettings()
    explorer: ExplorerSettings = ExplorerSettings()
    gateway: GatewaySettings = GatewaySettings()
    reconciler: ReconcilerSettings = ReconcilerSettings()
    workers: WorkersSettings = WorkersSettings()
    dns: DnsSettings = DnsSettings()
    proxy: ProxySettings = ProxySettings()
    fourtosix: FourToSixSettings = FourToSixSettings()
    log: LogSettings = LogSettings()

    @property
    def lease(self) -> float:
        """Seconds for which the reconciler's lease is valid without being renewed."""
        return self.reconciler.lease or (_LEASE_OF_A_GROUP if self.redis.replica else _LEASE)


def load(path: Path) -> Settings:
    """Read settings. Errors: ``ConfigError`` that names the file and the key."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(raw, str(path))


def parse(raw: bytes, name: str = "gateway.toml") -> Settings:
    """Settings from TOML bytes, every value checked. Errors: ``ConfigError``."""
    try:
        settings = msgspec.toml.decode(raw, type=Settings)
    except (ValueError, RecursionError) as error:  # msgspec's errors, and text that is no UTF-8
        raise ConfigError(f"{name}: {error}") from error
    lists = [
        ("dns.listen", settings.dns.listen),
        ("proxy.listen_http", settings.proxy.listen_http),
        ("proxy.listen_tls", settings.proxy.listen_tls),
        ("proxy.listen_tunnels", settings.proxy.listen_tunnels),
        ("proxy.listen_tunnels_tls", settings.proxy.listen_tunnels_tls),
        ("reconciler.metrics", (settings.reconciler.metrics,)),
        ("dns.metrics", (settings.dns.metrics,)),
        ("dns.notify.address", tuple(item.address for item in settings.dns.notify)),
        ("proxy.metrics", (settings.proxy.metrics,)),
        ("fourtosix.metrics", (settings.fourtosix.metrics,)),
    ]
    for key, values in lists:
        for value in values:
            try:
                host_port(value)
            except ValueError as error:
                raise ConfigError(f"{name}: {key}: {error}") from error
    networks = [
        ("proxy.allowed_targets", settings.proxy.allowed_targets),
        ("dns.rate_limit.exempt", settings.dns.rate_limit.exempt),
        ("dns.transfer.network", tuple(item.network for item in settings.dns.transfer)),
        ("proxy.proxy_protocol_from", settings.proxy.proxy_protocol_from),
        *(("proxy.services.allow", service.allow) for service in settings.proxy.services),
    ]
    for key, values in networks:
        for value in values:
            try:
                ipaddress.ip_network(value)
            except ValueError as error:
                raise ConfigError(f"{name}: {key}: {error}") from error
    for value in settings.gateway.public_addresses:
        try:
            ipaddress.ip_address(value)
        except ValueError as error:
            raise ConfigError(f"{name}: gateway.public_addresses: {error}") from error
    if settings.redis.replica and not settings.redis.sentinels:
        raise ConfigError(f"{name}: redis.replica: needs redis.sentinels, which name the master of the group")
    if settings.proxy.listen_tunnels_tls and not (settings.proxy.tunnel_certificate and settings.proxy.tunnel_key):
        raise ConfigError(f"{name}: proxy.listen_tunnels_tls: needs proxy.tunnel_certificate and proxy.tunnel_key")
    for service in settings.proxy.services:
        if bool(service.targets) == bool(service.tunnel_secret):
            raise ConfigError(f"{name}: proxy.services: '{service.names[0]}' needs either targets or tunnel_secret")
        if problem := _without_effect(service):
            raise ConfigError(f"{name}: proxy.services: '{service.names[0]}' has {problem}")
    if settings.fourtosix.endpoint and not _is_endpoint(settings.fourtosix.endpoint):
        raise ConfigError(
            f"{name}: fourtosix.endpoint: '{settings.fourtosix.endpoint}' is not HOST:PORT (IPv6 in brackets)"
        )
    return settings


def _without_effect(service: ServiceSettings) -> str:
    """An option of a static service that does nothing beside the others, and what to do; empty: there is none."""
    if service.tunnel_secret:
        for option in _OF_TARGETS:
            if getattr(service, option) != getattr(_NO_OPTIONS, option):
                return f"tunnel_secret, with which {option} has no effect: remove it"
    elif service.slow_start and service.check is None:
        return "no check, without which slow_start has no effect: add check, or remove slow_start"
    elif service.check is not None and service.check.type == "tcp":
        for option in _OF_HTTP_CHECKS:
            if getattr(service.check, option) != getattr(_NO_CHECK_OPTIONS, option):
                return f"a check of type tcp, with which {option} has no effect: set type to http, or remove {option}"
    return ""


def _is_endpoint(text: str) -> bool:
    """Whether a user's WireGuard would take it: a name or address, and a port."""
    try:
        host, _ = endpoint(text)
    except ValueError:
        return False
    return ":" in host or _NAME.fullmatch(host) is not None
