"""The interface as a network link: its wanted state, and the ``ip`` commands that lead to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface, IPv6Network

import msgspec

from tfgateway.errors import ParseError

MTU = 1420
"""Bytes: an Ethernet frame less what WireGuard over IPv6 adds."""

RULE_PRIORITY = 3443
"""Of the routing rule that keeps tenants apart: after table local, so that the gateway's own address is reached."""


class _Address(msgspec.Struct, frozen=True):
    local: str
    prefixlen: int
    family: str = ""


class _Link(msgspec.Struct, frozen=True):
    flags: tuple[str, ...]
    mtu: int
    addr_info: tuple[_Address, ...]


@dataclass(frozen=True, slots=True)
class LinkState:
    """A link as the kernel has it."""

    up: bool
    mtu: int
    addresses: frozenset[IPv6Interface]
    """IPv6, without the link-local ones."""


def parse_link(raw: bytes) -> LinkState:
    """The output of ``ip -json address show dev INTERFACE``. Errors: ``ParseError``."""
    try:
        (link,) = msgspec.json.decode(raw, type=tuple[_Link, ...])
        addresses = frozenset(
            IPv6Interface((IPv6Address(one.local), one.prefixlen)) for one in link.addr_info if one.family == "inet6"
        )
    except (ValueError, RecursionError) as error:
        raise ParseError(f"ip's answer cannot be read: {error}") from error
    return LinkState("UP" in link.flags, link.mtu, frozenset(one for one in addresses if not one.is_link_local))


def commands(interface: str, address: IPv6Interface, present: LinkState) -> list[tuple[str, ...]]:
    """Arguments of ``ip``, one tuple a command; none when everything is as it should be.

    address: the only one that the interface is to have; another is of a seed that this gateway had before.
    """
    wrong = [("address", "del", str(other), "dev", interface) for other in sorted(present.addresses - {address})]
    missing = [] if address in present.addresses else [("address", "replace", str(address), "dev", interface)]
    dormant = not present.up or present.mtu != MTU
    return [*wrong, *missing, *([("link", "set", "dev", interface, "mtu", str(MTU), "up")] if dormant else [])]


def rule_commands(interface: str, subnet: IPv6Network, shown: bytes) -> list[tuple[str, ...]]:
    """Arguments of ``ip`` for the rule that nothing goes from one peer to another, whatever the firewall lets through.

    shown: the output of ``ip -6 rule show``, as text, which all versions of iproute2 print alike.
    """
    wanted = f"from all to {subnet} iif {interface} prohibit".split()
    present: list[list[str]] = []
    for line in shown.decode("ascii", "replace").splitlines():
        priority, _, rest = line.partition(":")
        words = [
            word for word in rest.split() if word != "[detached]"
        ]  # the interface was removed, or is not there yet
        if priority == str(RULE_PRIORITY) and f"iif {interface} " in " ".join([*words, ""]):
            present.append(words)
    rule = ("-6", "rule")
    wrong = [(*rule, "del", "priority", str(RULE_PRIORITY), *words) for words in present if words != wanted]
    return [*wrong, *([] if wanted in present else [(*rule, "add", "priority", str(RULE_PRIORITY), *wanted)])]
