"""From the old programs to ours, back, and what a failed attempt leaves behind. One story: the tests run in order."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import dns.message
import dns.query
import dns.rcode
import pytest
from old_node import AT, FIRST, FLEET, NAME, NODE, gaps, name_is_served, page_is_served

from testbed import playbook
from testbed.containers import podman
from testbed.paths import ROOT

OLD = ("coredns", "tcprouter", "tfgateway")
KEPT = "/var/lib/tfgateway-cutover"

Record = Callable[[str, dict[str, float]], None]


def on(*command: str) -> str:
    return podman.run("exec", NODE.name, *command)


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    inventory = f"{FLEET.state}/inventory.yml"
    return subprocess.run(
        [
            "ansible-playbook",
            f"playbooks/{name}.yml",
            "-i",
            inventory,
            '--extra-vars={"wireguard_enabled": false}',
            *options,
        ],
        cwd=ROOT,
        env=playbook.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def running() -> set[str]:
    """Which of the old programs and of our units run."""
    units = [*OLD, "tfgateway-dns", "tfgateway-proxy"]
    found = {unit for unit in units if on("sh", "-c", f"systemctl is-active {unit} || true").strip() == "active"}
    if "tfgateway" in found and "/opt/tfgateway/current/" in on("systemctl", "show", "-p", "ExecStart", "tfgateway"):
        found = found - {"tfgateway"} | {"our tfgateway"}
    return found


OURS = {"our tfgateway", "tfgateway-dns", "tfgateway-proxy"}


@pytest.fixture
def record(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> Record:
    """Figures for people: a measurement on a busy machine is no test."""

    def tell(when: str, longest: dict[str, float]) -> None:
        record_property(f"seconds without an answer {when}", longest)
        with capsys.disabled():
            figures = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in sorted(longest.items()))
            sys.stdout.write(f"\nlongest without an answer {when}: {figures}\n")

    return tell


def test_ours_serve_what_the_old_ones_served(record: Record) -> None:
    record("at the first cutover", json.loads(FIRST.read_text()))
    assert running() == OURS
    state = json.loads(on("tfgateway", "state", "--json"))
    assert state["in_sync"]
    assert len(state["reservations"]) == 3
    assert name_is_served()
    assert page_is_served()


def test_i8_the_old_ones_stay_off_and_ours_start_at_boot() -> None:
    for unit in ("coredns", "tcprouter"):
        assert on("sh", "-c", f"systemctl is-enabled {unit} || true").strip() == "disabled"
    for unit in ("tfredis", "tfgateway", "tfgateway-dns", "tfgateway-proxy"):
        assert on("systemctl", "is-enabled", unit).strip() == "enabled"


def test_i9_redis_kept_its_data_and_persists_it_now() -> None:
    assert "www" in on("redis-cli", "hkeys", f"{NAME.partition('.')[2]}.")
    assert "aof_enabled:1" in on("redis-cli", "info", "persistence")
    assert on("systemctl", "show", "-p", "User", "tfredis").strip() == "User=redis"


def test_seed_and_data_of_the_old_node_are_kept_for_root_alone() -> None:
    seed = f"{KEPT}/etc/identity.seed"
    (data,) = on("sh", "-c", f"ls {KEPT}/*.rdb").split()
    assert on("stat", "-c", "%a %U", KEPT, seed, data).splitlines() == ["700 root", "400 root", "600 root"]
    on("cmp", "/etc/identity.seed", seed)
    ask = "redis-cli -s /tmp/kept.sock"
    directory, _, name = data.rpartition("/")
    load = f"redis-server --port 0 --unixsocket /tmp/kept.sock --dir {directory} --dbfilename {name} --daemonize yes"
    read = f"until {ask} ping | grep -q PONG; do sleep 0.1; done; {ask} hkeys {NAME.partition('.')[2]}."
    assert "www" in on("sh", "-c", f"{load} > /dev/null && {read}; {ask} shutdown nosave")


def test_i10_it_is_no_open_resolver_any_more() -> None:
    answer = dns.query.udp(dns.message.make_query("example.org", "A"), AT, timeout=2)
    assert answer.rcode() == dns.rcode.REFUSED


def test_back_again_on_request(record: Record) -> None:
    with gaps() as longest:
        done = run("cutover_back")
    assert done.returncode == 0, done.stdout[-4000:]
    assert running() == set(OLD)
    assert name_is_served()
    assert page_is_served()
    record("on the way back", longest)


def test_a_difference_stops_it_before_anything_is_touched() -> None:
    done = run("cutover", "--extra-vars=gateway_farm_id=77")
    assert done.returncode == 2
    assert "gateway.farm_id" in done.stdout
    assert running() == set(OLD)


def test_a_failure_puts_the_old_ones_back(record: Record) -> None:
    # The second plane cannot start: its unit's first command fails, when DNS has been switched already.
    on("mkdir", "-p", "/run/systemd/system/tfgateway-proxy.service.d")
    broken = (
        "printf '[Service]\\nExecStartPre=/bin/false\\n' > /run/systemd/system/tfgateway-proxy.service.d/broken.conf"
    )
    on("sh", "-c", broken)
    try:
        with gaps() as longest:
            done = run("cutover", "--extra-vars=cutover_timeout=5")
    finally:
        on("rm", "-r", "/run/systemd/system/tfgateway-proxy.service.d")
        on("systemctl", "daemon-reload")
    assert done.returncode == 2
    assert "The old programs serve again" in done.stdout
    assert running() == set(OLD)
    assert name_is_served()
    assert page_is_served()
    record("while it failed", longest)


def test_a_plane_that_nobody_reaches_is_put_back_too() -> None:
    """DNS over UDP: the port is open, over TCP it answers."""
    blocked = ("INPUT", "-p", "udp", "--dport", "53", "-j", "DROP")
    on("iptables", "-I", *blocked)
    try:
        done = run("cutover", "--extra-vars=cutover_timeout=3")
    finally:
        on("iptables", "-D", *blocked)
    assert done.returncode == 2
    assert "dns/udp: timed out" in done.stdout
    assert running() == set(OLD)
    assert name_is_served()


def test_and_forward_again(record: Record) -> None:
    with gaps() as longest:
        done = run("cutover")
    assert done.returncode == 0, done.stdout[-4000:]
    assert running() == OURS
    assert name_is_served()
    assert page_is_served()
    record("on the way forward again", longest)
