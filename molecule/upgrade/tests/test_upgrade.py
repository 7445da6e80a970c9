"""Releases come and go while visitors ask: not one question stays without an answer, whatever the release is worth."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from testbed import playbook
from testbed.containers import fleet, podman
from testbed.containers.fleet import Fleet, Node
from testbed.paths import ROOT
from tests.support import another_release

FLEET: Fleet = fleet.load(Path(__file__).parent.parent / "fleet.toml")
CANARY, OTHER = FLEET.nodes
PATIENCE = 30.0
RELOADED = ["tfgateway-dns", "tfgateway-proxy"]
UNITS = ["tfgateway", *RELOADED, "tfgateway-4to6"]
SECRETS = '{"gateway_dns_cookie_secrets": ["00112233445566778899aabbccddeeff"]}'


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", f"playbooks/{name}.yml", "-i", str(FLEET.directory / "inventory.yml"), *options]
    return subprocess.run(command, cwd=ROOT, env=playbook.environment(), capture_output=True, text=True)


def released(node: Node) -> str:
    return podman.run("exec", node.name, "readlink", "-e", "/opt/tfgateway/current").strip().rpartition("/")[2]


def supervisors(node: Node) -> list[str]:
    """Main process ids: a reload keeps them."""
    return podman.run("exec", node.name, "systemctl", "show", "-p", "MainPID", "--value", *RELOADED).split()


def configuration(node: Node) -> str:
    """Content, owner, group and mode of each file."""
    script = "cd /etc/tfgateway && sha256sum *.toml && stat -c '%n %U %G %a' *.toml"
    return podman.run("exec", node.name, "sh", "-c", script)


def assert_all_run(node: Node) -> None:
    """And come back after a boot: 4to6 too, which only the values of another role switch on."""
    for question, answer in (("is-active", "active"), ("is-enabled", "enabled")):
        assert podman.run("exec", node.name, "systemctl", question, *UNITS).split() == [answer] * len(UNITS), node.name


def writes(node: Node, user: str) -> bool:
    """Whether redis takes a write from this user of the node, who has no password."""
    ask = "redis-cli set written by-somebody; redis-cli -s /run/tfredis/redis.sock set written by-somebody"
    done = podman.run("exec", "--user", user, node.name, "sh", "-c", f"PATH=/usr/bin; ({ask}) 2>&1; true")
    return "OK" in done.split()


@contextmanager
def visitors() -> Iterator[None]:
    """Ask both nodes over DNS and HTTP all the time; at the end every question must have been answered."""
    done, wrong, asked = threading.Event(), [], [0] * 4

    def ask_dns(address: str) -> None:
        query = dns.message.make_query("version.invalid", "A")
        assert dns.query.udp(query, address, timeout=PATIENCE).rcode() == dns.rcode.REFUSED

    def ask_http(address: str) -> None:
        with socket.create_connection((address, 80), PATIENCE) as link:
            link.sendall(b"GET / HTTP/1.1\r\nHost: nobody.invalid\r\nConnection: close\r\n\r\n")
            assert link.recv(64).startswith(b"HTTP/1.1 404")

    def visit(number: int, node: Node) -> None:
        ask = ask_dns if number % 2 else ask_http
        while not done.is_set():
            try:
                ask(FLEET.address(node.host))
            except (OSError, AssertionError, dns.exception.DNSException) as error:
                wrong.append(f"{time.strftime('%T')} {ask.__name__} {node.name}: {error!r}")
            asked[number] += 1
            time.sleep(0.1)  # errors are limited to 20 a second for one network

    threads = [
        threading.Thread(target=visit, args=(number, node), daemon=True)
        for number, node in enumerate((CANARY, CANARY, OTHER, OTHER))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:  # else they would go on beside those of the next test, and be limited together with them
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:10]
    assert min(asked) > 50, asked


@pytest.fixture(scope="module")
def first() -> str:
    """The release of this tree, which the first test leaves."""
    return released(CANARY)


def program(node: Node, *arguments: str) -> str:
    return podman.run("exec", node.name, "/opt/tfgateway/current/bin/tfgateway", *arguments)


def updated(node: Node) -> int:
    """When the explorer last accepted a registration or a heartbeat of it, in Unix seconds."""
    node_id = json.loads(program(node, "identity", "show", "--json"))["node_id"]
    with urllib.request.urlopen(f"{FLEET.explorer_url}/gateways/{node_id}") as answer:
        return int(json.load(answer)["updated"])


def registers(node: Node) -> bool:
    """Whether the explorer accepts what its reconciler signs."""
    before, deadline = updated(node), time.monotonic() + 2 * PATIENCE
    time.sleep(1)  # its clock counts seconds
    podman.run("exec", node.name, "systemctl", "restart", "tfgateway.service")
    while updated(node) == before and time.monotonic() < deadline:
        time.sleep(0.5)
    return updated(node) > before


def roll_back(older: str, before: list[str]) -> None:
    done = run("rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [released(node) for node in FLEET.nodes] == [older] * len(FLEET.nodes)
    assert [configuration(node) for node in FLEET.nodes] == before
    for node in FLEET.nodes:
        assert_all_run(node)


def provision() -> None:
    done = run("site")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_older_release_is_upgraded_and_rolled_back() -> None:
    """One from before the daemon's packages were built anew, provisioned by its own playbooks.

    It cannot sign as the explorer demands of a gateway that is pinned, and yet its requests are accepted.
    """
    older = released(CANARY)
    processes = [supervisors(node) for node in FLEET.nodes]
    before = [configuration(node) for node in FLEET.nodes]
    with visitors():
        done = run("upgrade", "-e", SECRETS, "-v")
        assert done.returncode == 0, done.stdout + done.stderr
        assert older not in [released(node) for node in FLEET.nodes]
        for node, old in zip(FLEET.nodes, before, strict=True):
            assert_all_run(node)
            assert configuration(node) != old
        # Each was asked before and after, in the zone that its name gives it.
        assert done.stdout.count("dns/udp: ''") == done.stdout.count("dns/tcp: ''") == 2 * len(FLEET.nodes)
        # Their files were written after they had started, and they were not restarted.
        assert done.stdout.count(f"{' and '.join(RELOADED)} on ") == len(FLEET.nodes), done.stdout
        assert program(CANARY, "identity", "pin").endswith("is pinned at the explorer\n")
        assert registers(CANARY)

        podman.run("exec", CANARY.name, "systemctl", "disable", "--now", "tfgateway-4to6")
        roll_back(older, before)
        assert registers(CANARY)

        # It comes with users of redis, which that release does not know; nothing in it is lost.
        for node in FLEET.nodes:
            podman.run("exec", node.name, "sh", "-c", "printf 'multi\nset kept yes\nexec\n' | redis-cli")
        provision()
        for node in FLEET.nodes:
            assert not writes(node, "nobody")
        roll_back(older, before)
        for node in FLEET.nodes:
            assert writes(node, "nobody")
        provision()
        for node in FLEET.nodes:
            assert not writes(node, "nobody")
            assert podman.run("exec", node.name, "redis-cli", "get", "kept").strip() == "yes"
        assert older not in [released(node) for node in FLEET.nodes]
    assert [supervisors(node) for node in FLEET.nodes] == processes
    for node in FLEET.nodes:
        assert_all_run(node)


@pytest.mark.parametrize(
    ("name", "file", "line", "failure"),
    [
        ("broken", "dns/server/plane.py", "raise RuntimeError('a bug')", "Apply to the gateway"),
        # It takes over, and refuses what it should know.
        ("wrong", "dns/answer/lookup.py", "lookup = lambda *_: Answer(codes.REFUSED)", "dns/udp: RCODE 5"),
    ],
)
def test_a_bad_release_puts_itself_back_and_stops_the_run(
    first: str, name: str, file: str, line: str, failure: str
) -> None:
    """Nothing was lost, and the next gateway never hears of it."""
    processes = [supervisors(node) for node in FLEET.nodes]
    before = [configuration(node) for node in FLEET.nodes]
    with visitors():
        done = run(
            "upgrade",
            another_release.option(FLEET.directory / "sources" / name, file, line),
            "-e",
            SECRETS,
            "-e=upgrade_patience=10",
        )
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert f"It is back on {first} and serves" in said, done.stdout + done.stderr
    assert failure in said.partition("was not upgraded: ")[2].partition("It is back")[0], done.stdout
    assert [released(node) for node in FLEET.nodes] == [first, first]
    assert "TASK [Stop the run]" in done.stdout
    assert f"ok: [{OTHER.name}]" not in done.stdout
    assert [supervisors(node) for node in FLEET.nodes] == processes
    assert [configuration(node) for node in FLEET.nodes] == before
    assert_all_run(CANARY)
