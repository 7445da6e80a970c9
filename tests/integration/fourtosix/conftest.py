"""Network namespaces for a gateway, a user without IPv6 and a web server that only has IPv6.

The test itself, and with it every process that it starts, stands in the gateway's.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from tfgateway.fourtosix.pool import AddressPool
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.redis_schema.keys import PEERS

from tests.support.processes import CommandLine, RedisServer

SEED = bytes(range(32))
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_VECTORS = Path(__file__).parents[2] / "vectors"
_NAMED = Path("/run/netns")


def output(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Namespace:
    """A network namespace by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        output("ip", "netns", "add", name)
        self.run("ip", "link", "set", "dev", "lo", "up")

    def command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, given: str = "") -> str:
        return output(*self.command(*command), given=given)

    def enter(self) -> None:
        """This thread, and what it starts, from now on."""
        with (_NAMED / self.name).open() as namespace:
            _enter(namespace)

    def remove(self) -> None:
        for pid in output("ip", "netns", "pids", self.name).split():
            if int(pid) != os.getpid():
                os.kill(int(pid), signal.SIGKILL)
        output("ip", "netns", "del", self.name)


def _enter(namespace: IO[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), _NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass(frozen=True)
class Network:
    """``user`` (192.0.2.2) --IPv4-- ``gateway`` --IPv6-- ``web`` (2001:db8:1::80), which has no route to anybody."""

    gateway: Namespace
    user: Namespace
    web: Namespace
    tag: str
    """For names that all namespaces share: WireGuard's control sockets."""

    @contextlib.contextmanager
    def another_user(self, role: str, address: str, gateway: str) -> Iterator[Namespace]:
        """One more user, who reaches the gateway by its first address as well."""
        made = Namespace(f"tfg-{self.tag}-{role}")
        try:
            self.gateway.run(
                "ip", "link", "add", "dev", role, "type", "veth", "peer", "name", "eth0", "netns", made.name
            )
            for namespace, device, own in [(self.gateway, role, gateway), (made, "eth0", address)]:
                namespace.run("ip", "address", "add", f"{own}/24", "dev", device)
                namespace.run("ip", "link", "set", "dev", device, "up")
            made.run("ip", "route", "add", "default", "via", gateway)
            yield made
        finally:
            made.remove()

    GATEWAY_IPV4 = "192.0.2.1"
    UPLINK = "uplink"
    UPLINK_IPV6 = "2001:db8:1::1"
    WEB_IPV6 = "2001:db8:1::80"


def missing() -> str:
    """Why there can be no WireGuard interface in a namespace here; empty: there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "ip6tables", "wg", "curl"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    name = f"tfg-{secrets.token_hex(3)}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        return "this machine allows no network namespaces"
    try:
        create = ["ip", "-n", name, "link", "add", "type", "wireguard"]
        if subprocess.run(create, capture_output=True).returncode == 0:
            return ""
    finally:
        output("ip", "netns", "del", name)
    if shutil.which("wireguard-go") is None:
        return "the kernel has no WireGuard, and wireguard-go is not installed"
    return "" if Path("/dev/net/tun").exists() else "the kernel has no WireGuard, and there is no /dev/net/tun"


@pytest.fixture(scope="session")
def wireguard_is_possible() -> None:
    reason = missing()
    # CI's own machine is set up to have it all: a tunnel that is not tested there is tested nowhere.
    if reason and os.geteuid() == 0 and os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def network(wireguard_is_possible: None) -> Iterator[Network]:
    tag = secrets.token_hex(3)
    with contextlib.ExitStack() as stack:

        def namespace(role: str) -> Namespace:
            made = Namespace(f"tfg-{tag}-{role}")
            stack.callback(made.remove)
            return made

        stack.callback(_remove_sockets, tag)
        network = Network(namespace("gateway"), namespace("user"), namespace("web"), tag)
        _connect(network)
        stack.callback(_enter, stack.enter_context(Path("/proc/self/ns/net").open()))
        network.gateway.enter()
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        output("ip6tables", "-w", "-t", "nat", "-A", "POSTROUTING", "-o", Network.UPLINK, "-j", "MASQUERADE")
        yield network


def _remove_sockets(tag: str) -> None:
    """Those that a killed wireguard-go left."""
    for path in Path("/run/wireguard").glob(f"*-{tag}.sock"):
        path.unlink()


def _connect(network: Network) -> None:
    gateway, user, web = network.gateway, network.user, network.web
    gateway.run("ip", "link", "add", "dev", "users", "type", "veth", "peer", "name", "eth0", "netns", user.name)
    gateway.run("ip", "link", "add", "dev", Network.UPLINK, "type", "veth", "peer", "name", "eth0", "netns", web.name)
    for namespace, device, address in [
        (gateway, "users", f"{Network.GATEWAY_IPV4}/24"),
        (user, "eth0", "192.0.2.2/24"),
        (gateway, Network.UPLINK, f"{Network.UPLINK_IPV6}/64"),
        (web, "eth0", f"{Network.WEB_IPV6}/64"),
    ]:
        nodad = ["nodad"] if ":" in address else []
        namespace.run("ip", "address", "add", address, "dev", device, *nodad)
        namespace.run("ip", "link", "set", "dev", device, "up")


class Gateway:
    """The node: ``config`` is its gateway.toml, ``peers`` what its interface really has."""

    def __init__(
        self,
        directory: Path,
        network: Network,
        redis_server: RedisServer,
        tfgateway: CommandLine,
        ports: dict[str, int],
    ) -> None:
        self.seed = directory / "identity.seed"
        seedfile.create(self.seed, SEED)
        self.identity = Identity.from_seed(SEED)
        self.pool = AddressPool(SEED)
        self.interface = f"wgg-{network.tag}"
        self.endpoint = f"{Network.GATEWAY_IPV4}:3443"
        self.redis_server = redis_server
        self.ports = ports
        self.explorer_url = "http://127.0.0.1:1"
        self._tfgateway = tfgateway

    def config(self, **fourtosix: object) -> str:
        own = {"endpoint": self.endpoint, "interface": self.interface, **fourtosix}
        members = "\n".join(f"{name} = {json.dumps(value)}" for name, value in own.items())
        return f"""
[identity]
seed = "{self.seed}"
[redis]
url = "{self.redis_server.url}"
timeout = 2
[explorer]
url = "{self.explorer_url}"
poll_interval = 0.2
[gateway]
farm_id = 1
[gateway.location]
city = "Gent"
[reconciler]
metrics = "127.0.0.1:{self.ports["reconciler"]}"
[dns]
listen = []
[proxy]
listen_http = []
listen_tls = []
[fourtosix]
metrics = "127.0.0.1:{self.ports["fourtosix"]}"
{members}
"""

    def start(self, command: str = "fourtosix", *, ready: bool = True, **fourtosix: object) -> Any:
        return self._tfgateway(command, config=self.config(**fourtosix), ready=ready)

    def run(self, *command: str, **fourtosix: object) -> Any:
        return self._tfgateway.run(*command, config=self.config(**fourtosix))

    def want(self, tid: int, key: str) -> None:
        """What the reconciler writes."""
        with self.redis_server.client() as client:
            client.hset(PEERS, str(tid), key)

    def unwant(self, tid: int) -> None:
        with self.redis_server.client() as client:
            client.hdel(PEERS, str(tid))

    def peers(self) -> dict[str, str]:
        """Allowed addresses by public key."""
        done = subprocess.run(["wg", "show", self.interface, "allowed-ips"], capture_output=True, text=True)
        return dict(line.split("\t") for line in done.stdout.splitlines())

    def right_peers(self, **keys: str) -> dict[str, str]:
        """What ``peers`` has to be: ``right_peers(tid7=key)``."""
        return {key: f"{self.pool.address_of(tid.removeprefix('tid'))}/128" for tid, key in keys.items()}


@pytest.fixture
def gateway(
    tmp_path: Path, network: Network, redis_server: RedisServer, tfgateway: CommandLine, free_port: Callable[[], int]
) -> Gateway:
    ports = {name: free_port() for name in ("reconciler", "fourtosix")}
    return Gateway(tmp_path, network, redis_server, tfgateway, ports)


@pytest.fixture(scope="session")
def known() -> dict[str, Any]:
    """The vectors of 4to6."""
    found: dict[str, Any] = json.loads((_VECTORS / "identity.json").read_text())["fourtosix"]
    return found


class Keys:
    """A user's WireGuard keys, made by ``wg`` itself."""

    def __init__(self) -> None:
        self.private = output("wg", "genkey").strip()
        self.public = output("wg", "pubkey", given=self.private).strip()
        assert len(base64.b64decode(self.public)) == 32


@pytest.fixture
def make_keys() -> type[Keys]:
    return Keys
