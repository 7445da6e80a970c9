"""The production fleet on stand-ins: all primitives on every kind of node, and what provisioning brought to each."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from testinfra.host import Host

from testbed import playbook, reservations
from testbed.containers import fleet, image, podman
from testbed.containers.fleet import Fleet, Node
from testbed.inventory import SUFFIXES
from testbed.paths import ROOT, VENV_BIN
from testbed.person import Person
from testbed.reservations import Wanted, managed_domain
from tests.support import waiting
from tests.support.ports import free_port
from tests.support.visits import dig, page

FLEET: Fleet = fleet.load(Path(__file__).parent.parent / "fleet.toml")
UBUNTU, ARCH = FLEET.nodes[1], FLEET.nodes[-1]
PRIMITIVES = [UBUNTU, ARCH]  # where all five are reserved
MISDIRECTED, UNDELEGATED = FLEET.nodes[2], ARCH  # as the parent zones have it
LOOKED_AT = [UBUNTU, MISDIRECTED, UNDELEGATED]  # by preflight
until = partial(waiting.until, pause=0.2)


def zone(node: Node) -> str:
    """A user's own domain, delegated to a node."""
    return f"{node.name}.example"


def test_a_second_run_by_another_ansible_core_changes_nothing() -> None:
    command, environment = playbook.command(FLEET), playbook.environment()
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    recaps = [recap for line in done.stdout.splitlines() if (recap := playbook.parse_recap(line))]
    assert {recap.host: recap.changed for recap in recaps} == {node.name: 0 for node in FLEET.nodes}, done.stdout


@pytest.fixture
def resolver(tmp_path: Path) -> Iterator[int]:
    """The port of an NSD that answers as a resolver would: one node is right, two others lack something."""
    servers = [
        f"{node.name} A {'192.0.2.9' if node is MISDIRECTED else FLEET.address(node.host)}" for node in LOOKED_AT
    ]
    zones = {SUFFIXES[0]: servers}
    for node in LOOKED_AT:
        for suffix in SUFFIXES[1:] if node is UNDELEGATED else SUFFIXES:
            zones[managed_domain(node, suffix)] = [f"@ NS {node.name}.{SUFFIXES[0]}."]
    for zone, records in zones.items():
        start = f"$ORIGIN {zone}.\n$TTL 60\n@ SOA ns.parent.example. nobody.parent.example. 1 60 60 60 60\n"
        (tmp_path / zone).write_text(start + "\n".join(records) + "\n")
    port = free_port()
    files = "\n".join(f'  {name}: "{tmp_path}/{name}"' for name in ("pidfile", "xfrdfile", "zonelistfile", "logfile"))
    served = "\n".join(f'zone:\n  name: "{zone}"\n  zonefile: "{zone}"' for zone in zones)
    (tmp_path / "nsd.conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{port}\n  username: ""\n  zonesdir: "{tmp_path}"\n  xfrdir: "{tmp_path}"\n'
        f'{files}\n  database: ""\nremote-control:\n  control-enable: no\n{served}\n'
    )
    program = shutil.which("nsd", path=playbook.environment()["PATH"])
    assert program is not None, "nsd comes with tools/setup.py test"
    server = subprocess.Popen([program, "-d", "-c", str(tmp_path / "nsd.conf")])
    ask = ["dig", "@127.0.0.1", "-p", str(port), SUFFIXES[0], "SOA", "+short", "+tries=1", "+time=1"]
    until(lambda: subprocess.run(ask, capture_output=True).stdout.startswith(b"ns."), "nsd does not answer")
    yield port
    server.terminate()
    server.wait(10)


