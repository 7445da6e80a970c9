from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from tfgateway.net.addresses import denied_reason, networks, own_addresses
from tfgateway.net.special_addresses import REGISTRY

OWN = frozenset({ipaddress.ip_address("203.0.113.1"), ipaddress.ip_address("2001:db8::1")})


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "2606:4700::1", "200:1::1"),
        *("::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "::8.8.8.8"),
        "2001:0:808:808::f7f7:f7f7",  # Teredo, server and client 8.8.8.8
        "2606:4700::5efe:8.8.8.8",
        *("192.0.0.9", "192.31.196.1", "2001:20::1", "2001:4:112::1"),  # in networks that are not, and are themselves
    ],
)
def test_public_addresses_may_be_named(address: str) -> None:
    assert denied_reason(address, (), OWN) is None


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.0.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.5", "multicast"),
        ("255.255.255.255", "reserved"),
        ("ff02::1", "multicast"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "zone"),
        ("10.0.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.100.100.200", "private"),
        ("168.63.129.16", "private"),
        ("fd00:ec2::254", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("203.0.113.1", "gateway itself"),
        ("::ffff:203.0.113.1", "gateway itself"),
        ("2001:db8::1", "gateway itself"),
        # Each form that contains an IPv4 address (RFC 4291, 6052, 8215, 7915, 3056, 4380, 5214).
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b:1::7f00:1", "loopback"),
        ("64:ff9b:1:7f00:0:100::", "loopback"),
        ("::ffff:0:127.0.0.1", "loopback"),
        ("::ffff:0:7f00:1", "loopback"),
        ("2001::1", "unspecified"),
        ("2001:0:808:808::80ff:fffe", "loopback"),
        ("2001:0:7f00:1::f7f7:f7f7", "loopback"),
        ("2606:4700::5efe:127.0.0.1", "loopback"),
        ("2606:4700::200:5efe:10.0.0.1", "private"),
        ("fe80::5efe:10.0.0.1", "private"),
        ("2002:cb00:7101::1", "gateway itself"),
        ("64:ff9b::203.0.113.1", "gateway itself"),
        ("2606:4700::5efe:203.0.113.1", "gateway itself"),
        ("64:ff9b:1::808:808", "not globally reachable (local-use IPv4-IPv6 translation)"),
        ("100::1", "not globally reachable (discard-only)"),
        ("", "not an IP address"),
        ("localhost", "not an IP address"),
        ("010.1.1.1", "not an IP address"),
        ("1.2.3.4 ", "not an IP address"),
    ],
)
def test_t15_denied_targets_say_why(address: str, word: str) -> None:
    reason = denied_reason(address, (), OWN)
    assert reason is not None
    assert word in reason


def test_t15_what_the_registries_call_not_globally_reachable_is_denied() -> None:
    """The ends of each network, unless a more specific one that is reachable has them."""
    table = [(ipaddress.ip_network(text), name, reachable) for text, name, reachable in REGISTRY]
    assert len({network for network, _, _ in table}) == len(table) > 50
    looked_at = set()
    for network, name, reachable in table:
        for address in (network[0], network[-1]):
            within = [row for row in table if row[0].version == address.version and address in row[0]]
            if max(within, key=lambda row: row[0].prefixlen)[0] != network:
                continue
            looked_at.add(network)
            reason = denied_reason(str(address), (), ())
            # As reachable as what is translated: the ends contain 0.0.0.0 and 255.255.255.255.
            reachable_itself = reachable and str(network) != "64:ff9b::/96"
            assert (reason is None) == bool(reachable_itself), (str(address), name, reason)
    assert {network for network, _, _ in table} == looked_at


@pytest.mark.parametrize("network", ["192.0.2.0/24", "198.18.0.0/15", "2001:db8::/32", "3fff::/20", "64:ff9b:1::/48"])
def test_t15_an_allowed_network_opens_what_is_not_globally_reachable(network: str) -> None:
    address = str(ipaddress.ip_network(network)[9])
    assert denied_reason(address, (), ()) is not None
    assert denied_reason(address, networks([network]), ()) is None


def test_t15_an_allowed_network_opens_private_addresses_only() -> None:
    everything = networks(["0.0.0.0/0", "::/0"])
    assert denied_reason("10.1.2.3", everything, OWN) is None
    assert denied_reason("10.1.2.3", networks(["10.1.2.0/24"]), OWN) is None
    assert denied_reason("10.1.3.3", networks(["10.1.2.0/24"]), OWN) is not None
    for address in ("127.0.0.1", "169.254.169.254", "203.0.113.1", "2001:db8::1", "::", "224.0.0.1"):
        assert denied_reason(address, everything, OWN) is not None


def test_t15_the_gateway_itself_is_opened_one_address_at_a_time() -> None:
    allowed = networks(["127.0.0.1/32", "203.0.113.1/32"])
    assert denied_reason("127.0.0.1", allowed, OWN) is None
    assert denied_reason("203.0.113.1", allowed, OWN) is None
    assert denied_reason("127.0.0.2", allowed, OWN) is not None
    assert denied_reason("0.0.0.0", networks(["0.0.0.0/32"]), OWN) is not None


def test_own_addresses_are_read_from_the_kernels_tables(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text(
        "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n"
        "     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n"
    )
    (tmp_path / "if_inet6").write_text("fd910007000000000000000000000011 04 40 00 82     eth0\n")
    assert own_addresses(proc=tmp_path) == {ipaddress.ip_address("192.0.2.2"), ipaddress.ip_address("fd91:7::11")}
    assert own_addresses(proc=tmp_path / "absent") == frozenset()
    assert own_addresses(OWN, tmp_path / "absent") == OWN
    assert ipaddress.ip_address("127.0.0.1") in own_addresses()
    (tmp_path / "fib_trie").unlink()
    (tmp_path / "fib_trie").mkdir()
    with pytest.raises(OSError):
        own_addresses(proc=tmp_path)
