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

import dns.message
import dns.query
import redis
from tfgateway.diagnosis.planes import plane_states
from tfgateway.explorer import user
from tfgateway.explorer.models import DomainDelegate, Proxy, Subdomain
from tfgateway.identity.derived import group_certificate
from tfgateway.redis_schema.keys import LEASE
from tfgateway.settings import parse

from tests.support import metrics, redis_users
from tests.support.disasters import Load, Page
from tests.support.processes import Process, StartProcess
from tests.support.waiting import until

DNS_PORT, HTTP_PORT, REDIS_PORT, SENTINEL_PORT, METRICS_PORT = 5353, 8080, 6380, 26379, 9150
DNS_WORKERS = 2
_SCRIPT = redis_users.ROLE / "files" / "group.sh"
_FILES = ("users.conf", "open.conf", "closed.conf", "tfredis.conf", "sentinel.conf")
_SECRETS = ("reconciler", "dns", "proxy", "operator", "replica", "sentinel")
_SURE = 30
"""Answers in a row after which all workers of a DNS plane have answered: each query is another one's by chance."""
_TLS = ("ca_certs", "certfile", "keyfile")
_NOWHERE = "02:00:00:00:00:fe"
"""An Ethernet address that nobody has."""


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
        (directory / "state").mkdir(parents=True)
        self.etc = group.configure(number, directory)
        self.socket = directory / "run" / "redis.sock"

    def config(self) -> str:
        return f"""
[identity]
seed = "{self._group.fleet.seed}"
[redis]
url = "rediss:///0?{"&".join(f"ssl_{name}={self.etc}/group.pem" for name in _TLS)}&ssl_check_hostname=false"
replica = "unix://{self.socket}"
secrets = "{self.etc}"
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
        login: dict[str, Any] = {"username": "operator", "password": redis_users.password("operator")}
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, socket_timeout=2, **login)

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
        server, proxy = self.processes["dns"], self.processes["proxy"]
        server.wait_for(lambda: server.log.count('"event": "listening"') >= DNS_WORKERS, "all workers serve")
        proxy.wait_log('"event": "in sync')
        for host in self.load.services:
            until(lambda: self.load.visit(host) == "", f"member {self.number} leads to {host}")  # noqa: B023 - called at once

    def serial(self) -> int:
        """Of the SOA record of the managed domain."""
        query = dns.message.make_query("gw1.example", "SOA")
        answer = dns.query.udp(query, self.address, port=DNS_PORT, timeout=5)
        serial: int = answer.answer[0][0].serial
        return serial

    def start_redis(self) -> None:
        """As the unit of role tfredis starts it."""
        own = [self.address, str(REDIS_PORT)]
        files = [str(self.etc / "tfredis.conf"), str(self.directory / "redis" / "redis.conf")]
        arguments = ["redis", *files, *own, *self._group.sentinel_addresses]
        self.processes["redis"] = self._start("env", *self._group.environment(self.etc), str(_SCRIPT), *arguments)
        until(lambda: self.ask("ROLE"), f"redis of member {self.number} answers")
        login = ["-s", str(self.socket), "--user", "health", "--pass", "-", "--no-auth-warning"]
        synced = ["env", *self._group.environment(self.etc), str(_SCRIPT), "synced", *login]
        subprocess.run(self._group.network.command(self.number, *synced), check=True)

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
        self.members = [Member(self, number, directory / f"m{number}") for number in range(size)]
        self.sentinel_directories = [*(member.directory for member in self.members), directory / "third"]
        self.configure(size, self.sentinel_directories[-1])
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

    def configure(self, number: int, directory: Path) -> Path:
        """The directory with what role tfredis puts into /etc/tfredis, with all else below ``directory``."""
        etc = directory / "etc"
        for made in ("etc", "run", "redis", "sentinel"):
            (directory / made).mkdir(parents=True)
        places = {
            "/etc/tfredis.conf": etc / "tfredis.conf",
            "/etc/tfredis": etc,
            "/run/tfredis": directory / "run",
            "/var/lib/tfredis": directory / "redis",
            "/var/lib/tfsentinel": directory / "sentinel",
        }
        for name in _FILES:
            text = redis_users.render(
                f"{name}.j2",
                _tfredis_knows_channels=True,
                _tfredis_bundled=False,
                tfredis_group="a",
                tfredis_address=self.network.addresses[number],
                tfredis_port=6379,
                tfredis_group_port=REDIS_PORT,
                tfredis_sentinel_port=SENTINEL_PORT,
                tfredis_maxmemory="64mb",
                tfredis_min_replicas=0,
            )
            for place, other in places.items():
                text = text.replace(place, str(other))
            (etc / name).write_text(text)
        (etc / "access.conf").symlink_to("closed.conf")
        (etc / "group.pem").write_text(group_certificate(self.fleet.identity.seed))
        for name in _SECRETS:
            (etc / f"{name}.secret").write_text(redis_users.password(name))
        return etc

    def environment(self, etc: Path) -> list[str]:
        """What the script takes from the environment."""
        tls = "--tls " + " ".join(f"--{name} {etc}/group.pem" for name in ("cert", "key", "cacert"))
        first = f"FIRST={self.network.addresses[0]} {REDIS_PORT}"
        return ["SERVER=redis-server", "CLI=redis-cli", f"TLS={tls}", "NAME=tfgateway", first, f"SECRETS={etc}"]

    def start_sentinel(self, number: int) -> None:
        """As the unit of role tfredis starts it."""
        etc = self.sentinel_directories[number] / "etc"
        files = [str(etc / "sentinel.conf"), str(etc.parent / "sentinel" / "sentinel.conf")]
        arguments = ["sentinel", *files, "2", *self.sentinel_addresses]
        command = ["env", *self.environment(etc), str(_SCRIPT), *arguments]
        self.sentinels[number] = self.start_process(f"sentinel {number}", self.network.command(number, *command))

    def in_quorum(self) -> bool:
        """Whether all Sentinels know each other, and all of redis."""
        file = str(self.members[0].etc / "group.pem")
        tls: dict[str, Any] = {"ssl": True, "ssl_check_hostname": False, **{f"ssl_{name}": file for name in _TLS}}
        login: dict[str, Any] = {"username": "operator", "password": redis_users.password("operator")}
        for address in self.network.addresses:
            with redis.Redis(host=address, port=SENTINEL_PORT, protocol=2, socket_timeout=1, **tls, **login) as client:
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
        """Wait until all of its workers serve these; they are asked for from then on."""
        if "dns" in member.processes:
            item = (name, address)

            def answered() -> bool:
                return all(member.load.query(item) == "" for _ in range(_SURE))

            until(answered, f"member {member.number} answers {name}")
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
