"""Two gateways that are one: a member dies, comes back with old data, and is upgraded, while visitors ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest

from testbed import playbook
from testbed.containers import fleet, podman
from testbed.containers.fleet import Fleet, Node
from testbed.inventory import SUFFIXES
from testbed.paths import ROOT
from testbed.person import Person
from tests.support import waiting

FLEET: Fleet = fleet.load(Path(__file__).parent.parent / "fleet.toml")
MEMBERS, SENTINEL = FLEET.nodes[:2], FLEET.nodes[2]
DOMAIN = f"tfgw-{MEMBERS[0].group}.{SUFFIXES[0]}"
UNITS = ["tfredis", "tfsentinel", "tfgateway", "tfgateway-dns", "tfgateway-proxy"]
until = partial(waiting.until, pause=0.2)


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", name, "-i", str(FLEET.directory / "inventory.yml"), *options]
    return subprocess.run(
        command, cwd=ROOT, env=playbook.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def changes(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    assert done.returncode == 0, done.stdout
    recaps: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        if recap := playbook.parse_recap(line):
            recaps[recap.host] += recap.changed
    return {node.name: recaps[node.name] for node in FLEET.nodes}


def on(node: Node, *command: str) -> str:
    return podman.run("exec", node.name, *command).strip()


def role(node: Node) -> str:
    """``master``, ``slave``, or nothing while its redis does not run."""
    done = podman.run("exec", node.name, "sh", "-c", "/usr/local/sbin/redis-cli role 2> /dev/null || true").split()
    return done[0] if done else ""


def master() -> Node:
    def found() -> Node | None:
        return next((node for node in MEMBERS if role(node) == "master"), None)

    return until(found, "one member is the master")


def other(node: Node) -> Node:
    return next(one for one in MEMBERS if one is not node)


def sentinel(node: Node, *command: str) -> str:
    """What the Sentinel of this host says to root of a member."""
    login = "export REDISCLI_AUTH=$(cat /etc/tfredis/operator.secret); exec redis-cli --user operator"
    tls = "--tls --cert /etc/tfredis/group.pem --key /etc/tfredis/group.pem --cacert /etc/tfredis/group.pem"
    at = f"-h {FLEET.address(node.host)} -p 26379"
    return on(MEMBERS[0], "sh", "-c", f"PATH=/usr/bin:$PATH; {login} {tls} {at} sentinel {' '.join(command)}")


def named(node: Node) -> str:
    """The master, by the Sentinel of this host."""
    return sentinel(node, "get-master-addr-by-name", "tfgateway").split()[0]


def settled() -> bool:
    """Both redis are one, and all Sentinels name its master and know each other."""
    masters = [node for node in MEMBERS if role(node) == "master"]
    if len(masters) != 1 or {named(node) for node in FLEET.nodes} != {FLEET.address(masters[0].host)}:
        return False
    followed = on(other(masters[0]), "/usr/local/sbin/redis-cli", "info", "replication")
    checked = [sentinel(node, "ckquorum", "tfgateway") for node in FLEET.nodes]
    return "master_link_status:up" in followed and all("3 usable Sentinels" in text for text in checked)


@pytest.fixture(scope="module")
def person() -> Person:
    someone = Person(FLEET, "group-user")
    someone.register()
    return someone


def gateways(person: Person) -> list[dict[str, object]]:
    found: list[dict[str, object]] = person.reserve("gateways")
    return found


def reserve(person: Person, label: str, address: str) -> str:
    """A name of the group, deployed."""
    name = f"{label}.{DOMAIN}"
    (entry,) = gateways(person)
    made = person.reserve("create", "subdomain", "--domain", name, "--node", str(entry["node_id"]), f"--ip={address}")
    person.reserve("wait", "--timeout", "90", str(made["id"]))
    return name


def asked(node: Node, name: str, timeout: float = 2) -> list[str]:
    question = dns.message.make_query(name, "A")
    answer = dns.query.udp(question, FLEET.address(node.host), timeout=timeout)
    return [record.to_text() for rrset in answer.answer for record in rrset]


def answers(node: Node, name: str, address: str) -> bool:
    try:
        return asked(node, name) == [address]
    except (OSError, dns.exception.DNSException):  # it boots
        return False


@contextmanager
def queries(name: str, address: str, *nodes: Node) -> Iterator[Counter[str]]:
    """Ask for the name every 50 ms while the block lasts; counts by member and outcome. No answer may be wrong."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    done = threading.Event()

    def ask(node: Node) -> None:
        while not done.wait(0.05):
            try:
                found = asked(node, name)
            except (OSError, dns.exception.DNSException):
                counts[f"{node.name} lost"] += 1
                continue
            counts[f"{node.name} answered"] += 1
            if found != [address]:
                wrong.append(f"{time.strftime('%T')} {node.name}: {found}")

    threads = [threading.Thread(target=ask, args=(node,), daemon=True) for node in nodes]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        done.set()
        for thread in threads:
            thread.join()
    print(dict(counts))  # noqa: T201 - figures of the report
    assert not wrong, wrong[:10]


def test_a_second_run_changes_nothing() -> None:
    until(settled, "the group is one")
    assert changes(run("site.yml")) == {node.name: 0 for node in FLEET.nodes}


