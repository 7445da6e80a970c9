"""Makes the objects that the pure modules of this plane take from the settings."""

from __future__ import annotations

import ipaddress

from tfgateway.dns.answer import rate_limit
from tfgateway.dns.answer.options import ServerOptions
from tfgateway.dns.answer.transfer import Allowed
from tfgateway.dns.server import secrets
from tfgateway.dns.server.notify import Secondary
from tfgateway.dns.wire import names
from tfgateway.dns.wire.cookies import Cookies
from tfgateway.dns.wire.names import WireName
from tfgateway.dns.wire.rrsets import ZonePolicy
from tfgateway.errors import ConfigError, ParseError
from tfgateway.net.addresses import host_port
from tfgateway.settings import DnsSettings, RateSettings, Settings

_CHAOS_ID = (names.fold(b"\x02id\x06server\0"), names.fold(b"\x08hostname\x04bind\0"))
_CHAOS_VERSION = (names.fold(b"\x07version\x06server\0"), names.fold(b"\x07version\x04bind\0"))


def policy(settings: Settings) -> ZonePolicy:
    """The policy of all zones. Errors: ``ConfigError``."""
    if not settings.gateway.name_servers:
        raise ConfigError("gateway.name_servers: name at least one: each zone needs an NS and a SOA record")
    servers = []
    for host in settings.gateway.name_servers:
        try:
            servers.append(names.from_text(host.encode() if host.endswith(".") else host.encode() + b"."))
        except ParseError as error:
            raise ConfigError(f"gateway.name_servers: '{host}': {error}") from error
    return ZonePolicy(settings.dns.ttl, tuple(servers), _rname(settings.dns.rname))


def _rname(mailbox: str) -> WireName:
    """A mail address as a name (RFC 1035 §8); empty for none. Errors: ``ConfigError``."""
    local, _, host = mailbox.partition("@")
    if not mailbox:
        return names.NONE
    try:
        return names.from_text(f"{local.replace('.', chr(92) + '.')}.{host}.".encode())
    except ParseError as error:
        raise ConfigError(f"dns.rname: '{mailbox}': {error}") from error


def service(settings: DnsSettings) -> ServerOptions:
    """The settings of all replies. Errors: ``ConfigError``: the file of secrets is not usable."""
    known = secrets.load(settings.secrets)
    keys = known.keys
    transfers = []
    for allowed in settings.transfer:
        key = secrets.key_name(allowed.key) if allowed.key else names.NONE
        if key and key not in keys:
            raise ConfigError(f"dns.transfer: the key '{allowed.key}' is not in the file dns.secrets")
        transfers.append(Allowed(ipaddress.ip_network(allowed.network), key))
    chaos = {
        name: text.encode("ascii")
        for text, asked in ((settings.chaos_id, _CHAOS_ID), (settings.chaos_version, _CHAOS_VERSION))
        for name in asked
        if text
    }
    return ServerOptions(
        udp_size=settings.udp_size,
        cookies=Cookies(known.cookie_secrets or [secrets.of_this_boot()]) if settings.cookies.enabled else None,
        cookies_required=settings.cookies.enabled and settings.cookies.required,
        nsid=settings.nsid.encode("ascii"),
        chaos=chaos,
        keys=keys,
        transfers=transfers,
        tcp_idle=settings.tcp_idle,
    )


def secondaries(settings: DnsSettings) -> list[Secondary]:
    """The secondaries that get NOTIFY messages. Errors: ``ConfigError``."""
    keys = secrets.load(settings.secrets).keys if settings.notify else {}
    found = []
    for item in settings.notify:
        key = keys.get(secrets.key_name(item.key)) if item.key else None
        if item.key and key is None:
            raise ConfigError(f"dns.notify: the key '{item.key}' is not in the file dns.secrets")
        found.append(Secondary(*host_port(item.address), key))
    return found


def limiter(settings: RateSettings, workers: int = 1) -> rate_limit.RateLimiter | None:
    """The rate limiter of one of ``workers`` processes, which share the load evenly; None: there are no limits."""
    if settings.mode == "off":
        return None
    rates = {kind: getattr(settings, name) / workers for kind, name in rate_limit.KIND_NAMES.items()}
    return rate_limit.RateLimiter(
        rate_limit.RateLimits(
            rates=rates,
            slip=settings.slip,
            window=settings.window,
            ipv4_prefix=settings.ipv4_prefix,
            ipv6_prefix=settings.ipv6_prefix,
            exempt=[ipaddress.ip_network(network) for network in settings.exempt],
            table_size=settings.table_size,
            log_only=settings.mode == "log",
        )
    )
