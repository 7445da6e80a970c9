"""IPv6 over WireGuard, from the reservation to a host that only IPv6 reaches."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from testbed import playbook
from testbed.containers import podman
from testbed.containers.fleet import Fleet
from testbed.paths import VENV_BIN
from testbed.person import Person
from testbed.progress import Step
from testbed.reservations import wireguard_key

PEER_HOST = 200
NAME = "tfg-molecule"  # of the namespace, and of its two interfaces
PATIENCE = 20.0


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


class Machine:
    """A machine on the fleet's network without IPv6: a network namespace at podman's bridge."""

    def __init__(self, fleet: Fleet) -> None:
        (network,) = json.loads(podman.run("network", "inspect", fleet.prefix))
        run("ip", "netns", "add", NAME)
        run("ip", "link", "add", "dev", NAME, "type", "veth", "peer", "name", "eth0", "netns", NAME)
        run("ip", "link", "set", "dev", NAME, "master", network["network_interface"], "up")
        self.run("sysctl", "-q", "-w", "net.ipv6.conf.eth0.disable_ipv6=1")
        self.run("ip", "address", "add", f"{fleet.address(PEER_HOST)}/24", "dev", "eth0")
        self.run("ip", "link", "set", "dev", "eth0", "up")

    def run(self, *command: str) -> str:
        return run("ip", "netns", "exec", NAME, *command)

    def page(self, address: str) -> str:
        """Empty when it cannot be reached in two seconds."""
        command = ["curl", "--silent", "--max-time", "2", f"http://[{address}]/"]
        return subprocess.run(["ip", "netns", "exec", NAME, *command], capture_output=True, text=True).stdout


@pytest.fixture
def machine(molecule_fleet: Fleet) -> Iterator[Machine]:
    remove = [
        ["ip", "-n", NAME, "link", "delete", "dev", NAME],  # ends wireguard-go too
        ["ip", "link", "delete", "dev", NAME],
        ["ip", "netns", "delete", NAME],
    ]
    for command in remove:  # what an interrupted run left
        subprocess.run(command, capture_output=True)
    yield Machine(molecule_fleet)
    for command in remove:
        subprocess.run(command, capture_output=True)


@pytest.mark.usefixtures("served")
def test_an_ipv6_host_is_reached_through_the_gateway(
    machine: Machine, molecule_fleet: Fleet, alice: Person, tmp_path: Path
) -> None:
    (number,) = [line["id"] for line in alice.reserve("list") if line["type"] == "gateway4to6"]
    asked = ["reserve", "--explorer", molecule_fleet.explorer_url, "wireguard", str(number)]
    configuration = tmp_path / f"{NAME}.conf"
    configuration.touch(0o600)
    key = str(wireguard_key(molecule_fleet))
    configuration.write_text(run(str(VENV_BIN / "tfgateway"), *asked, "--key-file", key))
    gateway = molecule_fleet.nodes[0]
    assert f"Endpoint = {molecule_fleet.address(gateway.host)}:3443\n" in configuration.read_text()
    web = molecule_fleet.web_address6
    assert machine.page(web) == ""
    machine.run("wg-quick", "up", str(configuration))
    deadline = time.monotonic() + PATIENCE
    while not (page := machine.page(web)):
        assert time.monotonic() < deadline, podman.run("exec", gateway.name, "wg", "show")
    assert f"http://[{web}]/" in page
    # A plane that starts again, and a firewall that loads its rules again, cost nobody the tunnel.
    handshake = machine.run("wg", "show", NAME, "latest-handshakes")
    for command in ("systemctl restart tfgateway-4to6", "ufw reload"):
        podman.run("exec", gateway.name, *command.split())
        assert machine.page(web) == page
    assert machine.run("wg", "show", NAME, "latest-handshakes") == handshake


@pytest.mark.usefixtures("served")
def test_state_has_asked_the_interface(molecule_fleet: Fleet) -> None:
    state = json.loads(podman.run("exec", molecule_fleet.nodes[0].name, "tfgateway", "state", "--json"))
    (found,) = [one for one in state["reservations"] if one["type"] == "gateway4to6"]
    assert (found["verdict"], found["served"]) == ("in_sync", True)


def test_the_plane_may_configure_the_network_and_nothing_else(host: Host) -> None:
    pid = host.check_output("systemctl show -p MainPID --value tfgateway-4to6")
    status = host.file(f"/proc/{pid}/status").content_string
    admin = f"{1 << 12:016x}"  # CAP_NET_ADMIN
    for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{kind}:\t{admin}\n" in status
    assert "Uid:\t0" not in status


def test_switched_off_nothing_of_it_is_left(molecule_fleet: Fleet) -> None:
    node = molecule_fleet.nodes[1]
    options = (f"--limit={node.name}", "--tags=identity,wireguard,gateway")

    def provision(*more: str) -> None:
        playbook.run(molecule_fleet, Step("4to6", molecule_fleet.directory / "fourtosix.log", None), *options, *more)

    def left() -> str:
        look = (
            "ls /etc/systemd/system | grep 4to6; ip -o link | grep wg-; ufw show added | grep 4to6; pgrep wireguard-go"
        )
        return podman.run("exec", node.name, "sh", "-c", f"{look}; true")

    provision("--extra-vars={wireguard_enabled: false}")
    assert left() == ""
    provision()
    for part in ("tfgateway-4to6.service", "wg-tfgateway", "3443/udp"):
        assert part in left()
