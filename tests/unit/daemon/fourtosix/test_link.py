from __future__ import annotations

import json
from ipaddress import IPv6Interface, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.fourtosix.link import LinkState, commands, parse_link, rule_commands

OWN = IPv6Interface("fd00::1/64")


def answer(
    *addresses: dict[str, Any], flags: tuple[str, ...] = ("POINTOPOINT", "NOARP", "UP"), mtu: int = 1420
) -> bytes:
    """As ``ip -json address show`` prints it."""
    link = {"ifindex": 2, "ifname": "wg0", "flags": flags, "mtu": mtu, "operstate": "UNKNOWN", "addr_info": addresses}
    return json.dumps([link]).encode()


def inet6(text: str) -> dict[str, Any]:
    address = IPv6Interface(text)
    return {"family": "inet6", "local": str(address.ip), "prefixlen": address.network.prefixlen, "scope": "global"}


def test_what_ip_prints_is_read() -> None:
    raw = answer(inet6("fd00::1/64"), inet6("fe80::1/64"), {"family": "inet", "local": "192.0.2.1", "prefixlen": 24})
    assert parse_link(raw) == LinkState(up=True, mtu=1420, addresses=frozenset({OWN}))
    assert parse_link(answer(flags=("POINTOPOINT",), mtu=1500)) == LinkState(up=False, mtu=1500, addresses=frozenset())


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b"[{}]", answer(inet6("fd00::1/64") | {"local": "x"}), b"[" * 10_000]
)
def test_another_answer_is_a_parse_error(raw: bytes) -> None:
    with pytest.raises(ParseError):
        parse_link(raw)


@given(st.binary(max_size=100))
def test_anything_is_a_link_or_a_parse_error(raw: bytes) -> None:
    with pytest.raises(ParseError):
        parse_link(raw)


def test_a_new_link_gets_its_address_and_comes_up() -> None:
    assert commands("wg0", OWN, LinkState(up=False, mtu=1420, addresses=frozenset())) == [
        ("address", "replace", "fd00::1/64", "dev", "wg0"),
        ("link", "set", "dev", "wg0", "mtu", "1420", "up"),
    ]


def test_a_link_that_is_right_is_left_alone() -> None:
    assert commands("wg0", OWN, LinkState(up=True, mtu=1420, addresses=frozenset({OWN}))) == []


def test_what_others_changed_is_put_right() -> None:
    former = IPv6Interface("fd99::1/64")
    assert commands("wg0", OWN, LinkState(up=True, mtu=9000, addresses=frozenset({OWN, former}))) == [
        ("address", "del", "fd99::1/64", "dev", "wg0"),
        ("link", "set", "dev", "wg0", "mtu", "1420", "up"),
    ]


SUBNET = IPv6Network("fd00::/64")
RULE = ("-6", "rule", "add", "priority", "3443", "from", "all", "to", "fd00::/64", "iif", "wg0", "prohibit")
OTHERS = b"0:\tfrom all lookup local\n32766:\tfrom all lookup main\n"


def test_peers_are_kept_apart_by_a_rule() -> None:
    assert rule_commands("wg0", SUBNET, OTHERS) == [RULE]
    assert rule_commands("wg0", SUBNET, OTHERS + b"3443:\tfrom all to fd00::/64 iif wg1 prohibit\n") == [RULE]


@pytest.mark.parametrize("mark", [b"", b"[detached] "])
def test_the_rule_is_made_once(mark: bytes) -> None:
    assert rule_commands("wg0", SUBNET, OTHERS + b"3443:\tfrom all to fd00::/64 iif wg0 " + mark + b"prohibit\n") == []


def test_the_rule_of_a_former_seed_is_removed() -> None:
    former = b"3443:\tfrom all to fd99::/64 iif wg0 prohibit\n"
    assert rule_commands("wg0", SUBNET, former + OTHERS) == [
        ("-6", "rule", "del", "priority", "3443", "from", "all", "to", "fd99::/64", "iif", "wg0", "prohibit"),
        RULE,
    ]


@given(st.binary(max_size=200))
def test_whatever_ip_prints_the_rule_is_made(shown: bytes) -> None:
    assert rule_commands("wg0", SUBNET, shown)[-1:] == [RULE]
