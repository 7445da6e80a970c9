"""Where the settings of a node differ from those of its old programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tfgateway.legacy.corefile import Corefile
from tfgateway.legacy.flags import Flags
from tfgateway.legacy.router import Router
from tfgateway.net.addresses import host_port
from tfgateway.settings import Settings

_LOOPBACK = ("", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Item:
    """A setting, as the old programs have it and as this node has it."""

    key: str
    """As in ``gateway.toml``."""
    old: Any
    new: Any

    @property
    def same(self) -> bool:
        """Whether users would notice no change."""
        return bool(self.old == self.new)


def compare(
    settings: Settings,
    *,
    flags: Flags | None,
    corefile: Corefile | None,
    router: Router | None,
    router_path: str,
) -> tuple[Item, ...]:
    """Compare all settings that were found; ``None``: not found. ``router_path``: where ``router`` was read.

    A setting that several old programs share is one item, with another for each value that differs.
    """
    items: list[Item] = []
    redis: set[str] = set()
    tunnel_ports: set[int] = set()
    if flags is not None:
        redis.add(_endpoint(flags.redis))
        tunnel_ports.add(flags.tcp_client_port)
        items += _of_daemon(flags, settings)
    if corefile is not None:
        redis.add(_endpoint(f"redis://{corefile.address}"))
        items += [
            Item("dns.listen", (corefile.port,), _ports(settings.dns.listen)),
            Item("dns.ttl", corefile.ttl, settings.dns.ttl),
            Item("dns.key_prefix", corefile.prefix, settings.dns.key_prefix),
            Item("dns.key_suffix", corefile.suffix, settings.dns.key_suffix),
        ]
    if router is not None:
        redis.add(_endpoint(f"redis://{router.redis}"))
        tunnel_ports.add(router.tunnel_port)
        items += [
            Item("proxy.listen_tls", (router.tls_port,), _ports(settings.proxy.listen_tls)),
            Item("proxy.listen_http", (router.http_port,), _ports(settings.proxy.listen_http)),
        ]
        if router.services:
            items.append(Item("proxy.router_toml", router_path, settings.proxy.router_toml))
    items += [Item("redis.url", old, _endpoint(settings.redis.url)) for old in sorted(redis)]
    items += [Item("gateway.tcp_client_port", old, settings.gateway.tcp_client_port) for old in sorted(tunnel_ports)]
    return tuple(items)


def _of_daemon(flags: Flags, settings: Settings) -> Iterator[Item]:
    gateway = settings.gateway
    yield Item("identity.seed", flags.seed, settings.identity.seed)
    yield Item("explorer.url", _api(flags.explorer), _api(settings.explorer.url))
    yield Item("gateway.farm_id", flags.farm, gateway.farm_id)
    yield Item("gateway.name_servers", flags.nameservers, gateway.name_servers)
    yield Item("gateway.managed_domains", tuple(sorted(flags.domains)), tuple(sorted(gateway.managed_domains)))
    yield Item("gateway.free_to_use", flags.free, gateway.free_to_use)
    yield Item("fourtosix.endpoint", flags.endpoint, settings.fourtosix.endpoint)
    if flags.endpoint:
        yield Item("fourtosix.interface", flags.wg_iface, settings.fourtosix.interface)


def _ports(listen: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted({host_port(text)[1] for text in listen}))


def _endpoint(url: str) -> str:
    """Host and port of a redis URL in any form; the login is not compared."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    try:
        host, port = parts.hostname or "", parts.port or 6379
    except ValueError:
        return "?"
    return f"{'127.0.0.1' if host in _LOOPBACK else host}:{port}"


def _api(url: str) -> str:
    """A client URL whose path does not end in /api/v1 has its path replaced by it."""
    base = url.rstrip("/")
    if base.endswith("/api/v1"):
        return base
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}/api/v1"
