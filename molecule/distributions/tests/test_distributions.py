"""Every distribution, set up as others leave a host: what is served outlives an upgrade, and the loss of all data."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import pytest
import yaml

from testbed import playbook, reservations, sshd
from testbed.containers import fleet, podman
from testbed.containers.fleet import Fleet, Node
from testbed.paths import ROOT, VENV_BIN
from testbed.person import Person
from testbed.reservations import Wanted, managed_domain
from tests.support import another_release, waiting
from tests.support.explorer_host import NAME, Explorer
from tests.support.visits import dig, page
from tools.distributions import FACTS

SCENARIO = Path(__file__).parent.parent
FLEET: Fleet = fleet.load(SCENARIO / "fleet.toml")
HOSTS = yaml.safe_load((SCENARIO / "inventory" / "hosts.yml").read_text())["gateways"]["hosts"]
INVENTORIES = [f"--inventory={FLEET.state}/inventory.yml", f"--inventory={SCENARIO}/inventory/hosts.yml"]
OLD, NEW, VALKEY = FLEET.nodes[:3]  # Debian 11, 13, and 13 with valkey
UNITS = ["tfredis", "tfgateway", "tfgateway-dns", "tfgateway-proxy", "ufw"]
PROGRAM = "/opt/tfgateway/current/bin/tfgateway"
until = partial(waiting.until, pause=0.2)
every_node = pytest.mark.parametrize("node", FLEET.nodes, ids=lambda node: node.name.removeprefix("tf-gateway-"))


def run(node: Node, script: str) -> str:
    return podman.run("exec", node.name, "sh", "-ec", script).strip()


def play(name: str, *options: str) -> str:
    """What an operator sees of a playbook that passes."""
    command = ["ansible-playbook", f"playbooks/{name}.yml", *INVENTORIES, *options]
    done = subprocess.run(command, cwd=ROOT, env=playbook.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def zone(node: Node) -> str:
    """A user's own domain, delegated to a node."""
    return f"{node.name}.example"


def has_4to6(node: Node) -> bool:
    return bool(HOSTS.get(node.name, {}).get("wireguard_enabled", True))


def units(node: Node) -> list[str]:
    return [*UNITS, *(["tfgateway-4to6"] if has_4to6(node) else [])]


def assert_serves(node: Node) -> None:
    server, site = FLEET.address(node.host), f"web.{zone(node)}"
    until(lambda: dig(server, f"www.{managed_domain(node)}") == [f"203.0.113.{node.host}"], f"{node.name}: no name")
    until(lambda: dig(server, site) == [server], f"{site} is not served")
    for scheme in ("http", "https"):
        until(lambda scheme=scheme: f"{scheme}://{site}/" in page(server, site, scheme), f"{scheme}://{site}")  # type: ignore[misc]
    until(lambda: set(verdicts(node).values()) == {"in_sync"}, f"{node.name}: {verdicts(node)}")
    for question, answer in (("is-active", "active"), ("is-enabled", "enabled")):
        assert run(node, f"systemctl {question} {' '.join(units(node))}").split() == [answer] * len(units(node))


def verdicts(node: Node) -> dict[str, str]:
    state = json.loads(run(node, f"{PROGRAM} state --json || true"))
    return {one["type"]: one["verdict"] for one in state["reservations"]}


def identity(node: Node) -> str:
    return str(json.loads(run(node, f"{PROGRAM} identity show --json"))["node_id"])


@pytest.fixture(scope="module", autouse=True)
def reserved() -> None:
    """On each node a name, a delegated domain, a site behind the proxy and an address over WireGuard."""
    person = Person(FLEET, "traveller")
    person.register()
    ids = reservations.registered(FLEET, person)
    groups: list[list[Wanted]] = [[], []]
    for node in FLEET.nodes:
        name, site = f"www.{managed_domain(node)}", f"web.{zone(node)}"
        groups[0].append(Wanted(node, "subdomain", "subdomain", name, (f"--ip=203.0.113.{node.host}",)))
        groups[0].append(Wanted(node, "delegate", "domain_delegate", zone(node)))
        groups[1].append(Wanted(node, "subdomain", "subdomain", site, (f"--ip={FLEET.address(node.host)}",)))
        proxy = (f"--addr={FLEET.web_address}", "--port=80", "--port-tls=443")
        groups[1].append(Wanted(node, "proxy", "proxy", site, proxy))
    for group in groups:
        reservations.make(person, group, ids)
    for node in filter(has_4to6, FLEET.nodes):  # one key a user, so a user each
        friend = Person(FLEET, f"friend-of-{node.name}")
        friend.register()
        key = (f"--key-file={FLEET.directory / node.name}.wireguard",)
        reservations.make(friend, [Wanted(node, "4to6", "gateway4to6", "", key)], ids)


