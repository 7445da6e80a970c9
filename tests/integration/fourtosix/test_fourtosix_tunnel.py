"""A user without IPv6 reserves 4to6, configures WireGuard with the answer, and reaches an IPv6-only host through it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tfgateway.redis_schema.keys import PEERS

from tests.support.processes import CommandLine, Explorer, RedisServer, StartProcess
from tests.support.waiting import until

Until = Callable[[Callable[[], Any], str], Any]
REFUSED = 7  # curl's exit code
PAGE = "only over IPv6\n"


class Person:
    """Somebody who has ``tfgateway reserve``."""

    def __init__(self, name: str, directory: Path, gateway: Any, tfgateway: CommandLine) -> None:
        self._gateway = gateway
        self._tfgateway = tfgateway
        self._seed = directory / f"{name}.seed"
        self.key_file = directory / f"{name}.key"
        self.tid = self.ask("register", "--name", name, "--email", f"{name}@example.com", "--output", str(self._seed))[
            "tid"
        ]

    def run(self, *arguments: str) -> Any:
        seed = ["--seed", str(self._seed)] if self._seed.exists() else []
        return self._tfgateway.run("reserve", "--explorer", self._gateway.explorer_url, *seed, *arguments, config="")

    def ask(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def runs_a_farm(self) -> None:
        """The first one, and its gateway is admitted."""
        self.ask("farm", "create", "--name", "farm")
        domain = ("--managed-domain", "gw1.example")
        self.ask("farm", "admit", "--farm", "1", "--node", self._gateway.identity.node_id, *domain)

    def reserve_4to6(self, *options: str) -> int:
        given = options or ("--key-file", str(self.key_file))
        number: int = self.ask("create", "4to6", "--node", self._gateway.identity.node_id, *given)["id"]
        return number

    def deployed(self, number: int) -> None:
        assert self.ask("wait", str(number))[0]["status"] == "deployed"

    def refusal(self, number: int) -> str:
        done = self.run("wait", str(number))
        assert done.returncode == 1
        text: str = done.stderr
        return text

    def configuration(self, number: int) -> str:
        """For wg-quick."""
        done = self.run("wireguard", str(number), "--key-file", str(self.key_file))
        assert done.returncode == 0, done.stderr
        text: str = done.stdout
        return text


@pytest.fixture
def fleet(gateway: Any, explorer: Explorer, tmp_path: Path, tfgateway: CommandLine) -> Iterator[Any]:
    """Explorer, reconciler and 4to6 plane are up; the gateway is registered."""
    gateway.explorer_url = explorer.url
    farmer = Person("farmer", tmp_path, gateway, tfgateway)
    farmer.runs_a_farm()
    gateway.reconciler = gateway.start("reconcile")
    gateway.plane = gateway.start()
    gateway.reconciler.wait_for(lambda: farmer.ask("gateways"), "a registered gateway")
    yield gateway


@pytest.fixture
def alice(fleet: Any, tmp_path: Path, tfgateway: CommandLine) -> Person:
    return Person("alice", tmp_path, fleet, tfgateway)


@pytest.fixture
def site(network: Any, tmp_path: Path, start_process: StartProcess) -> Any:
    """The web server, whose log says who visited."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.html").write_text(PAGE)
    serve = [sys.executable, "-u", "-m", "http.server", "80", "--bind", network.WEB_IPV6, "--directory", str(pages)]
    process = start_process("web", network.web.command(*serve))
    process.wait_log("Serving HTTP")
    return process


class Visitor:
    """The user's machine with a WireGuard interface made of a configuration."""

    def __init__(self, network: Any, directory: Path, configuration: str) -> None:
        self._network = network
        path = directory / f"wgu-{network.tag}.conf"
        path.touch(0o600)
        path.write_text(configuration)
        network.user.run("wg-quick", "up", str(path))
        self.interface = path.stem

    def fetch(self) -> str:
        """The page; empty when it cannot be reached in a second."""
        url = f"http://[{self._network.WEB_IPV6}]/"
        command = self._network.user.command("curl", "--silent", "--max-time", "1", url)
        return subprocess.run(command, capture_output=True, text=True).stdout

    def handshakes(self) -> int:
        """When the last handshake was, Unix seconds; 0: never."""
        line = self._network.user.run("wg", "show", self.interface, "latest-handshakes")
        return int(line.split()[1])


@pytest.fixture
def visitor(network: Any, alice: Person, site: Any, tmp_path: Path) -> Visitor:
    """Alice's machine, her reservation deployed."""
    number = alice.reserve_4to6()
    alice.deployed(number)
    return Visitor(network, tmp_path, alice.configuration(number))


