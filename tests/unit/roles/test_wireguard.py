"""What the role wireguard installs, tells users to connect to, and asks of the firewall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

V4 = {"default_ipv4": {"interface": "ens3", "address": "192.0.2.1"}}
V6 = {"default_ipv6": {"interface": "wan0", "address": "2001:db8::1"}}
OURS = [
    "ufw allow 3443/udp comment 'tfgateway-4to6'",
    "ufw route allow in on wg-tfgateway out on wan0 comment 'tfgateway-4to6'",
]
OPERATORS = [
    "ufw allow 34022/tcp",
    "ufw allow 51820/udp comment 'my own tunnel'",
    "ufw route allow in on wg0 out on wan0",
]
FORMER = [
    "ufw allow 5000/udp comment 'tfgateway-4to6'",
    "ufw route allow in on wg-old out on eth9 comment 'tfgateway-4to6'",
]


def node(*rules: str, kernel: bool = False, **other: Any) -> dict[str, Any]:
    return {
        "facts": V4 | V6,
        "_wireguard_host": {
            "commands": {
                "ufw": {"rc": 0, "stdout": "\n".join(["Added user rules:", *rules])},
                "module": {"rc": 0 if kernel else 1},
            }
        },
        **other,
    }


CASES: dict[str, dict[str, Any]] = {
    "fresh": node(*OPERATORS),
    "kernel": node(kernel=True),
    "bionic": node(facts=V4 | {"distribution": "Ubuntu", "distribution_version": "18.04"}),
    "bullseye": node(facts=V4 | {"distribution": "Debian", "distribution_version": "11.11"}),
    "bookworm": node(facts=V4 | {"distribution": "Debian", "distribution_version": "12.9"}),
    "sid": node(facts=V4 | {"distribution": "Debian", "distribution_version": "n/a"}),
    "arch": node(facts=V4 | {"distribution": "Archlinux", "distribution_version": "rolling"}),
    "noble": node(facts=V4 | {"distribution": "Ubuntu", "distribution_version": "24.04"}),
    "provisioned": node(*OPERATORS, *OURS),
    "changed": node(*OPERATORS, *FORMER, OURS[0]),
    "off": node(*OPERATORS, *OURS, wireguard_enabled=False),
    "off-as-text": node(*OPERATORS, *OURS, wireguard_enabled="false"),
    "only-ipv4": node(facts=V4 | {"default_ipv6": {}}),
    "only-ipv6": node(facts=V6 | {"default_ipv4": {}}, wireguard_port=51820),
    "no-route": node(facts={"default_ipv4": {}, "default_ipv6": {}}),
    "uplink-set": node(masquerade_uplink="bond0"),
}


@pytest.fixture(scope="module")
def values(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    wanted = [
        "_wireguard_packages",
        "_wireguard_missing",
        "_wireguard_obsolete",
        "_wireguard_rules",
        "wireguard_endpoint",
    ]
    return evaluate("wireguard", {name.removeprefix("_wireguard_"): name for name in wanted}, CASES)


def test_wireguard_go_is_installed_only_where_the_kernel_has_no_wireguard(values: dict[str, dict[str, Any]]) -> None:
    assert values["fresh"]["packages"] == ["wireguard-tools", "wireguard-go"]
    assert values["bionic"]["packages"] == ["wireguard-tools", "wireguard-dkms"]
    assert values["bullseye"]["packages"] == ["wireguard-tools", "wireguard-dkms"]
    for other in ("bookworm", "sid", "arch", "noble"):
        assert values[other]["packages"] == ["wireguard-tools", "wireguard-go"]
    assert values["kernel"]["packages"] == ["wireguard-tools"]


def test_i2_port_and_forwarding_are_let_in_once(values: dict[str, dict[str, Any]]) -> None:
    assert values["fresh"]["missing"] == OURS
    assert values["provisioned"]["missing"] == []


@pytest.mark.parametrize("case", ["fresh", "provisioned"])
def test_rules_of_an_operator_stay(values: dict[str, dict[str, Any]], case: str) -> None:
    assert values[case]["obsolete"] == []


def test_rules_of_a_former_port_or_interface_go(values: dict[str, dict[str, Any]]) -> None:
    assert values["changed"]["obsolete"] == FORMER
    assert values["changed"]["missing"] == OURS[1:]


@pytest.mark.parametrize("case", ["off", "off-as-text"])
def test_switched_off_nothing_of_it_stays_in_the_firewall(values: dict[str, dict[str, Any]], case: str) -> None:
    assert values[case]["obsolete"] == OURS
    assert values[case]["missing"] == []


@pytest.mark.parametrize(
    ("case", "endpoint"),
    [
        ("fresh", "192.0.2.1:3443"),
        ("only-ipv4", "192.0.2.1:3443"),
        ("only-ipv6", "[2001:db8::1]:51820"),
        ("no-route", ":3443"),
    ],
)
def test_i14_users_are_told_the_address_that_packets_leave_from(
    values: dict[str, dict[str, Any]], case: str, endpoint: str
) -> None:
    assert values[case]["wireguard_endpoint"] == endpoint


def test_tunnels_lead_to_the_uplink_of_the_masquerade(values: dict[str, dict[str, Any]]) -> None:
    assert " out on ens3 " in values["only-ipv4"]["rules"][1]
    assert " out on bond0 " in values["uplink-set"]["rules"][1]
