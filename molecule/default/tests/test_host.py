"""What provisioning leaves on a host, looked at from inside and asked at its real ports from outside."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from testinfra.host import Host

from testbed import sshd
from testbed.containers import podman
from testbed.containers.fleet import Fleet, Node
from testbed.person import Person, tfgateway
from tests.support import waiting

PLANES = ["tfgateway", "tfgateway-dns", "tfgateway-proxy", "tfgateway-4to6"]
SSH_PORTS = [22, 34022]
REDIS_CLI = "/usr/bin/redis-cli -s /run/tfredis/redis.sock"


def node_of(host: Host, fleet: Fleet) -> Node:
    return next(node for node in fleet.nodes if node.name == host.backend.hostname)


def masquerade_rules(host: Host) -> list[str]:
    rules = host.check_output("ip6tables -w -t nat -S POSTROUTING").splitlines()
    return [rule for rule in rules if rule.endswith("-j MASQUERADE")]


def memory_limit(host: Host, unit: str) -> int:
    group = host.check_output(f"systemctl show -p ControlGroup --value {unit}")
    for path in (f"/sys/fs/cgroup{group}/memory.max", f"/sys/fs/cgroup/memory{group}/memory.limit_in_bytes"):
        if host.file(path).exists:
            return int(host.file(path).content_string)
    raise AssertionError(f"no memory limit of {unit} below /sys/fs/cgroup")


@pytest.mark.parametrize("unit", [*PLANES, "tfredis", "ssh"])
def test_unit_is_active_and_enabled(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


def test_distribution_redis_is_stopped_and_disabled(host: Host) -> None:
    assert not host.service("redis-server").is_running
    assert not host.service("redis-server").is_enabled


@pytest.mark.parametrize("unit", [*PLANES, "tfredis"])
def test_memory_limit_is_in_force(host: Host, unit: str) -> None:
    assert memory_limit(host, unit) == 1024**3
    assert host.check_output(f"systemctl show -p MemoryHigh --value {unit}") == str(800 * 1024**2)


def test_i9_redis_limits_and_settings(host: Host) -> None:
    pid = host.check_output("systemctl show -p MainPID --value tfredis")
    assert "Max open files            10050 " in host.file(f"/proc/{pid}/limits").content_string
    assert host.check_output("redis-cli config get appendonly").splitlines() == ["appendonly", "yes"]
    assert host.check_output("redis-cli config get maxmemory-policy").splitlines() == ["maxmemory-policy", "noeviction"]


def test_redis_lets_in_nobody_but_units_and_root(host: Host, molecule_fleet: Fleet) -> None:
    assert host.check_output("ss -Hlnt 'sport = :6379'") == ""
    address = molecule_fleet.address(node_of(host, molecule_fleet).host)
    with pytest.raises(OSError), socket.create_connection((address, 6379), timeout=2):
        pass
    state = json.loads(host.check_output("tfgateway state --json"))
    assert state["notes"] == []
    connected = set(re.findall(r"(?m) user=(\S+)", host.check_output("redis-cli client list")))
    assert connected >= {"reconciler", "dns", "proxy", "proxy-tunnels", "fourtosix", "operator"}
    assert "default" not in connected
    # Of all that its own units asked since it started, nothing was refused.
    assert host.check_output("redis-cli acl log").strip() == ""
    # As `nobody`, and as one of the daemon's group that has no password.
    for user, group in (("nobody", "nogroup"), ("tfgateway", "tfgateway")):
        for command in ("hset gw.example. @ x", "eval 'return 1' 0", "config get port"):
            done = host.run(f"setpriv --reuid {user} --regid {group} --clear-groups {REDIS_CLI} {command}")
            assert re.search("Permission denied|NOAUTH", done.stdout + done.stderr), (user, done)
    assert host.check_output("redis-cli exists gw.example.") == "0"


def test_redis_is_opened_by_hand_and_the_operator_sees_it(host: Host) -> None:
    before = host.check_output("redis-cli dbsize")
    host.check_output("ln -sfn open.conf /etc/tfredis/access.conf && systemctl restart tfredis")
    try:
        assert host.check_output("setpriv --reuid nobody --clear-groups /usr/bin/redis-cli ping") == "PONG"
        (note,) = json.loads(host.check_output("tfgateway state --json"))["notes"]
        assert note.startswith("redis lets every program in at port 6379 of loopback")
    finally:
        host.check_output("ln -sfn closed.conf /etc/tfredis/access.conf && systemctl restart tfredis")
    assert host.check_output("redis-cli dbsize") == before
    assert waiting.until(lambda: "user=dns " in host.check_output("redis-cli client list"), "the planes are back")


@pytest.mark.parametrize("unit", PLANES)
def test_a_unit_reads_no_password_of_another_and_nothing_of_its_memory(host: Host, unit: str) -> None:
    pids = {one: host.check_output(f"systemctl show -p MainPID --value {one}") for one in PLANES}
    groups = host.check_output(f"sed -n 's/^G[a-z]*:[[:space:]]*//p' /proc/{pids[unit]}/status").splitlines()
    identifiers, more = groups[0].split()[0], ",".join(groups[1].split())
    inside = f"setpriv --reuid tfgateway --regid {identifiers} --groups {more}"
    own = {"tfgateway": "reconciler", "tfgateway-4to6": "fourtosix"}.get(unit, unit.removeprefix("tfgateway-"))
    for secret in ("reconciler", "dns", "proxy", "fourtosix", "operator"):
        assert (host.run(f"{inside} cat /etc/tfredis/{secret}.secret").rc == 0) is (secret == own)
    for other, pid in pids.items():
        for what in ("environ", "maps", "root/etc/identity.seed"):
            if other != unit:
                assert host.run(f"{inside} head -c 1 /proc/{pid}/{what}").rc != 0, (unit, other, what)


def test_i5_seed_is_readable_by_its_owner_only(host: Host) -> None:
    seed = host.file("/etc/identity.seed")
    assert (seed.user, seed.group, seed.mode) == ("tfgateway", "tfgateway", 0o400)
    assert seed.size > 0


@pytest.mark.parametrize(
    ("unit", "sees"),
    [("tfgateway", True), ("tfgateway-dns", False), ("tfgateway-proxy", False), ("tfgateway-4to6", True)],
)
def test_only_units_that_derive_keys_see_the_seed(host: Host, unit: str, sees: bool) -> None:
    pid = host.check_output(f"systemctl show -p MainPID --value {unit}")
    size = host.check_output(f"nsenter --target {pid} --mount stat --format %s /etc/identity.seed")
    assert (int(size) > 0) is sees


def test_first_node_has_the_identity_of_its_words(host: Host, molecule_fleet: Fleet) -> None:
    of_file = json.loads(host.check_output("/opt/tfgateway/current/bin/tfgateway identity show --json"))
    words = molecule_fleet.directory / f"{molecule_fleet.nodes[0].name}.words"
    of_words = tfgateway("identity", "show", "--words-from", str(words), "--json")
    is_first = host.backend.hostname == molecule_fleet.nodes[0].name
    assert (of_file["node_id"] == of_words["node_id"]) is is_first
    assert of_file["tid"] == (Person(molecule_fleet, "farmer").tid if is_first else None)


@pytest.mark.parametrize("port", SSH_PORTS)
def test_sshd_answers_outside(host: Host, molecule_fleet: Fleet, port: int) -> None:
    assert sshd.answers(molecule_fleet.address(node_of(host, molecule_fleet).host), port)


def test_sshd_configuration_in_force(host: Host) -> None:
    ports = [line.split()[1] for line in host.check_output("sshd -T").splitlines() if line.startswith("port ")]
    assert sorted(map(int, ports)) == SSH_PORTS


def test_i2_firewall_lets_in_what_it_should_and_nothing_else(host: Host, molecule_fleet: Fleet) -> None:
    status = host.check_output("ufw status verbose")
    assert "Status: active" in status
    assert "deny (incoming)" in status
    allowed = {line.split()[0] for line in status.splitlines() if "ALLOW IN" in line and "(v6)" not in line}
    wanted = {"22", "34022", "53", "80", "443", "18000", "3443"}
    assert {rule.partition("/")[0] for rule in allowed} == wanted


def test_i7_masquerade_survives_a_firewall_reload(host: Host) -> None:
    uplink = host.check_output("ip -json -4 route show default").split('"dev":"')[1].split('"')[0]
    before = masquerade_rules(host)
    assert len(before) == 1
    assert f"-o {uplink} " in before[0]
    host.check_output("ufw reload")
    assert masquerade_rules(host) == before
    assert host.check_output("sysctl -n net.ipv6.conf.all.forwarding") == "1"


def test_i6_gateway_has_port_53_and_the_node_still_resolves(host: Host, molecule_fleet: Fleet) -> None:
    holders = host.check_output("ss -Hlnup 'sport = :53'")
    assert "systemd-resolve" not in holders
    assert "0.0.0.0:53" in holders
    assert host.check_output(f"getent ahostsv4 {molecule_fleet.prefix}-web").split()[0] == molecule_fleet.web_address


def test_release_in_force_is_complete(host: Host) -> None:
    current = host.file("/opt/tfgateway/current")
    assert current.is_symlink
    release = host.check_output("readlink -f /opt/tfgateway/current")
    assert Path(release).parent == Path("/opt/tfgateway/releases")
    assert host.file(f"{release}/COMPLETE").exists
    version = Path(release).name
    # The directory also names the Python that the release is for.
    said = host.check_output("/opt/tfgateway/current/bin/tfgateway --version").split()[-1]
    assert version.rpartition("-py")[0] == said


def test_all_is_back_after_a_reboot(molecule_fleet: Fleet) -> None:
    node = molecule_fleet.nodes[1]
    podman.run("restart", "--time=60", node.name)
    deadline = time.monotonic() + 120
    wanted = {*PLANES, "tfredis", "ssh"}
    while True:
        command = ["podman", "exec", node.name, "systemctl", "is-active", *sorted(wanted)]
        done = subprocess.run(command, env=podman.environment(), capture_output=True, text=True)
        if done.returncode == 0:
            break
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(0.5)
    rules = podman.run("exec", node.name, "ip6tables", "-w", "-t", "nat", "-S", "POSTROUTING")
    assert rules.count("-j MASQUERADE") == 1
    assert "Status: active" in podman.run("exec", node.name, "ufw", "status")
    for port in SSH_PORTS:
        # Its network card is another one: this machine may send to the old one for a while.
        waiting.until(partial(sshd.answers, molecule_fleet.address(node.host), port), f"sshd at port {port}")