@every_node
def test_what_is_reserved_is_served(node: Node) -> None:
    assert_serves(node)
    assert ("gateway4to6" in verdicts(node)) is has_4to6(node)


@every_node
def test_sshd_answers_and_nothing_waits_for_a_confirmation(node: Node) -> None:
    assert all(sshd.answers(FLEET.address(node.host), port) for port in (22, 34022))
    assert "tfgateway-undo@" not in run(node, "systemctl list-timers --all --no-legend")
    allowed = run(node, "LC_ALL=C ufw show added")
    assert all(f"ufw allow {port}" in allowed for port in ("22/tcp", "34022/tcp", "53/udp", "443/tcp"))


@every_node
def test_units_are_what_this_systemd_understands(node: Node) -> None:
    """What it ignores is only what its age excuses."""
    files = " ".join(f"/etc/systemd/system/{unit}.service" for unit in units(node) if unit != "ufw")
    said = run(node, f"systemd-analyze verify {files} 2>&1 || true")
    complaints = [line for line in said.splitlines() if "/etc/systemd/system/tf" in line]
    assert complaints == [], said


def test_an_apt_that_is_busy_is_waited_for() -> None:
    assert "somebody waited" in run(OLD, "journalctl --unit busy-apt --output cat --no-pager")


def test_unattended_upgrades_ran_beside_it() -> None:
    assert "looked for upgrades" in run(NEW, "journalctl --unit upgrades --output cat --no-pager")
    assert run(NEW, "systemctl is-active upgrades || true") == "inactive"  # it ended when there was a redis


def test_another_backend_of_iptables_has_the_rules() -> None:
    assert "legacy" in run(OLD, "readlink -f /usr/sbin/iptables")
    assert "ufw-before-input" in run(OLD, "iptables-legacy -w -S")
    assert "MASQUERADE" in run(OLD, "ip6tables-legacy -w -t nat -S POSTROUTING")


def test_another_language_is_spoken() -> None:
    """So that what reads the output of a program is known to ask for English."""
    for node, word in ((OLD, "de_DE"), (NEW, "tr_TR")):
        assert f"{word}.UTF-8" in run(node, "cat /etc/default/locale")
        assert f"{word}.utf8" in run(node, "locale -a")


def test_socket_activation_of_sshd_gave_way_to_its_service() -> None:
    assert run(NEW, "systemctl is-enabled ssh.socket ssh.service || true").split() == ["disabled", "enabled"]


def test_nothing_needs_to_execute_in_a_temporary_directory() -> None:
    for place in ("/tmp", "/var/tmp"):
        assert "noexec" in run(NEW, f"findmnt --noheadings --output OPTIONS {place}")


def test_valkey_is_used_where_it_is_what_there_is() -> None:
    pid = run(VALKEY, "systemctl show -p MainPID --value tfredis")
    assert "valkey" in run(VALKEY, f"readlink -f /proc/{pid}/exe")
    assert run(VALKEY, "systemctl is-enabled valkey-server || true") == "disabled"
    assert "redis-server" not in run(VALKEY, "dpkg-query --show --showformat '${Package} '")
    assert "redis" in run(NEW, "readlink -f /proc/$(systemctl show -p MainPID --value tfredis)/exe")