def test_preflight_says_which_records_to_create(resolver: int) -> None:
    options = [f"--limit={','.join(node.name for node in LOOKED_AT)}", "-e=preflight_resolver=127.0.0.1"]
    inventory = f"--inventory={FLEET.state}/inventory.yml"
    done = subprocess.run(
        ["ansible-playbook", "playbooks/preflight.yml", inventory, *options, f"-e=preflight_resolver_port={resolver}"],
        cwd=ROOT,
        env={**playbook.environment(), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    (tasks,) = (play["tasks"] for play in json.loads(done.stdout)["plays"])
    (warned,) = (task["hosts"] for task in tasks if task["task"]["name"].endswith("Warn of what is missing outside"))
    said = {host: result["msg"] for host, result in warned.items() if not result.get("skipped")}
    name, domain = f"{MISDIRECTED.name}.{SUFFIXES[0]}", managed_domain(UNDELEGATED)
    assert said == {
        MISDIRECTED.name: [
            f"{name} has 192.0.2.9: create in its parent zone: {name}. A {FLEET.address(MISDIRECTED.host)}"
        ],
        UNDELEGATED.name: [
            f"{domain} is not delegated here: create in its parent zone: {domain}. NS {UNDELEGATED.name}.{SUFFIXES[0]}."
        ],
    }


@pytest.fixture(scope="module")
def served() -> Iterator[None]:
    """A name on each node, and all primitives on one of each kind, deployed; a client of the tunnels runs."""
    person = Person(FLEET, "fleet-user")
    person.register()
    ids = reservations.registered(FLEET, person)
    secret = FLEET.directory / "tunnel.secret"
    groups: list[list[Wanted]] = [[], []]
    for node in FLEET.nodes:
        name, address = f"www.{managed_domain(node)}", f"--ip=203.0.113.{node.host}"
        groups[0].append(Wanted(node, "subdomain", "subdomain", name, (address,)))
    for node in PRIMITIVES:
        groups[0].append(Wanted(node, "delegate", "domain_delegate", zone(node)))
        web, tunnel = f"web.{zone(node)}", f"tunnel.{zone(node)}"
        at = (f"--ip={FLEET.address(node.host)}",)
        groups[1] += [
            Wanted(node, "subdomain", "subdomain", web, at),
            Wanted(node, "subdomain", "subdomain", tunnel, at),
            Wanted(node, "proxy", "proxy", web, (f"--addr={FLEET.web_address}", "--port=80", "--port-tls=443")),
            Wanted(node, "reverse-proxy", "reverse_proxy", tunnel, (f"--secret-file={secret}",)),
        ]
    for group in groups:
        reservations.make(person, group, ids)
    for node in PRIMITIVES:  # an address over WireGuard: one key a user, so a user each
        friend = Person(FLEET, f"friend-of-{node.name}")
        friend.register()
        key = (f"--key-file={FLEET.directory / node.name}.wireguard",)
        reservations.make(friend, [Wanted(node, "4to6", "gateway4to6", "", key)], ids)
    remotes = [f"--remote={FLEET.address(node.host)}:18000" for node in PRIMITIVES]
    local = [f"--local={FLEET.web_address}:80", f"--local-tls={FLEET.web_address}:443"]
    client = subprocess.Popen([VENV_BIN / "tfgateway", "tunnel", f"--secret-file={secret}", *remotes, *local])
    yield
    client.terminate()
    client.wait(10)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("node", FLEET.nodes, ids=lambda node: node.name)
def test_every_node_serves_its_names(node: Node) -> None:
    until(
        lambda: dig(FLEET.address(node.host), f"www.{managed_domain(node)}") == [f"203.0.113.{node.host}"], "not served"
    )


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["web", "tunnel"])
@pytest.mark.parametrize("node", PRIMITIVES, ids=lambda node: node.system)
def test_pages_are_served_by_proxy_and_through_a_tunnel(node: Node, kind: str, scheme: str) -> None:
    name = f"{kind}.{zone(node)}"
    until(lambda: dig(FLEET.address(node.host), name) == [FLEET.address(node.host)], f"{name} is not served")
    until(
        lambda: f"{scheme}://{name}/" in page(FLEET.address(node.host), name, scheme),
        page(FLEET.address(node.host), name, scheme),
    )


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("node", FLEET.nodes, ids=lambda node: node.name)
def test_the_node_itself_says_that_all_is_in_sync(node: Node) -> None:
    def verdicts() -> dict[str, str]:
        state = json.loads(podman.run("exec", node.name, "tfgateway", "state", "--json"))
        return {one["type"]: one["verdict"] for one in state["reservations"]}

    wanted = 5 if node in PRIMITIVES else 1
    until(lambda: len(verdicts()) == wanted and set(verdicts().values()) == {"in_sync"}, "not in sync")


@pytest.mark.parametrize("unit", ["tfredis", "tfgateway", "tfgateway-dns", "tfgateway-proxy", "tfgateway-4to6", "ufw"])
def test_i8_unit_is_active_and_enabled(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled


def test_interpreter_is_brought_only_where_it_is_needed(host: Host) -> None:
    link = host.check_output("readlink -f /opt/tfgateway/python")
    program = host.check_output("readlink -f /opt/tfgateway/current/bin/python")
    assert program == link
    if host.backend.hostname == ARCH.name:
        assert link.startswith("/usr/bin/python3")
    else:
        assert link.startswith("/opt/tfgateway/interpreters/")
        assert host.check_output("sed -n s/^VERSION_ID=//p /etc/os-release") == '"18.04"'
        old = image.old_python()
        assert not old or "Python 3.6" in host.check_output(f"{old} --version")


def test_redis_is_brought_only_where_the_distributions_is_too_old(host: Host) -> None:
    pid = host.check_output("systemctl show -p MainPID --value tfredis")
    program = host.check_output(f"readlink -f /proc/{pid}/exe")
    assert program.startswith("/usr/bin/" if host.backend.hostname == ARCH.name else "/opt/tfgateway/redis/")
    version = host.check_output("redis-cli info server | sed -n 's/^redis_version:\\([0-9]*\\).*/\\1/p'")
    assert int(version) >= 6


def test_packages_came_by_the_distributions_own_manager(host: Host) -> None:
    arch = host.backend.hostname == ARCH.name
    query = "pacman -Q ufw" if arch else "dpkg-query --show ufw"
    assert host.check_output(query).split()[0] == "ufw"
    assert host.exists("pacman") is arch
    assert host.exists("apt-get") is not arch


def test_nothing_of_a_change_of_sshd_or_firewall_is_left_unconfirmed(host: Host) -> None:
    assert "tfgateway-undo@" not in host.check_output("systemctl list-timers --all --no-legend")
    assert host.check_output("find /var/lib/tfgateway-undo -mindepth 1 2>/dev/null; true") == ""


def test_i6_the_node_that_had_a_resolver_still_resolves() -> None:
    found = podman.run("exec", UBUNTU.name, "getent", "ahostsv4", f"{FLEET.prefix}-web")
    assert found.split()[0] == FLEET.web_address