def test_the_members_are_one_gateway_with_one_identity(person: Person) -> None:
    until(lambda: len(gateways(person)) == 1, "it is registered once")
    (entry,) = gateways(person)
    seeds = {on(node, "sha256sum", "/etc/identity.seed").split()[0] for node in MEMBERS}
    assert len(seeds) == 1
    assert DOMAIN in entry["managed_domains"]  # type: ignore[operator]
    name = reserve(person, "www", "203.0.113.1")
    for node in MEMBERS:
        until(partial(answers, node, name, "203.0.113.1"), f"{node.name} answers")


def test_the_private_ports_are_open_to_the_group_alone() -> None:
    for node in MEMBERS:
        rules = [line for line in on(node, "ufw", "show", "added").splitlines() if "managed-group" in line]
        sources = {line.split(" from ")[1].split()[0] for line in rules}
        assert sources == {FLEET.address(one.host) for one in FLEET.nodes if one is not node}
        for port in (6380, 26379):
            assert sum(f"port {port} proto tcp" in line for line in rules) == len(FLEET.nodes) - 1
    for node, group in ((MEMBERS[0], "tfgateway"), (SENTINEL, "redis")):
        assert on(node, "stat", "-c", "%U:%G %a", "/etc/tfredis/group.pem") == f"root:{group} 640"


def test_the_other_member_takes_over_and_the_dead_one_comes_back_with_old_data(person: Person) -> None:
    until(settled, "the group is one")
    died = master()
    lives = other(died)
    with queries(f"www.{DOMAIN}", "203.0.113.1", lives) as counts:
        podman.run("kill", died.name)
        until(lambda: role(lives) == "master", "the other member is the master")
        name = reserve(person, "meanwhile", "203.0.113.2")
        until(lambda: answers(lives, name, "203.0.113.2"), "it serves what was reserved meanwhile")
        podman.run("start", died.name)
        until(lambda: role(died) == "slave", "the dead member is back, as a replica", limit=120)
        until(settled, "the group is one")
        until(lambda: answers(died, name, "203.0.113.2"), "it serves what it had missed")
    assert counts[f"{lives.name} lost"] == 0
    assert counts[f"{lives.name} answered"] > 50

    # Who is the master now is nothing that a run knows, or changes.
    assert changes(run("site.yml")) == {node.name: 0 for node in FLEET.nodes}
    assert (master(), role(died)) == (lives, "slave")
    assert run("playbooks/status.yml").returncode == 0


def test_an_operator_makes_the_other_member_the_master() -> None:
    until(settled, "the group is one")
    before = master()
    with queries(f"www.{DOMAIN}", "203.0.113.1", *MEMBERS) as counts:
        sentinel(SENTINEL, "failover", "tfgateway")
        until(lambda: role(other(before)) == "master", "the other member is the master")
        until(settled, "the group is one")
    assert [counts[f"{node.name} lost"] for node in MEMBERS] == [0, 0]


def test_a_changed_configuration_restarts_one_redis_after_the_other(person: Person) -> None:
    with queries(f"www.{DOMAIN}", "203.0.113.1", *MEMBERS) as counts:
        done = changes(run("site.yml", "--tags=tfredis", "-e", "tfredis_maxmemory=500mb"))
    assert [done[node.name] for node in MEMBERS] != [0, 0]
    assert [counts[f"{node.name} lost"] for node in MEMBERS] == [0, 0]
    until(settled, "the group is one")
    for node in MEMBERS:
        assert "524288000" in on(node, "/usr/local/sbin/redis-cli", "config", "get", "maxmemory")


def test_an_upgrade_of_one_member_after_the_other_is_no_outage() -> None:
    copy = FLEET.directory / "sources" / "newer"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "files" / "gateway_daemon", copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    with (copy / "src" / "tfgateway" / "errors.py").open("a") as file:
        file.write(f"\n# another release {os.getpid()}\n")
    before = {node.name: on(node, "readlink", "-e", "/opt/tfgateway/current") for node in MEMBERS}
    with queries(f"www.{DOMAIN}", "203.0.113.1", *MEMBERS) as counts:
        done = run("playbooks/upgrade.yml", f"-e=release_source={copy}", "-e", '{"upgrade_serial": ["100%"]}')
        assert done.returncode == 0, done.stdout
    assert [counts[f"{node.name} lost"] for node in MEMBERS] == [0, 0]
    after = {node.name: on(node, "readlink", "-e", "/opt/tfgateway/current") for node in MEMBERS}
    assert all(before[name] != after[name] for name in before)
    for node in MEMBERS:
        assert set(on(node, "systemctl", "is-active", *UNITS).split()) == {"active"}
        info = json.loads(on(node, "tfgateway", "info", "--json"))
        assert all(plane["answers"] for plane in info["planes"])

    with queries(f"www.{DOMAIN}", "203.0.113.1", *MEMBERS) as counts:
        done = run("playbooks/rollback.yml", "-e", '{"upgrade_serial": ["100%"]}')
        assert done.returncode == 0, done.stdout
    assert [counts[f"{node.name} lost"] for node in MEMBERS] == [0, 0]
    assert {node.name: on(node, "readlink", "-e", "/opt/tfgateway/current") for node in MEMBERS} == before
