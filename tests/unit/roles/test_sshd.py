"""Which ports the role sshd names, and when it makes sshd listen again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

IDLE = "LISTEN 0      128    127.0.0.1:6379  0.0.0.0:*\n"
ON_22 = "LISTEN 0      128    0.0.0.0:22      0.0.0.0:*\nLISTEN 0      128       [::]:22         [::]:*\n"
ON_34022 = "LISTEN 0      128       [::]:34022      [::]:*\n"


def seen(named: str, listening: str, *, socket: bool = False, file: str = "") -> dict[str, Any]:
    """What tasks/look.yml registers: output of ``sshd -T`` and ``ss``, the state of ssh.socket, the configuration."""
    return {
        "_sshd_host": {
            "commands": {
                "named": {"stdout": "port 1\n" + named + "addressfamily any\nlistenaddress [::]:1\n"},
                "listeners": {"stdout": IDLE + listening},
            },
            "units": {"ssh.socket": {"active": socket}},
            "texts": {"/etc/ssh/sshd_config": file},
        }
    }


BLOCK = """# BEGIN ports of tfgrid.gateway
Port 22
Port 34022
# END ports of tfgrid.gateway
"""

CASES = {
    "fresh": seen("", ON_22),
    "named-22": seen("port 22\n", ON_22),
    "named-22-twice": seen("port 22\nport 22\n", ON_22),
    "named-other": seen("port 2222\n", "LISTEN 0 128 *:2222 *:*\n"),
    "named-longer": seen("port 220\nport 3402\n", "LISTEN 0 128 *:220 *:*\n"),
    "named-all": seen("port 34022\nport 22\n", ON_22 + ON_34022),
    "provisioned": seen("", ON_22 + ON_34022),
    "by-socket": seen("", ON_22, socket=True),
    "block-is-there": seen("", ON_22, file=f"{BLOCK}UsePAM yes\n"),
    "block-without-newline": seen("", ON_22, file=BLOCK.rstrip()),
    "block-is-old": seen("port 22\n", ON_22, file=f"UsePAM yes\n{BLOCK}"),
    "block-is-twice": seen("", ON_22, file=f"{BLOCK}UsePAM yes\n{BLOCK}"),
    "block-is-not-needed": seen("port 22\nport 34022\n", ON_22, file=f"UsePAM yes\n{BLOCK}"),
    "ports-as-text": seen("port 22\n", ON_22) | {"sshd_ports": ["34022", "22", "22"]},
    "allowed-by-operator": seen("", ON_22)
    | {
        "sshd_ports": [22, 2200, 2201, 2202],
        "_sshd_ufw": {
            "stdout": "Status: active\nufw allow 2200/tcp comment 'way in'\nufw limit 2201/tcp\nufw allow 2202/udp"
        },
    },
}


@pytest.fixture(scope="module")
def values(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    wanted = {
        "name": "_sshd_unnamed",
        "open": "_sshd_not_listening",
        "by_socket": "_sshd_by_socket",
        "closed": "_sshd_closed",
        "configured": "_sshd_configured_already",
    }
    no_firewall = {"_sshd_ufw": {"stdout": ""}}
    return evaluate("sshd", wanted, {name: no_firewall | case for name, case in CASES.items()})


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("fresh", [22, 34022]),  # naming one port switches the default 22 off, so both are named
        ("named-22", [34022]),
        ("named-22-twice", [34022]),
        ("named-other", [22, 34022]),
        ("named-longer", [22, 34022]),
        ("named-all", []),
        ("provisioned", [22, 34022]),
        ("ports-as-text", [34022]),
    ],
)
def test_i1_ports_that_the_configuration_lacks_are_named_whatever_it_holds(
    values: dict[str, dict[str, Any]], case: str, named: list[int]
) -> None:
    assert values[case]["name"] == named


@pytest.mark.parametrize(
    ("case", "opened"),
    [("fresh", [34022]), ("named-other", [22, 34022]), ("named-all", []), ("provisioned", [])],
)
def test_i1_sshd_is_reloaded_only_for_ports_that_nobody_answers_on(
    values: dict[str, dict[str, Any]], case: str, opened: list[int]
) -> None:
    assert values[case]["open"] == opened


def test_the_file_is_written_only_when_it_does_not_name_the_ports_already(values: dict[str, dict[str, Any]]) -> None:
    right = {case for case, found in values.items() if found["configured"]}
    assert right == {"block-is-there", "named-all"}


def test_i1_systemds_socket_is_noticed(values: dict[str, dict[str, Any]]) -> None:
    assert {case for case, found in values.items() if found["by_socket"]} == {"by-socket"}


def test_a_rule_that_an_operator_has_made_is_not_made_again(values: dict[str, dict[str, Any]]) -> None:
    """Its comment would become the role's own, and role firewall would remove it one day."""
    assert values["fresh"]["closed"] == ["34022"]
    assert values["allowed-by-operator"]["closed"] == ["2202"]
