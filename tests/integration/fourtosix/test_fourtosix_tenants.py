"""Tenants of one gateway: nobody gets another's address or traffic, whatever happens to plane and redis meanwhile."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tfgateway.redis_schema.keys import PEERS

from tests.support.processes import RedisServer, StartProcess
from tests.support.waiting import until

Until = Callable[[Callable[[], Any], str], Any]
REFUSED = 7  # curl's exit code
PAGE = "only over IPv6\n"


class Tenant:
    """A machine in a namespace of its own, with a WireGuard peer of the gateway."""

    def __init__(self, tid: int, network: Any, gateway: Any, namespace: Any, keys: Any, directory: Path) -> None:
        self.tid = tid
        self.keys = keys
        self.namespace = namespace
        self.address = str(gateway.pool.address_of(str(tid)))
        self.interface = f"wg{tid}-{network.tag}"
        path = directory / f"{self.interface}.conf"
        path.touch(0o600)
        path.write_text(f"""[Interface]
PrivateKey = {keys.private}
Address = {self.address}/128
[Peer]
PublicKey = {gateway.public_key}
Endpoint = {network.GATEWAY_IPV4}:3443
AllowedIPs = ::/0
PersistentKeepalive = 1
""")
        gateway.want(tid, keys.public)
        namespace.run("wg-quick", "up", str(path))

    def curl(self, address: str, *, port: int = 80, source: str = "") -> subprocess.CompletedProcess[str]:
        given = ["--interface", source] if source else []
        command = self.namespace.command("curl", "--silent", "--max-time", "2", *given, f"http://[{address}]:{port}/")
        return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def serve(tmp_path: Path, start_process: StartProcess) -> Callable[[Any, str], Any]:
    """``serve(namespace, address)``: a web server there; its log says who visited."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.html").write_text(PAGE)

    def start(namespace: Any, address: str) -> Any:
        command = [sys.executable, "-u", "-m", "http.server", "80", "--bind", address, "--directory", str(pages)]
        process = start_process("web", namespace.command(*command))
        process.wait_log("Serving HTTP")
        return process

    return start


@pytest.fixture
def tenants(network: Any, gateway: Any, known: Any, make_keys: Any, tmp_path: Path) -> Iterator[tuple[Tenant, Tenant]]:
    """Two, and the plane; no firewall is in the way."""
    gateway.public_key = known["public_key"]
    gateway.start()
    with network.another_user("second", "192.0.3.2", "192.0.3.1") as second:
        yield (
            Tenant(7, network, gateway, network.user, make_keys(), tmp_path),
            Tenant(8, network, gateway, second, make_keys(), tmp_path),
        )


def test_no_tenant_reaches_another_or_takes_an_address(
    tenants: tuple[Tenant, Tenant], network: Any, gateway: Any, serve: Any
) -> None:
    first, second = tenants
    site, victim = serve(network.web, network.WEB_IPV6), serve(second.namespace, second.address)
    for tenant in tenants:
        until(lambda tenant=tenant: tenant.curl(network.WEB_IPV6).stdout == PAGE, "it is through")
        assert tenant.curl(str(gateway.pool.gateway.ip), port=1).returncode == REFUSED, "the gateway itself answers"
    # The other tenant's machine.
    assert second.curl(second.address).stdout == PAGE
    assert first.curl(second.address).returncode != 0
    assert victim.log.count("GET") == 1, "nobody else came"
    # The other tenant's address as the source, to the web and to the other itself.
    visits = site.log.count("GET")
    first.namespace.run("ip", "address", "add", f"{second.address}/128", "dev", first.interface)
    for target in (network.WEB_IPV6, str(gateway.pool.gateway.ip)):
        assert first.curl(target, source=second.address).returncode not in (0, REFUSED)
    assert site.log.count("GET") == visits
    assert second.curl(network.WEB_IPV6).stdout == PAGE, "the owner's traffic still comes to the owner"
    assert gateway.peers() == gateway.right_peers(tid7=first.keys.public, tid8=second.keys.public)


def test_the_rule_that_keeps_tenants_apart_is_put_back(
    tenants: tuple[Tenant, Tenant], gateway: Any, serve: Any
) -> None:
    first, second = tenants
    serve(second.namespace, second.address)
    until(lambda: second.curl(str(gateway.pool.gateway.ip), port=1).returncode == REFUSED, "it is through")

    def rules() -> str:
        return subprocess.run(["ip", "-6", "rule", "show"], capture_output=True, text=True, check=True).stdout

    assert rules().count(gateway.interface) == 1
    subprocess.run(["ip", "-6", "rule", "del", "priority", "3443"], check=True)
    until(lambda: gateway.interface in rules(), "the rule")
    assert first.curl(second.address).returncode != 0


def change(gateway: Any, make_keys: Any, redis: Any, given: dict[str, set[str]], chance: random.Random) -> None:
    """What reconcilers, users and operators do to the rows, several times."""
    for _ in range(chance.randint(1, 4)):
        rows = {name.decode(): key.decode() for name, key in redis.hgetall(PEERS).items()}
        tid = str(chance.randint(1, 6))
        match chance.randint(0, 3):
            case 0 if tid in rows:
                redis.hdel(PEERS, tid)
            case 1 if len(rows) > 1:
                one, other = chance.sample(sorted(rows), 2)  # two users swap their keys
                redis.hset(PEERS, mapping={one: rows[other], other: rows[one]})
            case _:
                redis.hset(PEERS, tid, make_keys().public)
        for name, key in redis.hgetall(PEERS).items():
            given[str(gateway.pool.address_of(name.decode()))].add(key.decode())


def test_addresses_are_their_owners_while_plane_and_redis_come_and_go(
    gateway: Any, make_keys: Any, redis_server: RedisServer
) -> None:
    """At every look each address is with a key that its user had, and in the end with the one that redis names."""
    chance = random.Random(20)
    given: dict[str, set[str]] = defaultdict(set)
    plane = gateway.start()

    def check() -> dict[str, str]:
        found = gateway.peers()
        for key, addresses in found.items():
            for address in addresses.split() if addresses != "(none)" else []:
                assert key in given[address.removesuffix("/128")], f"{address} is with {key}"
        return found

    def right() -> bool:
        with redis_server.client() as client:
            keys = {f"tid{name.decode()}": key.decode() for name, key in client.hgetall(PEERS).items()}
        return check() == gateway.right_peers(**keys)

    for turn in range(4):
        with redis_server.client() as client:
            change(gateway, make_keys, client, given, chance)
            if turn % 2:
                plane.kill()
            check()
            change(gateway, make_keys, client, given, chance)
        if turn == 2:
            redis_server.kill()
            check()
            redis_server.start()
        if turn % 2:
            plane = gateway.start()
        until(right, "what redis names")
