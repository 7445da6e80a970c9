# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the values that an inventory gives the roles' variables: type and choices, then what they mean."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?", re.IGNORECASE)
_LONGEST_SHOWN = 200
_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]*):([0-9]+)")


def specifications(roles: Path) -> dict[str, dict[str, Any]]:
    """The variables of the roles below ``roles``, with their specifications."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        found.update(yaml_load(path.read_text())["argument_specs"]["main"]["options"])
    return {name: specification for name, specification in found.items() if name not in JUDGED_BY_PREFLIGHT}


def problems(given: Mapping[str, Any], specified: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """By variable, what is wrong with its value: of the wrong type, or not of the kind that its name says.

    A secret is never repeated.
    """
    found = {}
    for name, value in given.items():
        said = _typed(name, value, specified[name]) or next(
            filter(None, (_said(*one) for one in _parts(name, value))), ""
        )
        if said:
            found[name] = "not as its description says" if is_secret(specified[name]) else said
    return found


def is_secret(specification: Mapping[str, Any]) -> bool:
    """Whether a variable, or something in it, must not be shown."""
    options = specification.get("options") or {}
    return bool(specification.get("no_log")) or any(map(is_secret, options.values()))


def _typed(name: str, value: Any, specification: Mapping[str, Any]) -> str:
    """What Ansible itself says of it, on one line."""
    wanted = {key: part for key, part in specification.items() if key != "default"}
    try:
        said = "; ".join(ArgumentSpecValidator({name: wanted}).validate({name: value}).error_messages)
    except (TypeError, ValueError, AttributeError, OverflowError):  # items of another type than it looks into
        said = f"argument '{name}' is of type"
    if f"argument '{name}' is of type" in said:
        return f"{_shown(value)} is not of type {specification['type']}"
    return _cut(" ".join(said.split()))


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Pairs of a kind and a value of that kind: the value, its items, or what its items hold."""
    if name in KINDS:
        kind = KINDS[name]
        for item in value if isinstance(value, list) else [value]:
            yield kind, item
    for path, kind in MEMBERS.get(name, {}).items():
        for item in _reached(value, path.split(".")):
            yield kind, item