def test_an_ipv6_host_is_reached_through_the_tunnel(
    network: Any, fleet: Any, alice: Person, site: Any, tmp_path: Path, known: dict[str, Any]
) -> None:
    unconnected = network.user.command("curl", "--silent", "--max-time", "1", f"http://[{network.WEB_IPV6}]/")
    assert subprocess.run(unconnected, capture_output=True).returncode != 0
    number = alice.reserve_4to6()
    alice.deployed(number)
    configuration = alice.configuration(number)
    assert f"PublicKey = {known['public_key']}\n" in configuration
    assert f"Endpoint = {network.GATEWAY_IPV4}:3443\n" in configuration
    assert f"Address = {fleet.pool.address_of(str(alice.tid))}/128\n" in configuration
    visitor = Visitor(network, tmp_path, configuration)
    assert until(visitor.fetch, "the page") == PAGE
    # Masqueraded: the web server has no route to the user's address.
    site.wait_log(network.UPLINK_IPV6)
    assert str(fleet.pool.address_of(str(alice.tid))) not in site.log
    # The gateway itself answers at its address in the tunnel: nothing listens there.
    knock = network.user.command("curl", "--silent", "--max-time", "5", f"http://[{fleet.pool.gateway.ip}]:1/")
    assert subprocess.run(knock, capture_output=True).returncode == REFUSED


def test_the_tunnel_survives_plane_reconciler_redis_and_explorer(
    visitor: Visitor, fleet: Any, redis_server: RedisServer, explorer: Explorer
) -> None:
    until(visitor.fetch, "the page")
    first = visitor.handshakes()
    fleet.plane.kill()
    fleet.reconciler.kill()
    redis_server.kill()
    explorer.stop()
    assert visitor.fetch() == PAGE
    redis_server.start()
    fleet.start()
    fleet.start("reconcile")
    assert visitor.fetch() == PAGE
    assert visitor.handshakes() == first, "the same session"


def test_the_end_of_the_reservation_is_the_end_of_the_tunnel(visitor: Visitor, fleet: Any, alice: Person) -> None:
    until(visitor.fetch, "the page")
    (line,) = alice.ask("list")
    alice.ask("delete", str(line["id"]))
    until(lambda: not fleet.peers(), "no peer")
    assert not visitor.fetch()
    until(lambda: alice.ask("list", "--all")[0]["status"] == "deleted", "the gateway told the explorer")


def test_an_emptied_redis_is_filled_and_the_peer_comes_back(
    visitor: Visitor, fleet: Any, redis_server: RedisServer
) -> None:
    until(visitor.fetch, "the page")
    before = fleet.peers()
    with redis_server.client() as client:
        client.flushall()
    until(lambda: redis_server.client().hgetall(PEERS), "the row")
    until(lambda: fleet.peers() == before, "the peer")


def test_p18_somebody_elses_key_is_refused_with_the_reason(
    fleet: Any, alice: Person, tmp_path: Path, tfgateway: CommandLine
) -> None:
    alice.deployed(alice.reserve_4to6())
    before = fleet.peers()
    (key,) = before
    mallory = Person("mallory", tmp_path, fleet, tfgateway)
    assert "the key is another user's" in mallory.refusal(mallory.reserve_4to6("--public-key", key))
    another = subprocess.run(["wg", "genpsk"], capture_output=True, text=True, check=True).stdout.strip()
    assert "has another key already" in alice.refusal(alice.reserve_4to6("--public-key", another))
    assert fleet.peers() == before


def test_the_state_asks_the_interface_itself(fleet: Any, alice: Person) -> None:
    alice.deployed(alice.reserve_4to6())

    def state() -> Any:
        done = fleet.run("state", "--json")
        assert done.returncode == 0, done.stderr
        (reservation,) = json.loads(done.stdout)["reservations"]
        return reservation["type"], reservation["verdict"], reservation["served"]

    assert state() == ("gateway4to6", "in_sync", True)
    fleet.plane.stop()
    (key,) = fleet.peers()
    subprocess.run(["wg", "set", fleet.interface, "peer", key, "remove"], check=True)
    assert state() == ("gateway4to6", "missing", False)


def test_where_4to6_is_switched_off_a_reservation_is_refused(
    gateway: Any, explorer: Explorer, tmp_path: Path, tfgateway: CommandLine
) -> None:
    gateway.explorer_url = explorer.url
    gateway.endpoint = ""
    farmer = Person("farmer", tmp_path, gateway, tfgateway)
    farmer.runs_a_farm()
    gateway.start("reconcile").wait_for(lambda: farmer.ask("gateways"), "a registered gateway")
    assert "this gateway gives no IPv6" in farmer.refusal(farmer.reserve_4to6())
