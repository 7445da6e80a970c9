"""Which rules the role firewall adds, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SERVED = ["53/udp", "53/tcp", "80/tcp", "443/tcp", "18000/tcp"]


def status(*rules: str) -> dict[str, Any]:
    """What tasks/look.yml registers: ``ufw status`` and ``ufw show added``."""
    lines = ["Status: inactive", "Added user rules (see 'ufw status' for running firewall):", *rules]
    return {"_firewall_host": {"commands": {"status": {"stdout": "\n".join(lines)}}}}


CASES = {
    "fresh": status("(None)"),
    "ports-elsewhere": status() | {"firewall_ssh_ports": ["2022"], "ansible_port": 2022},
    "in-by-another": status()
    | {"facts": {"env": {"SSH_CONNECTION": "192.0.2.9 50000 192.0.2.1 2200"}}, "ansible_port": 1},
    "in-by-inventory": status() | {"ansible_port": 2201},
    "provisioned": status(*(f"ufw allow {rule}" for rule in ["22/tcp", "34022/tcp", *SERVED])),
    "by-an-operator": status(
        "ufw limit 22/tcp",
        "ufw allow 34022/tcp comment 'way in'",
        "ufw deny 53/udp",
        "ufw allow 80",
        "ufw allow 443/tcp",
    ),
    "tunnels-inside-tls": status() | {"gateway_tunnel_certificate": "/etc/tls/chain.pem"},
    "narrower": status(
        "ufw allow from 192.0.2.0/24 to any port 22 proto tcp", "ufw allow 1443/tcp", "ufw allow out 80/tcp"
    ),
    "sshd-moved": status(
        "ufw allow 22/tcp comment 'managed-sshd'",
        "ufw allow 2200/tcp comment 'way in'",
        "ufw allow 34022/tcp comment 'managed-sshd'",
    )
    | {"firewall_ssh_ports": [34022], "ansible_port": 34022},
    "sshd-moves": status("ufw allow 22/tcp comment 'managed-sshd'") | {"firewall_ssh_ports": [34022]},
    "member": status(
        "ufw allow from 10.0.0.9 to any port 6380 proto tcp comment 'managed-group'",
        "ufw allow from 10.0.0.2 to any port 6380 proto tcp comment 'managed-group'",
        "ufw allow from 10.0.0.8 to any port 26379 proto tcp",
    )
    | {"gateway_group": "paris"},
    "other-member": status() | {"gateway_group": "paris", "tfredis_address": "10.0.0.2"},
    "of-another-group": status() | {"gateway_group": "gent", "tfredis_address": "10.0.0.3"},
}


def listening(*addresses: str) -> dict[str, Any]:
    """What ``ss -Hlnt`` prints."""
    lines = [f"LISTEN 0      128          {address}      0.0.0.0:*          " for address in addresses]
    return {"_firewall_host": {"commands": {"listeners": {"stdout": "\n".join(lines)}}}}


LISTENERS = {
    "fresh": (listening("0.0.0.0:22", "[::]:22", "127.0.0.1:25"), [22]),
    "provisioned": (listening("0.0.0.0:34022", "0.0.0.0:22", "0.0.0.0:80"), [22, 34022]),
    "elsewhere": (listening("0.0.0.0:2022"), []),
    "elsewhere-in-use": (listening("0.0.0.0:2022") | {"ansible_port": 2022}, [2022]),
}


def test_a_fresh_login_comes_in_where_something_listens(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> None:
    """Role firewall alone, on a host where sshd has the port that it always had."""
    values = evaluate(
        "firewall", {"ports": "_firewall_login_ports"}, {case: look for case, (look, _) in LISTENERS.items()}
    )
    assert {case: found["ports"] for case, found in values.items()} == {
        case: want for case, (_, want) in LISTENERS.items()
    }


@pytest.fixture(scope="module")
def values(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, dict[str, list[str]]]:
    names = ("missing", "rules", "obsolete")
    return evaluate("firewall", {name: f"_firewall_{name}" for name in names}, CASES)


@pytest.fixture(scope="module")
def missing(values: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    return {case: found["missing"] for case, found in values.items()}


def test_a_port_that_sshd_left_is_closed_once_nobody_comes_in_by_it(values: dict[str, dict[str, list[str]]]) -> None:
    assert values["sshd-moved"]["obsolete"] == ["22/tcp"]
    assert values["sshd-moves"]["obsolete"] == []
    assert values["sshd-moves"]["rules"][0] == "34022/tcp comment managed-sshd"
    assert {
        case: found["obsolete"]
        for case, found in values.items()
        if case not in ("sshd-moved", "member") and found["obsolete"]
    } == {}


def test_a_member_lets_in_the_others_of_its_group_alone(values: dict[str, dict[str, list[str]]]) -> None:
    rules = [rule for rule in values["member"]["rules"] if rule.startswith("from ")]
    assert rules == ["from 10.0.0.2 to any port 26379 proto tcp comment managed-group"]
    assert values["member"]["obsolete"] == ["from 10.0.0.9 to any port 6380 proto tcp"]
    assert [rule for rule in values["of-another-group"]["rules"] if rule.startswith("from ")] == []


def test_i2_ssh_is_let_in_before_everything_else(missing: dict[str, list[str]]) -> None:
    assert missing["fresh"] == ["22/tcp", "34022/tcp", *SERVED]


def test_t21_the_port_for_tunnels_inside_tls_is_opened_when_there_is_a_certificate(
    missing: dict[str, list[str]],
) -> None:
    assert missing["tunnels-inside-tls"] == [*missing["fresh"], "18443/tcp"]


def test_i2_port_in_use_is_let_in_even_if_nobody_asked_for_it(missing: dict[str, list[str]]) -> None:
    # Behind a port forwarding the host's own port counts, not the one that the controller connects to.
    assert missing["in-by-another"] == ["22/tcp", "2200/tcp", "34022/tcp", *SERVED]
    assert missing["in-by-inventory"] == ["22/tcp", "2201/tcp", "34022/tcp", *SERVED]
    assert missing["ports-elsewhere"] == ["2022/tcp", *SERVED]


def test_nothing_is_missing_on_a_provisioned_host(missing: dict[str, list[str]]) -> None:
    assert missing["provisioned"] == []


def test_rules_of_an_operator_stay(missing: dict[str, list[str]]) -> None:
    assert missing["by-an-operator"] == ["53/udp", "53/tcp", "80/tcp", "18000/tcp"]


def test_narrower_rules_do_not_count(missing: dict[str, list[str]]) -> None:
    assert missing["narrower"] == ["22/tcp", "34022/tcp", *SERVED]
