"""Which interface the role masquerade takes for the uplink, and the unit that holds its rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

UNIT = Path(__file__).resolve().parents[3] / "roles" / "masquerade" / "templates" / "tfgateway-masquerade@.service.j2"

V4 = {"default_ipv4": {"interface": "ens3", "address": "192.0.2.1"}}
V6 = {"default_ipv6": {"interface": "wan0", "address": "2001:db8::1"}}

CASES: dict[str, dict[str, Any]] = {
    "both": {"facts": V4 | V6},
    "only-ipv4": {"facts": V4 | {"default_ipv6": {}}},
    "only-ipv6": {"facts": {"default_ipv4": {}} | V6},
    "none": {"facts": {"default_ipv4": {}, "default_ipv6": {}}},
    "set": {"facts": V4 | V6, "masquerade_uplink": "bond0"},
}


@pytest.fixture(scope="module")
def values(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    wanted = {"uplink": "_masquerade_uplink", "unit": "_masquerade_unit", "rule": "_masquerade_rule"}
    return evaluate("masquerade", wanted, CASES)


@pytest.mark.parametrize(
    ("case", "uplink"),
    [("both", "wan0"), ("only-ipv4", "ens3"), ("only-ipv6", "wan0"), ("none", ""), ("set", "bond0")],
)
def test_i7_uplink_is_found_not_assumed(values: dict[str, dict[str, Any]], case: str, uplink: str) -> None:
    assert values[case]["uplink"] == uplink


def test_i7_each_uplink_has_a_unit_and_a_rule_of_its_own(values: dict[str, dict[str, Any]]) -> None:
    assert values["only-ipv4"]["unit"] == "tfgateway-masquerade@ens3.service"
    assert values["only-ipv4"]["rule"] == "-A POSTROUTING -o ens3 -j MASQUERADE"  # as `ip6tables -S` prints it


def test_i7_rule_is_removed_before_it_is_added_and_when_the_unit_stops() -> None:
    commands = [line for line in UNIT.read_text().splitlines() if line.startswith("Exec")]
    rule = 'POSTROUTING -o "$$0" -j MASQUERADE'
    for command, (when, change) in zip(commands, [("Start", "-D"), ("Start", "-A"), ("Stop", "-D")], strict=True):
        assert command.startswith(f"Exec{when}=")
        assert f"ip6tables -w -t nat {change} {rule}" in command
        assert command.endswith("' %i")  # the interface is an argument, never part of a shell's text
    assert "WantedBy=multi-user.target" in UNIT.read_text()
