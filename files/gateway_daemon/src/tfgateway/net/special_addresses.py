"""What IANA's special-purpose address registries say of networks, and the IPv4 addresses that IPv6 ones contain. Pure.

``REGISTRY`` has both registries in full, as of 2025-10-09:
https://www.iana.org/assignments/iana-ipv4-special-registry and https://www.iana.org/assignments/iana-ipv6-special-registry
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

REGISTRY: tuple[tuple[str, str, bool | None], ...] = (
    ("0.0.0.0/8", "this network", False),
    ("0.0.0.0/32", "this host on this network", False),
    ("10.0.0.0/8", "private use", False),
    ("100.64.0.0/10", "shared address space", False),
    ("127.0.0.0/8", "loopback", False),
    ("169.254.0.0/16", "link-local", False),
    ("172.16.0.0/12", "private use", False),
    ("192.0.0.0/24", "IETF protocol assignments", False),
    ("192.0.0.0/29", "IPv4 service continuity prefix", False),
    ("192.0.0.8/32", "IPv4 dummy address", False),
    ("192.0.0.9/32", "port control protocol anycast", True),
    ("192.0.0.10/32", "TURN anycast", True),
    ("192.0.0.170/32", "NAT64/DNS64 discovery", False),
    ("192.0.0.171/32", "NAT64/DNS64 discovery", False),
    ("192.0.2.0/24", "documentation", False),
    ("192.31.196.0/24", "AS112-v4", True),
    ("192.52.193.0/24", "AMT", True),
    ("192.88.99.0/24", "deprecated 6to4 relay anycast", None),
    ("192.88.99.2/32", "6a44 relay anycast", False),
    ("192.168.0.0/16", "private use", False),
    ("192.175.48.0/24", "direct delegation AS112 service", True),
    ("198.18.0.0/15", "benchmarking", False),
    ("198.51.100.0/24", "documentation", False),
    ("203.0.113.0/24", "documentation", False),
    ("240.0.0.0/4", "reserved", False),
    ("255.255.255.255/32", "limited broadcast", False),
    ("::1/128", "loopback", False),
    ("::/128", "unspecified", False),
    ("::ffff:0:0/96", "IPv4-mapped", False),
    ("64:ff9b::/96", "IPv4-IPv6 translation", True),
    ("64:ff9b:1::/48", "local-use IPv4-IPv6 translation", False),
    ("100::/64", "discard-only", False),
    ("100:0:0:1::/64", "dummy prefix", False),
    ("2001::/23", "IETF protocol assignments", False),
    ("2001::/32", "Teredo", None),
    ("2001:1::1/128", "port control protocol anycast", True),
    ("2001:1::2/128", "TURN anycast", True),
    ("2001:1::3/128", "DNS-SD service registration protocol anycast", True),
    ("2001:2::/48", "benchmarking", False),
    ("2001:3::/32", "AMT", True),
    ("2001:4:112::/48", "AS112-v6", True),
    ("2001:10::/28", "deprecated ORCHID", None),
    ("2001:20::/28", "ORCHIDv2", True),
    ("2001:30::/28", "drone remote ID", True),
    ("2001:db8::/32", "documentation", False),
    ("2002::/16", "6to4", None),
    ("2620:4f:8000::/48", "direct delegation AS112 service", True),
    ("3fff::/20", "documentation", False),
    ("5f00::/16", "segment routing SIDs", False),
    ("fc00::/7", "unique local", False),
    ("fe80::/10", "link-local", False),
)
"""(network, name, globally reachable). None: the registry says neither; the most specific network counts."""

_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291 §2.5.5.1
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")  # RFC 7915 §2.2
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
_6TO4 = ipaddress.IPv6Network("2002::/16")  # RFC 3056
_TEREDO = ipaddress.IPv6Network("2001::/32")  # RFC 4380
_ISATAP = (0x00005EFE, 0x02005EFE)  # first half of the interface identifier, RFC 5214 §6.1
_NAT64_OCTETS = ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))
"""Where the IPv4 address is behind a prefix of 48, 56, 64 and 96 bits (RFC 6052 §2.2)."""

_BY_VERSION = {
    version: sorted(
        (
            (network, name, reachable)
            for text, name, reachable in REGISTRY
            if (network := ipaddress.ip_network(text)).version == version
        ),
        key=lambda row: -row[0].prefixlen,
    )
    for version in (4, 6)
}


@lru_cache(maxsize=4096)
def not_reachable(address: IPAddress) -> str | None:
    """The name of the special purpose for which an address is not globally reachable; None: it is, as far as known.

    6to4 and Teredo addresses are as reachable as the IPv4 addresses that they contain (``contained_ipv4``).
    """
    for network, name, reachable in _BY_VERSION[address.version]:
        if address in network:
            return None if reachable or network in (_6TO4, _TEREDO) else name
    return None


def reached(address: IPAddress) -> IPAddress:
    """The IPv4 address of an IPv6 form that is nothing but that address written differently, else ``address``."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    plain = any(address in network for network in (_MAPPED, _TRANSLATED, _NAT64))
    if plain or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def contained_ipv4(address: IPAddress) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 hosts that packets to an IPv6 address are sent to, by tunnel or translation."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    number, octets = int(address), address.packed
    if address in _6TO4:
        yield ipaddress.IPv4Address(octets[2:6])
    elif address in _TEREDO:
        yield ipaddress.IPv4Address(octets[4:8])  # the server
        yield ipaddress.IPv4Address(~number & 0xFFFFFFFF)  # the client
    elif address in _LOCAL_NAT64:
        # Which of the lengths a site uses is not known; what would be in 0.0.0.0/8 is only the zeros of another one.
        for places in _NAT64_OCTETS:
            found = bytes(octets[place] for place in places)
            if found[0]:
                yield ipaddress.IPv4Address(found)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
