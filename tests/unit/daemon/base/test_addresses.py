from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from tfgateway.addresses import denied_reason, networks, own_addresses

OWN = frozenset({ipaddress.ip_address("203.0.113.1"), ipaddress.ip_address("2001:db8::1")})


@pytest.mark.parametrize("address", ["203.0.113.10", "8.8.8.8", "2001:db8::2", "::ffff:8.8.8.8", "2606:4700::1"])
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
    assert own_addresses(tmp_path) == {ipaddress.ip_address("192.0.2.2"), ipaddress.ip_address("fd91:7::11")}
    assert own_addresses(tmp_path / "absent") == frozenset()
    assert ipaddress.ip_address("127.0.0.1") in own_addresses()
    (tmp_path / "fib_trie").unlink()
    (tmp_path / "fib_trie").mkdir()
    with pytest.raises(OSError):
        own_addresses(tmp_path)
