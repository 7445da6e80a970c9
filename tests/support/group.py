"""A group of gateways: members with one identity and a replicated redis, each in a network namespace of its own.

A member is a redis, a Sentinel, a reconciler, a DNS plane and a proxy, at an address of its own; the last namespace
holds nothing but the third Sentinel. The explorer, the users and what the proxies lead to are outside of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import redis
from tfgateway.diagnosis.planes import plane_states
from tfgateway.explorer import user
from tfgateway.explorer.models import DomainDelegate, Proxy, Subdomain
from tfgateway.redis_schema.keys import LEASE
from tfgateway.settings import parse

from tests.support import metrics
from tests.support.disasters import Load, Page
from tests.support.processes import Process, StartProcess
from tests.support.waiting import until

DNS_PORT, HTTP_PORT, REDIS_PORT, SENTINEL_PORT, METRICS_PORT = 5353, 8080, 6379, 26379, 9150
DNS_WORKERS = 2
_SCRIPT = Path(__file__).parents[2] / "roles" / "tfredis" / "files" / "group.sh"
_NOWHERE = "02:00:00:00:00:fe"
"""An Ethernet address that nobody has."""
_REDIS = """
bind {address} 127.0.0.1
port 6379
protected-mode no
dir {directory}
appendonly yes
save ""
replica-announce-ip {address}
replica-serve-stale-data no
repl-diskless-sync-delay 0
repl-timeout 5
repl-ping-replica-period 1
"""
_SENTINEL = """
bind {address}
port 26379
protected-mode no
dir {directory}
sentinel monitor tfgateway {master} 6379 2
sentinel down-after-milliseconds tfgateway 1000
sentinel failover-timeout tfgateway 5000
"""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """Namespaces at one bridge, which has an address too."""

    def __init__(self, size: int) -> None:
        self._name = f"tg{secrets.token_hex(3)}"
        self._subnet = f"10.{128 + secrets.randbelow(64)}.{secrets.randbelow(256)}"
        self.outside = f"{self._subnet}.254"
        self.addresses = [f"{self._subnet}.{number + 1}" for number in range(size)]
        _ip("link", "add", self._name, "type", "bridge")
        _ip("address", "add", f"{self.outside}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")
        for number, address in enumerate(self.addresses):
            space, link = self._space(number), f"{self._name}v{number}"
            _ip("netns", "add", space)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", link, "master", self._name, "up")
            for command in (
                ["address", "add", f"{address}/24", "dev", "eth0"],
                ["link", "set", "eth0", "up"],
                ["link", "set", "lo", "up"],
            ):
                _ip("-n", space, *command)

    def close(self) -> None:
        for number in range(len(self.addresses)):
            _ip("netns", "delete", self._space(number))
        _ip("link", "delete", self._name)

    def command(self, number: int, *command: str) -> list[str]:
        """The command as it is run in a namespace."""
        # A service manager's abstract socket cannot be reached from there.
        return ["ip", "netns", "exec", self._space(number), "env", "-u", "NOTIFY_SOCKET", *command]

    def cut(self, number: int) -> None:
        """Let packets between this namespace and the others vanish; what is outside is still reached."""
        self._between(number, "replace", ["lladdr", _NOWHERE, "nud", "permanent"])

    def mend(self, number: int) -> None:
        self._between(number, "delete", [])

    def _between(self, number: int, verb: str, rest: list[str]) -> None:
        for other in range(len(self.addresses)):
            if other != number:
                for here, there in ((number, other), (other, number)):
                    _ip("-n", self._space(here), "neigh", verb, self.addresses[there], *rest, "dev", "eth0")

    def _space(self, number: int) -> str:
        return f"{self._name}-{number}"


class Member:
    """One gateway of the group, and its redis."""

    def __init__(self, group: Group, number: int, directory: Path) -> None:
        self._group = group
        self.number = number
        self.address = group.network.addresses[number]
        self.directory = directory
        self.load = Load(DNS_PORT, HTTP_PORT, address=self.address)
        self.processes: dict[str, Process] = {}
        (directory / "redis").mkdir(parents=True)
        (directory / "state").mkdir()
        (directory / "redis.conf").write_text(_REDIS.format(address=self.address, directory=directory / "redis"))

    def config(self) -> str:
        return f"""
