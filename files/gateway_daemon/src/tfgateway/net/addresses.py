"""Addresses: as text, as what they count for under limits, and which of them a tenant's proxy may have as a target.

A target is never the gateway itself, nor in a network that only the gateway can see (T-15). That is asked twice: the
reconciler answers a denied target with an error result, the proxy refuses to dial one that is already in redis. Pure,
but for ``own_addresses``, which reads the kernel's tables.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path

from tfgateway.net.special_addresses import IPAddress, IPNetwork, contained_ipv4, not_reachable, reached

__all__ = [
    "IPV4",
    "IPAddress",
    "IPNetwork",
    "denied_reason",
    "endpoint",
    "host_port",
    "is_literal",
    "literals",
    "networks",
    "own_addresses",
    "packed_source",
    "plain",
    "shown",
    "source",
    "within",
]

_NEVER = ("this network", "this host on this network", "unspecified", "reserved", "limited broadcast")
"""Purposes of networks that are nowhere; of the first two, Linux dials the local host."""
_PRIVATE = ("private use", "shared address space", "unique local")
_PRIVATE_UNREGISTERED = (
    ipaddress.ip_network("168.63.129.16/32"),  # a cloud's metadata service on a public address
    ipaddress.ip_network("fec0::/10"),  # RFC 3879, deprecated site-local
)
_FIB_LOCAL = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
"""A regular expression for IPv4 addresses as ``ipaddress`` takes and writes them, which takes twenty times as long."""


def host_port(text: str) -> tuple[str, int]:
    """``"0.0.0.0:53"`` or ``"[::]:53"`` to (IP literal, port). Errors: ``ValueError`` that says the wanted form."""
    try:
        host, port = _split(text)
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"'{text}' is not ADDRESS:PORT (IPv6 in brackets)") from None
    return host, port


def endpoint(text: str) -> tuple[str, int]:
    """What others connect to, ``"gw.example:3443"`` or ``"[::1]:3443"``, to (name or IP literal, port).

    Errors: ``ValueError`` that says the wanted form.
    """
    try:
        host, port = _split(text)
        if not host or not port:
            raise ValueError
        if ":" in host:
            ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"'{text}' is not HOST:PORT (IPv6 in brackets)") from None
    return host, port


def _split(text: str) -> tuple[str, int]:
    """Errors: ``ValueError``."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 65535:
        raise ValueError
    if (":" in bare) != (bare != host):
        raise ValueError
    return bare, int(port)


def shown(host: str, port: int) -> str:
    """``ADDRESS:PORT``, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain(address: str) -> str:
    """A peer's IP literal as limits, allow lists and logs know it: no zone, IPv4 not inside IPv6.

    address: as the kernel and ``ipaddress`` write it.
    """
    if ":" not in address:
        return address
    address = address.partition("%")[0]
    if not address.startswith("::ffff:"):
        return address  # parsing takes as long as much of the rest of a new connection
    literal = ipaddress.IPv6Address(address)
    return str(literal.ipv4_mapped or literal)


def source(address: str) -> str | bytes:
    """What a client counts for under limits for each source: its IPv4 address, or its IPv6 /64, which one host has."""
    return _network(address) if ":" in address else address


def packed_source(address: bytes) -> bytes:
    """The same for a packed address."""
    return address[:8]


@lru_cache(maxsize=4096)
def _network(address: str) -> bytes:
    return packed_source(ipaddress.IPv6Address(address).packed)


def networks(values: Iterable[str]) -> tuple[IPNetwork, ...]:
    """Networks of ``settings.proxy.allowed_targets``, which the settings have checked already."""
    return tuple(ipaddress.ip_network(value) for value in values)


def is_literal(address: str) -> bool:
    """Whether it is an IP address, and no name."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def literals(values: Iterable[str]) -> frozenset[IPAddress]:
    """Addresses of ``settings.gateway.public_addresses``, which the settings have checked already."""
    return frozenset(ipaddress.ip_address(value) for value in values)


def denied_reason(address: str, allowed: Collection[IPNetwork], own: Collection[IPAddress]) -> str | None:
    """Why a tenant must not name ``address`` as a target; ``None`` when it is allowed.

    Denied is what is not globally reachable; of an IPv6 address that contains IPv4 ones, they are judged as well.
    ``allowed`` opens what is denied: a network of any size opens private ones, but loopback, link-local and the
    gateway's ``own`` addresses open only one by one (/32, /128), so that a wide entry never exposes the gateway.
    """
    try:
        target = ipaddress.ip_address(address)
    except ValueError:
        return "not an IP address"
    if isinstance(target, ipaddress.IPv6Address) and target.scope_id is not None:
        return "an address with a zone"
    target = reached(target)
    for judged in (*contained_ipv4(target), target):
        reason = _denied(judged, allowed, own)
        if reason is not None:
            return reason
    return None


def _denied(target: IPAddress, allowed: Collection[IPNetwork], own: Collection[IPAddress]) -> str | None:
    purpose = not_reachable(target)
    if target.is_multicast or purpose in _NEVER:
        return "an unspecified, multicast or reserved address"
    if target in own or target.is_loopback or target.is_link_local:
        if any(target in network and network.num_addresses == 1 for network in allowed):
            return None
        if target.is_loopback:
            return "a loopback address"
        return "an address of the gateway itself" if target in own else "a link-local address"
    if within(target, allowed):
        return None
    if purpose in _PRIVATE or within(target, _PRIVATE_UNREGISTERED):
        return "a private address"
    return None if purpose is None else f"not globally reachable ({purpose})"


def within(target: IPAddress, among: Iterable[IPNetwork]) -> bool:
    """Whether an address is in one of these networks."""
    return any(target in network for network in among)


def own_addresses(public: Iterable[IPAddress] = (), proc: Path = Path("/proc/net")) -> frozenset[IPAddress]:
    """Addresses of this host's interfaces in this network namespace, and ``public`` ones that lead to it.

    A table of the kernel that does not exist counts as empty.

    Errors: ``OSError`` for one that cannot be read, as when there are no descriptors.
    """
    found = set(public)
    found.update(ipaddress.IPv4Address(text) for text in _FIB_LOCAL.findall(_read(proc / "fib_trie")))
    for line in _read(proc / "if_inet6").splitlines():
        found.add(ipaddress.IPv6Address(int(line.split()[0], 16)))
    return frozenset(found)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        return ""
