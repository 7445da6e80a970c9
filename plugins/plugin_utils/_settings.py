# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which settings of ``gateway.toml`` have a variable of role ``gateway``, and which are therefore set twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VARIABLES = {
    "identity.seed": "gateway_seed_path",
    "redis.url": "gateway_redis_url",
    "redis.implausible": "gateway_redis_implausible",
    "redis.implausible_for": "gateway_redis_implausible_for",
    "explorer.url": "gateway_explorer_url",
    "explorer.poll_interval": "gateway_poll_interval",
    "explorer.long_poll": "gateway_long_poll",
    "gateway.farm_id": "gateway_farm_id",
    "gateway.name_servers": "gateway_name_servers",
    "gateway.managed_domains": "gateway_managed_domains",
    "gateway.free_to_use": "gateway_free_to_use",
    "gateway.geoip": "gateway_geoip_url",
    "gateway.location": "gateway_location",
    "reconciler.max_reservations_per_user": "gateway_max_reservations_per_user",
    "reconciler.max_zones_per_user": "gateway_max_zones_per_user",
    "reconciler.max_addresses": "gateway_max_addresses",
    "reconciler.parent_timeout": "gateway_parent_timeout",
    "reconciler.max_removal_share": "gateway_max_removal_share",
    "reconciler.max_removal_count": "gateway_max_removal_count",
    "reconciler.repair_orphans": "gateway_repair_orphans",
    "dns.serve_stale": "gateway_serve_stale",
    "dns.workers": "gateway_dns_workers",
    "dns.udp_size": "gateway_dns_udp_size",
    "dns.nsid": "gateway_dns_nsid",
    "dns.chaos_id": "gateway_dns_chaos_id",
    "dns.chaos_version": "gateway_dns_chaos_version",
    "dns.secrets": "gateway_dns_cookie_secrets and gateway_dns_tsig_keys",
    "dns.cookies.required": "gateway_dns_cookies_required",
    "dns.rate_limit": "gateway_dns_rate_limit",
    "dns.transfer": "gateway_dns_transfers",
    "dns.notify": "gateway_dns_secondaries",
    "proxy.workers": "gateway_proxy_workers",
    "proxy.allowed_targets": "gateway_proxy_allowed_targets",
    "proxy.proxy_protocol_from": "gateway_proxy_protocol_from",
    "proxy.access_log": "gateway_proxy_access_log",
    "proxy.tunnel_grace": "gateway_tunnel_grace",
    "proxy.tunnel_share": "gateway_tunnel_share",
    "proxy.listen_tunnels_tls": "gateway_tunnel_tls_port",
    "proxy.tunnel_certificate": "gateway_tunnel_certificate",
    "proxy.tunnel_key": "gateway_tunnel_key",
    "proxy.services": "gateway_proxy_services",
    "fourtosix.endpoint": "gateway_fourtosix_endpoint",
    "fourtosix.interface": "gateway_fourtosix_interface",
    "fourtosix.listen_port": "gateway_fourtosix_port",
    "fourtosix.private_key": "gateway_fourtosix_private_key",
    "log.level": "gateway_log_level",
}
"""Key of ``gateway.toml``, or table of it, -> variable."""


def set_twice(settings: Any) -> list[str]:
    """A sentence for each key of ``gateway_settings`` that has a variable, or for what is no mapping at all."""
    if not isinstance(settings, Mapping):
        return ["gateway_settings is not a mapping of the tables of gateway.toml"]
    return [
        f"gateway_settings sets {key}, which {VARIABLES[key]} sets already: remove it from gateway_settings"
        for key in sorted(set(_keys(settings, "")) & set(VARIABLES))
    ]


def _keys(table: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in table.items():
        key = f"{path}.{name}" if path else str(name)
        yield key
        if isinstance(value, Mapping):
            yield from _keys(value, key)