[identity]
seed = "{self._group.fleet.seed}"
[redis]
url = "redis://"
replica = "redis://127.0.0.1:{REDIS_PORT}"
sentinels = {self._group.sentinel_addresses}
timeout = 1
[explorer]
url = "{self._group.fleet.url}"
poll_interval = 0.2
timeout = 5
[gateway]
farm_id = 1
name_servers = ["ns1.gw1.example", "ns2.gw1.example"]
managed_domains = ["gw1.example"]
[gateway.location]
city = "Gent"
[reconciler]
metrics = "{self.address}:{METRICS_PORT}"
[dns]
workers = {DNS_WORKERS}
listen = ["{self.address}:{DNS_PORT}"]
metrics = "{self.address}:{METRICS_PORT + 1}"
[dns.rate_limit]
exempt = ["{self._group.network.outside}/32"]
[proxy]
workers = 1
listen_http = ["{self.address}:{HTTP_PORT}"]
listen_tls = ["{self.address}:8443"]
listen_tunnels = ["{self.address}:18000"]
allowed_targets = ["{self._group.network.outside}/32"]
metrics = "{self.address}:{METRICS_PORT + 2}"
"""

    def redis(self) -> redis.Redis:
        return redis.Redis(host=self.address, port=REDIS_PORT, protocol=2, socket_timeout=2, socket_connect_timeout=2)

    def ask(self, *command: str) -> Any:
        """The reply of its redis; None: it does not answer, or refuses."""
        with self.redis() as client, contextlib.suppress(redis.RedisError):
            return client.execute_command(*command)
        return None

    @property
    def is_master(self) -> bool:
        role = self.ask("ROLE")
        return role is not None and role[0] == b"master"

    def metric(self, name: str) -> float | None:
        """Of its reconciler; None: that does not run."""
        with contextlib.suppress(OSError):
            return metrics.values(metrics.page(METRICS_PORT, self.address, timeout=1)).get(name)
        return None

    @property
    def leads(self) -> bool:
        """Whether its reconciler says that it holds the lease."""
        return self.metric("tfgateway_reconciler_leader") == 1

    @property
    def following(self) -> bool:
        """Whether both planes follow its redis."""
        states = asyncio.run(plane_states(parse(self.config().encode())))
        return [one.implausible for one in states] == ["", ""]

    def wait_ready(self) -> None:
        """Until all workers of its DNS plane serve, and its proxy leads to all that it is asked for."""
        dns, proxy = self.processes["dns"], self.processes["proxy"]
        dns.wait_for(lambda: dns.log.count('"event": "listening"') >= DNS_WORKERS, "all workers serve")
        proxy.wait_log('"event": "in sync')
        for host in self.load.services:
            until(lambda: self.load.visit(host) == "", f"member {self.number} leads to {host}")  # noqa: B023 - called at once

    def start_redis(self) -> None:
        """As the unit of role tfredis starts it."""
        own = [self.address, str(REDIS_PORT)]
        first = f"{self._group.network.addresses[0]} {REDIS_PORT}"
        given = ["REDIS_SERVER=redis-server", "REDIS_CLI=redis-cli", "SERVICE=tfgateway", f"FIRST={first}"]
        files = [str(self.directory / "redis.conf"), str(self.directory / "live.conf")]
        arguments = [str(_SCRIPT), "start", *files, *own, *self._group.sentinel_addresses]
        self.processes["redis"] = self._start("env", *given, *arguments)
        until(lambda: self.ask("ROLE"), f"redis of member {self.number} answers")
        command = self._group.network.command(self.number, "env", *given, str(_SCRIPT), "wait", *own)
        subprocess.run(command, check=True)

    def start(self, what: str) -> None:
        """One of ``reconcile``, ``dns`` and ``proxy``."""
        path = self.directory / "gateway.toml"
        path.write_text(self.config())
        program = str(Path(sys.executable).with_name("tfgateway"))
        environ = ["env", f"STATE_DIRECTORY={self.directory / 'state'}"]
        self.processes[what] = self._start(*environ, program, "--config", str(path), what)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``tfgateway ARGUMENTS`` on this member."""
        path = self.directory / "gateway.toml"
        path.write_text(self.config())
        program = str(Path(sys.executable).with_name("tfgateway"))
        command = self._group.network.command(self.number, program, "--config", str(path), *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def start_gateway(self) -> None:
        for what in ("reconcile", "dns", "proxy"):
            self.start(what)

    def kill(self, *which: str) -> None:
        """Kill these processes, by default all of them."""
        for what in which or tuple(self.processes):
            self.processes.pop(what).kill()

    def _start(self, *command: str) -> Process:
        name = f"{Path(command[0]).name} {command[-1]} of member {self.number}"
        return self._group.start_process(name, self._group.network.command(self.number, *command))


class Group:
    """Two members and a third Sentinel, an explorer, and users who reserve names and services."""

    def __init__(self, fleet: Any, directory: Path, start_process: StartProcess, size: int = 2) -> None:
        """fleet: made, not started."""
        self.network = Network(size + 1)
        self.start_process = start_process
        self.directory = directory
        self._web = ThreadingHTTPServer((self.network.outside, 0), Page)
        threading.Thread(target=self._web.serve_forever, daemon=True).start()
        self.fleet = copy.copy(fleet)
        self.fleet.url = f"http://{self.network.outside}:{fleet.explorer_port}/api/v1"
        self.members = [Member(self, number, directory / f"member{number}") for number in range(size)]
        self.sentinel_addresses = [f"{address}:{SENTINEL_PORT}" for address in self.network.addresses]
        self.sentinels: dict[int, Process] = {}
        self._names = 0

    def close(self) -> None:
        for process in self.sentinels.values():
            process.kill()
        for member in self.members:
            member.kill()
        self._web.shutdown()
        self._web.server_close()
        self.network.close()

    def start(self) -> None:
        """Everything runs, one name and one service are served by all members."""
        fleet = self.fleet
        listen = f"{self.network.outside}:{fleet.explorer_port}"
        fleet.tfgateway("explorer", "--listen", listen, "--database", str(fleet.database), "--accept-any", config="")
        fleet.register("farmer")
        fleet.call(lambda client: user.farm(client, fleet.accounts["farmer"].tid, "farm", "wallet"), "farmer")
        fleet.admit()
        for member in self.members:
            member.start_redis()
        until(lambda: self.members[0].ask("ROLE")[2], "it has a replica")
        for number in range(len(self.network.addresses)):
            self.start_sentinel(number)
        until(self.in_quorum, "the Sentinels know each other and all of redis")
        for member in self.members:
            member.start_gateway()
        for member in self.members:
            member.wait_ready()
        fleet.registered()
        fleet.deployed(fleet.reserve(DomainDelegate(domain="alice.example", node_id=fleet.node_id)))
        self.reserve()

    def start_sentinel(self, number: int) -> None:
        """Start it, with the configuration that it has rewritten if it ran before."""
        path = self.directory / f"sentinel{number}" / "sentinel.conf"
        if not path.exists():
            path.parent.mkdir()
            address, master = self.network.addresses[number], self.network.addresses[0]
            path.write_text(_SENTINEL.format(address=address, directory=path.parent, master=master))
        command = self.network.command(number, "redis-server", str(path), "--sentinel")
        self.sentinels[number] = self.start_process(f"sentinel {number}", command)

    def in_quorum(self) -> bool:
        """Whether all Sentinels know each other, and all of redis."""
        for address in self.network.addresses:
            with redis.Redis(host=address, port=SENTINEL_PORT, protocol=2, socket_timeout=1) as client:
                try:
                    answer = client.execute_command("SENTINEL", "MASTER", "tfgateway")
                except redis.RedisError:
                    return False
            known = dict(zip(answer[::2], answer[1::2], strict=True))
            others = len(self.network.addresses) - 1
            if (int(known[b"num-other-sentinels"]), int(known[b"num-slaves"])) != (others, len(self.members) - 1):
                return False
        return True

    def reserve(self, *members: Member) -> tuple[str, str, str]:
        """A name and a service more, which these members (by default all) serve, and are asked for, from then on.

        Name, address and service.
        """
        self._names += 1
        label, address = f"n{self._names}", f"203.0.113.{self._names}"
        name, host = f"{label}.gw1.example", f"{label}.alice.example"
        fleet, node_id = self.fleet, self.fleet.node_id
        fleet.deployed(fleet.reserve(Subdomain(domain=name, ips=(address,), node_id=node_id)))
        target = Proxy(domain=host, addr=self.network.outside, port=self._web.server_port, node_id=node_id)
        fleet.deployed(fleet.reserve(target))
        for member in members or self.members:
            self.served_by(member, name, address, host)
        return name, address, host

    def served_by(self, member: Member, name: str, address: str, host: str) -> None:
        if "dns" in member.processes:
            until(lambda: member.load.query((name, address)) == "", f"member {member.number} answers {name}")
            until(lambda: member.load.visit(host) == "", f"member {member.number} leads to {host}")
        member.load.names[name] = address
        member.load.services.append(host)

    @property
    def leader(self) -> Member:
        return until(lambda: [one for one in self.members if one.leads], "one leads")[0]

    @property
    def master(self) -> Member:
        """Of those that run and answer."""
        return until(lambda: [one for one in self.members if one.is_master], "one is the master")[0]

    def other(self, member: Member) -> Member:
        return next(one for one in self.members if one is not member)

    def holder(self, member: Member) -> Any:
        """What stands in the lease in this member's redis."""
        return member.ask("GET", LEASE)

    @contextlib.contextmanager
    def load(self, *members: Member) -> Iterator[None]:
        """Ask these for everything while the block lasts."""
        with contextlib.ExitStack() as stack:
            for member in members or self.members:
                stack.enter_context(member.load.running())
            yield


def rows(group: Group, what: str) -> str:
    """A line for each member of the table of results."""
    return "\n".join(f"{what:44} member {one.number}: {one.load.row()}" for one in group.members)
