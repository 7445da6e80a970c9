"""Preflight's other stages: the port at which sshd answers, and what a host must have."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
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
    asked = run.tasks["Ask at the configured port, and at 22"]["tf-gateway-web"]
    assert other not in asked["ansible_facts"]["_preflight_answering"]
    assert "tf-gateway-up" in run.tasks["Afterwards"]
    assert run.stats["tf-gateway-up"]["failures"] == 0


def test_other_ways_in_than_ssh_are_not_asked(playbook: Playbook) -> None:
    run = playbook(CONNECTION, {"tf-gateway-a": {"ansible_connection": "local", "ansible_port": 1}})
    assert run.code == 0, run.output
    assert run.tasks["Ask at the configured port, and at 22"]["tf-gateway-a"]["skipped"]


HOST = {
    "connection": "192.0.2.9 50000 192.0.2.1 34022",
    "distribution": "debian",
    "release": "12",
    "title": "Debian GNU/Linux 12 (bookworm)",
    "libc": "glibc 2.36",
    "manager": "systemd",
    "memory": 961,
    "space": 1024,
    "clock": -2,
    "ipv6": "on",
}


def seen(*listeners: str, **other: object) -> dict[str, Any]:
    """What tasks/look.yml registers, by a connection with a terminal, which ends lines with CR LF."""
    lines = ["space=20000", *(f"{name}={value}" for name, value in (HOST | other).items())]
    return {"_preflight_seen": {"stdout": "\r\n".join([*lines, *(f"listener={one}" for one in listeners), ""])}}


FAULTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "rocky": (
        seen(distribution="rocky", release="9.4", title="Rocky Linux 9.4 (Blue Onyx)"),
        "runs Rocky Linux 9.4 (Blue Onyx): Arch, Debian 11 and Ubuntu 18.04 or newer are supported",
    ),
    "el-like": (
        seen(distribution="almalinux", release="13.0", title="AlmaLinux 13.0", libc="glibc 2.44"),
        "runs AlmaLinux 13.0: Arch, Debian 11 and Ubuntu 18.04 or newer are supported",
    ),
    "alpine-edge": (seen(distribution="alpine", release="", title="Alpine Linux edge"), "runs Alpine Linux edge"),
    "old-debian": (seen(release="10", title="Debian GNU/Linux 10"), "runs Debian GNU/Linux 10"),
    "old-ubuntu": (seen(distribution="ubuntu", release="16.04", title="Ubuntu 16.04 LTS"), "runs Ubuntu 16.04 LTS"),
    "jammy-in-a-group": (
        seen(distribution="ubuntu", release="22.04", title="Ubuntu 22.04 LTS") | {"gateway_group": "paris"},
        "has no TLS: take Debian 12, Ubuntu 24.04 or newer, or Arch for the members of a gateway_group",
    ),
    "bullseye-in-a-group": (
        seen(release="11", libc="glibc 2.31", title="Debian GNU/Linux 11") | {"gateway_group": "paris"},
        "runs Debian GNU/Linux 11, whose redis is too old for a group",
    ),
    "other-port": (
        seen() | {"sshd_ports": [2222], "ansible_port": 34022},
        "will listen at 2222 (sshd_ports), and the next run will look for it at 34022 (ansible_port) and at 22",
    ),
    "other-port-fresh": (
        seen(connection="192.0.2.9 50000 192.0.2.1 22")
        | {"sshd_ports": [2222], "ansible_port": 22, "_preflight_port_of_inventory": "34022"},
        "will listen at 2222 (sshd_ports), and the next run will look for it at 34022",
    ),
    "other-port-by-sudo": (seen(connection="") | {"sshd_ports": [2222]}, "will listen at 2222"),
    "old-libc": (
        seen(libc="glibc 2.27") | {"release_glibc": "2_28"},
        "has glibc 2.27, and the release would need glibc 2.28 (release_glibc): set release_glibc to no more than",
    ),
    "musl": (seen(libc=""), "has another C library than glibc, and the release would need glibc 2.17"),
    "sysvinit": (seen(manager="init"), "is run by init: take a host with systemd"),
    "bare": (seen(missing="ss"), "has no command ss: install the package iproute2"),
    "small": (seen(memory=512), "has 512 MiB of memory"),
    "full": (seen(space=1023), "has 1023 MiB free"),
    "late": (seen(clock=-61), "is -61 s off"),
    "early": (seen(clock=3600), "is 3600 s off"),
    "no-ipv6": (seen(ipv6="off"), "has IPv6 switched off, which 4to6 hands out: set net.ipv6.conf.all.disable_ipv6"),
    "web": (seen("nginx.service at 0.0.0.0:80/tcp", "nginx.service at 0.0.0.0:80/tcp"), "nginx.service at 0.0"),
    "old-dns": (seen("coredns.service at *:53/udp"), "held by coredns.service at *:53/udp: "),
    "by-hand": (seen("python3 at 0.0.0.0:443/tcp"), "held by python3 at 0.0.0.0:443/tcp"),
    "alike": (seen("not-tfgateway.service at *:80/tcp"), "held by not-tfgateway.service"),
}
RIGHT = {
    "right": seen(),
    "right-testing": seen(release="", title="Debian GNU/Linux forky/sid"),
    "right-bullseye": seen(release="11", libc="glibc 2.31"),
    "right-trixie": seen(release="13"),
    "right-bionic": seen(distribution="ubuntu", release="18.04"),
    "right-noble": seen(distribution="ubuntu", release="24.04"),
    "right-libc": seen(libc="glibc 2.28") | {"release_glibc": "2_28"},
    "right-no-ipv6": seen(ipv6="off") | {"wireguard_enabled": False},
    "right-arch": seen(distribution="arch", release=""),
    "right-in-a-group": seen() | {"gateway_group": "paris"},
    "right-arch-in-a-group": seen(distribution="arch", release="") | {"gateway_group": "paris"},
    "ours": seen("tfgateway-dns.service at *:53/udp", "tfgateway.service at *:80/tcp"),
    "right-other-port": seen(connection="192.0.2.9 50000 192.0.2.1 22")
    | {"sshd_ports": [2222], "ansible_port": 22, "_preflight_port_of_inventory": "2222"},
    "right-port-22": seen() | {"sshd_ports": [22], "ansible_port": 34022},
    "right-forwarded": seen() | {"sshd_ports": [34022], "ansible_port": 2201},
    "right-podman": seen(connection="") | {"sshd_ports": [2222], "ansible_connection": "containers.podman.podman"},
    "resolved": seen("systemd-resolved.service at 127.0.0.53%lo:53/udp"),
    "tolerated": seen("nginx.service at *:80/tcp") | {"preflight_tolerated_units": ["nginx"]},
    "replaced": seen("coredns.service at *:53/udp") | {"_preflight_replaced_units": ["coredns"]},
}


@pytest.fixture(scope="module")
def problems(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, list[str]]:
    """By case, what the rules say."""
    cases = {name: look for name, (look, _) in FAULTS.items()} | RIGHT
    expression = "_preflight_host_rules | rejectattr('holds') | map(attribute='otherwise') | list"
    return {name: values["problems"] for name, values in evaluate("preflight", {"problems": expression}, cases).items()}


@pytest.mark.parametrize("name", FAULTS)
def test_host_that_can_not_become_a_gateway_is_told_why(problems: dict[str, list[str]], name: str) -> None:
    assert len(problems[name]) == 1
    assert FAULTS[name][1] in problems[name][0]
    assert name in problems[name][0]


def test_host_that_can_become_a_gateway_passes(problems: dict[str, list[str]]) -> None:
    assert {name: problems[name] for name in RIGHT if problems[name]} == {}


def test_i6_stub_of_the_resolver_is_no_obstacle(problems: dict[str, list[str]]) -> None:
    """The role gateway switches the stub off; the node goes on resolving."""
    assert problems["resolved"] == []


LOOK: list[dict[str, Any]] = [
    {"ansible.builtin.include_role": {"name": "tfgrid.gateway.preflight", "tasks_from": "look", "public": True}},
    {"name": "Foreign", "ansible.builtin.debug": {"msg": "{{ _preflight_foreign }}"}},
]
HERE: dict[str, Any] = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
# Nobody else's address, and ports that take no privilege.
ADDRESS = "127.53.80.18"


@contextmanager
def held(*ports: str) -> Iterator[None]:
    """Sockets of this process at ``tcp/N`` and ``udp/N``, listening where they can."""
    with ExitStack() as stack:
        for protocol, _, port in (one.partition("/") for one in ports):
            kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
            found = stack.enter_context(socket.socket(socket.AF_INET, kind))
            found.bind((ADDRESS, int(port)))
            if protocol == "tcp":
                found.listen()
        yield


def test_look_sees_who_listens_at_the_ports_of_the_gateway_and_at_no_other(playbook: Playbook) -> None:
    hosts = {"tf-gateway-a": HERE, "tf-gateway-b": HERE | {"wireguard_enabled": False}}
    with held("tcp/18000", "udp/18000", "udp/3443", "tcp/3443"):
        run = playbook(LOOK, hosts)
    assert run.code == 0, run.output

    def seen_here(host: str) -> list[str]:
        listeners = run.tasks["Foreign"][host]["msg"]
        owners = [one.partition(f" at {ADDRESS}:") for one in listeners if f" {ADDRESS}:" in one]
        assert [owner for owner, _, _ in owners if not owner] == []
        return sorted(port for _, _, port in owners)

    assert seen_here("tf-gateway-a") == ["18000/tcp", "3443/udp"]
    assert seen_here("tf-gateway-b") == ["18000/tcp"]


def test_look_tells_a_foreign_wireguard_from_the_gateways_own(playbook: Playbook, tmp_path: Path) -> None:
    """The kernel's sockets have no process. What ss prints is recorded: a test cannot make such a socket everywhere."""
    (tmp_path / "ss").write_text(
        "#!/bin/sh\n"
        "echo 'udp UNCONN 0 0 0.0.0.0:3443 0.0.0.0:*'\n"
        "echo 'udp UNCONN 0 0 [::]:3443 [::]:*'\n"
        f"""echo 'tcp LISTEN 0 511 [::]:443 [::]:* users:(("x",pid={os.getpid()},fd=3))'\n"""
    )
    (tmp_path / "ss").chmod(0o755)
    hosts = {
        "tf-gateway-ours": HERE | {"wireguard_interface": "lo"},  # one that is there
        "tf-gateway-other": HERE | {"wireguard_interface": "wg-nobody"},
    }
    run = playbook(LOOK, hosts, path=tmp_path)
    assert run.code == 0, run.output
    web, *none = run.tasks["Foreign"]["tf-gateway-ours"]["msg"]
    assert web.endswith(" at [::]:443/tcp")
    assert none == []
    wireguard = ["WireGuard at 0.0.0.0:3443/udp", "WireGuard at [::]:3443/udp"]
    assert run.tasks["Foreign"]["tf-gateway-other"]["msg"] == [*wireguard, web]