def test_root_may_not_log_in_where_a_person_uses_sudo_with_a_password() -> None:
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    command = ["ssh", *options, "-i", str(FLEET.key), f"root@{FLEET.address(VALKEY.host)}", "true"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert "Permission denied" in done.stderr


def test_without_ipv6_all_but_4to6_works() -> None:
    assert "inet6" not in run(VALKEY, "ip -6 address show dev eth0; ip -6 address show dev lo")
    options = ["--check", f"--limit={VALKEY.name}", '--extra-vars={"wireguard_enabled": true}']
    refused = subprocess.run(
        ["ansible-playbook", "site.yml", *INVENTORIES, *options],
        cwd=ROOT,
        env=playbook.environment(),
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2
    assert "has IPv6 switched off" in refused.stdout


def test_upgrade_and_rollback() -> None:
    before = {node.name: run(node, "readlink -e /opt/tfgateway/current") for node in FLEET.nodes}
    source = another_release.option(FLEET.directory / "sources" / "next", "errors.py", "# another release")
    play("upgrade", source, "-e=upgrade_serial=100%")
    for node in FLEET.nodes:
        assert run(node, "readlink -e /opt/tfgateway/current") != before[node.name]
        assert_serves(node)
    play("rollback", "-e=upgrade_serial=100%")
    assert {node.name: run(node, "readlink -e /opt/tfgateway/current") for node in FLEET.nodes} == before
    for node in FLEET.nodes:
        assert_serves(node)


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    node = Node(name=f"{FLEET.prefix}-explorer-by-role", host=7, system=NEW.system)
    alone = msgspec.structs.replace(FLEET, nodes=(node,))
    fleet.start_nodes(alone)
    made = Explorer(alone, tmp_path_factory.mktemp("explorer"))
    made.run(f"echo 127.0.0.1 {NAME} >> /etc/hosts")
    yield made
    podman.run("rm", "--force", "--time=0", "--volumes", node.name)


def test_an_explorer_on_debian_13(explorer: Explorer) -> None:
    untouched = explorer.provision("--check", "--diff")
    assert (untouched.failed, untouched.unreachable) == (0, 0)
    explorer.provision()
    explorer.register("carol")
    assert explorer.users() == ["carol"]
    again = explorer.provision()
    assert (again.changed, again.failed) == (0, 0)


def facts(node: Node) -> dict[str, str]:
    """What the node is, and what the gateway runs with there."""
    server = run(node, "systemctl show -p ExecStart --value tfredis").partition("path=")[2].split()[0]
    own = "case $(readlink -f /opt/tfgateway/python) in /opt/*) echo brought;; *) echo its own;; esac"
    return {
        "name": node.name,
        "system": node.system,
        "title": run(node, ". /etc/os-release; echo $PRETTY_NAME"),
        "setup": ", ".join(HOSTS.get(node.name, {}).get("setup", [])),
        "systemd": run(node, "systemctl --version").split()[1],
        "openssh": run(node, "ssh -V 2>&1").removeprefix("OpenSSH_").split()[0].strip(","),
        "libc": run(node, "getconf GNU_LIBC_VERSION"),
        "python": run(node, "/opt/tfgateway/python --version").split()[1],
        "interpreter": run(node, own),
        "redis": re.sub(r"^(\w+) server v=(\S+) .*", r"\1 \2", run(node, f"{server} --version")),
    }


def test_backup_remove_and_restore_onto_what_is_left() -> None:
    """The last one: each node loses all that it had, and is what it was before."""
    ids = {node.name: identity(node) for node in FLEET.nodes}
    found = [facts(node) for node in FLEET.nodes]
    key, backups = FLEET.directory / "operator.key", FLEET.directory / "backups"
    command = [str(VENV_BIN / "tfgateway"), "backup", "generate-key", "--output", str(key)]
    recipient = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    given = {"backup_recipient": recipient, "backup_directory": str(backups)}
    play("backup", f"--extra-vars={json.dumps(given)}")
    names = ",".join(node.name for node in FLEET.nodes)
    play("remove", f"-e=remove_confirm={names}")
    for node in FLEET.nodes:
        left = run(node, "ls /etc/systemd/system /opt; LC_ALL=C ufw show added; ss -Hlntu")
        assert not [gone for gone in ("tfgateway", "tfredis", "allow 53", "allow 443", ":80 ") if gone in left], left
        run(node, "rm -r /var/lib/tfredis /etc/identity.seed")

    def restore(node: Node) -> None:
        (backup,) = backups.glob(f"{node.name}-2*.backup")
        play("restore", f"--limit={node.name}", f"-e=restore_from={backup}", f"-e=restore_key={key}")

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(restore, FLEET.nodes))
    assert {node.name: identity(node) for node in FLEET.nodes} == ids
    for node in FLEET.nodes:
        assert_serves(node)
    FACTS.parent.mkdir(parents=True, exist_ok=True)
    FACTS.write_text(json.dumps(found, indent=1))
