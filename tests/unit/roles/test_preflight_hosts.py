"""Preflight's other stages: the port at which sshd answers, and what a host must have."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import pytest

Run = Any  # of conftest.py, which cannot be imported
Playbook = Callable[..., Run]

CONNECTION = [
    {"ansible.builtin.include_role": {"name": "tfgrid.gateway.preflight", "tasks_from": "connection"}},
    {"name": "Afterwards", "ansible.builtin.debug": {"msg": "{{ ansible_port }}"}},
]
JUDGEMENT = "The host can become a gateway"


@contextmanager
def server(greeting: bytes) -> Iterator[int]:
    """A server on loopback that greets and closes; its port."""

    def greet() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            with connection:
                connection.sendall(greeting)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_configured_port_is_kept_when_sshd_answers_there(playbook: Playbook, options: tuple[str, ...]) -> None:
    with server(b"SSH-2.0-OpenSSH_9.2p1\r\n") as port:
        hosts = {"tf-gateway-a": {"ansible_host": "127.0.0.1", "ansible_port": port}}
        run = playbook(CONNECTION, hosts, *options)
    assert run.code == 0, run.output
    assert run.tasks["Afterwards"]["tf-gateway-a"]["msg"] == port


def test_host_without_sshd_is_named_with_its_ports_and_the_others_go_on(playbook: Playbook) -> None:
    with server(b"SSH-2.0-OpenSSH_9.2p1\r\n") as port, server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as other:
        hosts = {
            "tf-gateway-up": {"ansible_host": "127.0.0.1", "ansible_port": port},
            "tf-gateway-away": {"ansible_host": "192.0.2.1", "ansible_port": 34022},  # TEST-NET-1: nobody is there
            "tf-gateway-web": {"ansible_host": "127.0.0.1", "ansible_port": other},
        }
        run = playbook(CONNECTION, hosts, variables={"preflight_connect_timeout": 1})
    assert run.code != 0
    message = run.message("Sshd answers", "tf-gateway-away")
    assert "tf-gateway-away: no SSH server answers at 192.0.2.1, port 34022 or 22." in message
    assert run.tasks["Ask at the configured port"]["tf-gateway-web"].get("match_groups") is None
    assert "tf-gateway-up" in run.tasks["Afterwards"]
    assert run.stats["tf-gateway-up"]["failures"] == 0


def test_other_ways_in_than_ssh_are_not_asked(playbook: Playbook) -> None:
    run = playbook(CONNECTION, {"tf-gateway-a": {"ansible_connection": "local", "ansible_port": 1}})
    assert run.code == 0, run.output
    assert run.tasks["Ask at the configured port"]["tf-gateway-a"]["skipped"]


FACTS = {
    "os_family": "Debian",
    "distribution": "Debian",
    "distribution_version": "12.8",
    "service_mgr": "systemd",
    "python_version": "3.11.2",
    "memtotal_mb": 961,
}
SEEN: dict[str, Any] = {
    "_preflight_space": {"stdout_lines": ["Avail", "20000", "1024"]},
    "_preflight_clock": {"stdout": "-2"},
    "_preflight_listeners": {"stdout_lines": []},
}


def listeners(*lines: str) -> dict[str, Any]:
    return {"_preflight_listeners": {"stdout_lines": list(lines)}}


FAULTS: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] = {
    "arch": (
        {"os_family": "Archlinux", "distribution": "Archlinux"},
        {},
        "runs Archlinux 12.8: only Debian and Ubuntu",
    ),
    "sysvinit": ({"service_mgr": "sysvinit"}, {}, "is run by sysvinit: the gateway needs systemd"),
    "old-python": ({"python_version": "3.10.12"}, {}, "has Python 3.10.12"),
    "small": ({"memtotal_mb": 512}, {}, "has 512 MiB of memory"),
    "full": ({}, {"_preflight_space": {"stdout_lines": ["Avail", "20000", "1023"]}}, "has 1023 MiB free"),
    "late": ({}, {"_preflight_clock": {"stdout": "-61"}}, "is -61 s off"),
    "early": ({}, {"_preflight_clock": {"stdout": "3600"}}, "is 3600 s off"),
    "web": (
        {},
        listeners("nginx.service at 0.0.0.0:80/tcp", "nginx.service at 0.0.0.0:80/tcp"),
        "nginx.service at 0.0",
    ),
    "old-dns": ({}, listeners("coredns.service at *:53/udp"), "held by coredns.service at *:53/udp"),
    "by-hand": ({}, listeners("python3 at 0.0.0.0:443/tcp"), "held by python3 at 0.0.0.0:443/tcp"),
    "alike": ({}, listeners("not-tfgateway.service at *:80/tcp"), "held by not-tfgateway.service"),
}


@pytest.fixture(scope="module")
def problems(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, list[str]]:
    """By case, what the rules say."""
    cases = {name: {"facts": FACTS | facts} | SEEN | seen for name, (facts, seen, _) in FAULTS.items()}
    cases["right"] = {"facts": FACTS} | SEEN
    cases["ours"] = (
        {"facts": FACTS} | SEEN | listeners("tfgateway-dns.service at *:53/udp", "tfgateway.service at *:80/tcp")
    )
    cases["resolved"] = {"facts": FACTS} | SEEN | listeners("systemd-resolved.service at 127.0.0.53%lo:53/udp")
    expression = "_preflight_host_rules | rejectattr('holds') | map(attribute='otherwise') | list"
    return {name: values["problems"] for name, values in evaluate("preflight", {"problems": expression}, cases).items()}


@pytest.mark.parametrize("name", FAULTS)
def test_host_that_can_not_become_a_gateway_is_told_why(problems: dict[str, list[str]], name: str) -> None:
    assert len(problems[name]) == 1
    assert FAULTS[name][2] in problems[name][0]
    assert name in problems[name][0]


def test_host_that_can_become_a_gateway_passes(problems: dict[str, list[str]]) -> None:
    assert problems["right"] == []


def test_units_of_the_gateway_may_hold_its_ports(problems: dict[str, list[str]]) -> None:
    assert problems["ours"] == []


def test_i6_stub_of_the_resolver_is_no_obstacle(problems: dict[str, list[str]]) -> None:
    """The role gateway switches the stub off; the node goes on resolving."""
    assert problems["resolved"] == []