def _reached(value: Any, path: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _reached(item, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _reached(value[path[0]], path[1:])


def _said(kind: str, value: Any) -> str:
    optional = kind.endswith("?")
    fits, description = _CHECKS[kind.rstrip("?")]
    if optional and value in ("", None):
        return ""
    try:
        right = fits(value)
    except (ValueError, TypeError, AttributeError, OverflowError):  # what checks for text raise when it is none
        right = False
    return "" if right else f"{_shown(value)} is not {description}"


def _shown(value: Any) -> str:
    """As much of it as fits on a line, without the password of a URL."""
    return _cut(re.sub(r"//[^/@]*@", "//...@", repr(value)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def _port(value: Any) -> bool:
    return not isinstance(value, bool) and 1 <= int(value) <= 65535


def _address(value: str) -> bool:
    return bool(ipaddress.ip_address(value))


def _network(value: str) -> bool:
    return "/" in value and bool(ipaddress.ip_network(value))


def _host(value: str) -> bool:
    """An address or a name; what looks like an address has to be one."""
    if re.fullmatch(r"[0-9.]+|.*:.*", value):
        return _address(value)
    return _HOST_NAME.fullmatch(value) is not None


def _endpoint(value: str) -> bool:
    found = _ENDPOINT.fullmatch(value)
    return found is not None and bool(found[1]) and _host(found[1].strip("[]")) and _port(found[2])


def _listener(value: str) -> bool:
    found = _ENDPOINT.fullmatch(value)
    return found is not None and _port(found[2]) and (not found[1] or _address(found[1].strip("[]")))


def _url(*schemes: str) -> Callable[[str], bool]:
    def fits(value: str) -> bool:
        parts = urlsplit(value)
        return (
            parts.scheme in schemes
            and re.search(r"\s", value) is None
            and (parts.scheme in ("file", "unix") or _host(parts.hostname or ""))
            and (parts.port is None or _port(parts.port))
        )

    return fits


def _matching(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


def _between(least: float, most: float) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, bool) and least <= float(value) <= most


_NEVER = float("inf")
# By kind: whether a value fits, and what it should be.
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "port": (_port, "a port, 1 to 65535"),
    "address": (_address, "an IP address"),
    "network": (_network, "a network, such as 192.0.2.0/24, with no bit of a host set"),
    "host": (_host, "an IP address or a host name"),
    "endpoint": (_endpoint, "HOST:PORT, an IPv6 address in brackets"),
    "listener": (_listener, "ADDRESS:PORT, an IPv6 address in brackets"),
    "interface": (
        _matching(r"(?!\.{1,2}\Z)[^\s/:%'\"\\]{1,15}"),
        "the name of a network interface, 15 characters at most",
    ),
    "url": (_url("http", "https"), "a URL that begins with http:// or https://"),
    "source": (_url("http", "https", "file"), "a URL that begins with http://, https:// or file://"),
    "redis": (_url("redis", "rediss", "unix"), "a URL that begins with redis://, rediss:// or unix://"),
    "account": (_matching(r"[a-z_][a-z0-9_-]{0,30}\$?"), "the name of a user or group"),
    "path": (_matching(r"/[^\s%'\"\\]*"), "an absolute path without spaces, quotes, % and backslashes"),
    "memory": (
        _matching(r"[1-9][0-9]*(\.[0-9]+)?[KMGTPE]?|[0-9]{1,2}%|infinity"),
        "a size as systemd takes it, such as 800M",
    ),
    "maxmemory": (_matching(r"(?i)[0-9]+([kmg]b?|b)?"), "a size as redis takes it, such as 512mb"),
    "sha256": (_matching(r"[0-9a-f]{64}"), "a SHA-256 in 64 hexadecimal digits"),
    "cookie": (_matching(r"[0-9A-Fa-f]{32}"), "16 bytes in 32 hexadecimal digits"),
    "share": (_between(0, 1), "a number from 0 to 1"),
    "count": (_between(0, _NEVER), "a number that is 0 or more"),
    "positive": (_between(1e-3, _NEVER), "a number above 0"),
    "payload": (_between(512, 65535), "a number of bytes, 512 to 65535"),
    "protocol": (lambda value: value in ("tcp", "udp"), "tcp or udp"),
    "glibc": (_matching(r"2_[0-9]+"), "a version of the C library as in a manylinux tag, such as 2_17"),
    "word": (_matching(r"[A-Za-z0-9][A-Za-z0-9._-]*"), "a name of letters, digits, dots, dashes and underscores"),
}
# Each needs more than its own value to be judged, and has a rule of that role.
JUDGED_BY_PREFLIGHT = {
    "gateway_domain_suffixes",
    "gateway_explorer_url",
    "gateway_farm_id",
    "gateway_managed_domains",
    "gateway_name_servers",
    "identity_words",
}
# With a question mark: it may be empty. Of a list, each item.
KINDS = {
    "cutover_backup": "path",
    "cutover_timeout": "positive",
    "docker_key_sha256": "sha256?",
    "docker_key_url": "source?",
    "explorer_clock_skew": "count",
    "explorer_drain": "count",
    "explorer_listen": "listener",
    "explorer_max_wait": "count",
    "explorer_memory_high": "memory",
    "explorer_memory_max": "memory",
    "explorer_metrics": "listener?",
    "explorer_owner_resolver": "listener?",
    "explorer_public_url": "url?",
    "firewall_ssh_ports": "port",
    "gateway_dns_cookie_secrets": "cookie",
    "gateway_dns_udp_size": "payload",
    "gateway_dns_workers": "count",
    "gateway_fourtosix_endpoint": "endpoint?",
    "gateway_fourtosix_interface": "interface",
    "gateway_fourtosix_port": "port",
    "gateway_geoip_url": "url?",
    "gateway_long_poll": "count",
    "gateway_max_addresses": "count",
    "gateway_max_removal_count": "count",
    "gateway_max_removal_share": "share",
    "gateway_max_reservations_per_user": "count",
    "gateway_max_zones_per_user": "count",
    "gateway_memory_high": "memory",
    "gateway_memory_max": "memory",
    "gateway_parent_timeout": "count",
    "gateway_poll_interval": "positive",
    "gateway_proxy_access_log": "share",
    "gateway_proxy_allowed_targets": "network",
    "gateway_proxy_protocol_from": "network",
    "gateway_proxy_workers": "count",
    "gateway_redis_implausible_for": "count",
    "gateway_redis_url": "redis",
    "gateway_seed_path": "path",
    "gateway_serve_stale": "count",
    "gateway_tunnel_certificate": "path?",
    "gateway_tunnel_grace": "count",
    "gateway_tunnel_key": "path?",
    "gateway_tunnel_tls_port": "port",
    "identity_group": "account",
    "identity_owner": "account",
    "identity_seed_path": "path",
    "interpreter_root": "path",
    "masquerade_uplink": "interface?",
    "mongodb_key_sha256": "sha256?",
    "mongodb_key_url": "source?",
    "monitoring_interval": "positive",
    "monitoring_port": "port",
    "monitoring_scrape_from": "network",
    "monitoring_textfile_directory": "path",
    "preflight_clock_skew": "count",
    "preflight_connect_timeout": "positive",
    "preflight_free_space": "count",
    "preflight_memory": "count",
    "preflight_resolver": "address?",
    "preflight_resolver_port": "port",
    "prerequisites_cache_valid_time": "count",
    "prerequisites_lock_timeout": "count",
    "release_glibc": "glibc",
    "release_group": "account",
    "release_keep": "count",
    "release_root": "path",
    "release_user": "account",
    "repository_key_sha256": "sha256?",
    "repository_key_url": "source?",
    "repository_name": "word",
    "safeguard_name": "word",
    "safeguard_port": "port",
    "safeguard_seconds": "positive",
    "sshd_answer_timeout": "positive",
    "sshd_ports": "port",
    "tfredis_maxmemory": "maxmemory",
    "tfredis_memory_high": "memory",
    "tfredis_memory_max": "memory",
    "tfredis_address": "address",
    "tfredis_group_port": "port",
    "tfredis_min_replicas": "count",
    "tfredis_port": "port",
    "tfredis_sentinel_port": "port",
    "tfredis_root": "path",
    "wireguard_endpoint": "endpoint",
    "wireguard_fallback_package": "word",
    "wireguard_interface": "interface",
    "wireguard_port": "port",
}
# Of mappings, by the path of what they hold.
MEMBERS = {
    "firewall_ports": {"port": "port", "proto": "protocol"},
    "gateway_dns_rate_limit": {"exempt": "network"},
    "gateway_dns_secondaries": {"address": "listener"},
    "gateway_dns_transfers": {"network": "network"},
    "gateway_proxy_services": {
        "allow": "network",
        "check.port": "port",
        "targets.address": "host",
        "targets.http_port": "port",
        "targets.tls_port": "port",
    },
}
