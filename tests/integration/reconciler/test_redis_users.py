"""What each process of a gateway may do in redis: all that it does, and nothing of what the others do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest
import redis
from tfgateway.diagnosis.redis_access import is_local
from tfgateway.errors import StoreError
from tfgateway.explorer.models import Proxy, ReverseProxy, Subdomain
from tfgateway.explorer.user import encrypted_secret
from tfgateway.identity import seedfile
from tfgateway.mirror import Mirror, Selection
from tfgateway.redis_schema import keys, zone_changes
from tfgateway.redis_schema.connection import connect_to_replica, store_errors
from tfgateway.redis_schema.login import FOURTOSIX
from tfgateway.settings import RedisSettings
from tfgateway.telemetry.logs import logger

from tests.support import redis_users
from tests.support.ports import free_port
from tests.support.processes import CommandLine, RedisServer
from tests.support.waiting import soon, until

PLANES = ["reconciler", "dns", "dns-serials", "proxy", "proxy-tunnels", "fourtosix"]
OWN = {"dns-serials": keys.SERIALS, "proxy-tunnels": f"{keys.TUNNELS_PREFIX}x"}
"""The rows that planes write; all others are the reconciler's."""
ROWS = {
    name: value if not value.endswith(("/", ":")) else f"{value}x"
    for name, value in vars(keys).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str) and not name.endswith("_FIELD")
}
READ = {
    "dns": {"gw1.example.", keys.MARKER, keys.SERIALS},
    "dns-serials": {keys.SERIALS},
    "proxy": {keys.service_key("x"), keys.MARKER},
    "fourtosix": {keys.PEERS, keys.MARKER},
}
"""What planes may read; the reconciler reads all but what is in ``OWN``."""
WRITES = {"DEL", "EVALSHA", "EXPIRE", "HDEL", "HSET", "SADD", "SET", "SREM"}
FOR_NOBODY = [
    "ACL LIST", "ACL SETUSER x", "BGREWRITEAOF", "CLIENT KILL ID 1", "CLIENT LIST", "CLIENT NO-EVICT on", "DBSIZE",
    "CLUSTER INFO", "CONFIG GET *", "CONFIG SET dir /tmp", "DEBUG SLEEP 0", "EVAL return 0", "FLUSHALL", "FLUSHDB",
    "FUNCTION LIST", "KEYS *", "LATENCY RESET", "MODULE LIST", "MONITOR", "PSUBSCRIBE *", "RANDOMKEY", "SWAPDB 0 1",
    "REPLICAOF no one", "SAVE", "SCRIPT FLUSH", "SHUTDOWN", "SLOWLOG GET", "SUBSCRIBE other",
]  # fmt: skip


class Guarded:
    """A redis that lets in only the role's users."""

    def __init__(self, server: RedisServer, directory: Path) -> None:
        self.server, self._directory = server, directory
        self.socket = directory / "redis.sock"

    def start(self) -> None:
        self.server.stop()
        users = redis_users.write(self._directory)
        self.server.start("--unixsocket", str(self.socket), "--include", str(users), "--user", "default", "off")
        self._asking = self.client("operator")

    def close(self) -> None:
        self._asking.close()

    def client(self, name: str) -> redis.Redis:
        secret = next(one["secret"] for one in redis_users.users() if one["name"] == name)
        return redis.Redis(
            unix_socket_path=str(self.socket),
            username=name,
            password=redis_users.password(secret),
            protocol=2,
            socket_timeout=None,
        )

    def settings(self, secret: str) -> str:
        return f'url = "unix://{self.socket}"\nsecrets = "{redis_users.write_secret(self._directory, secret)}"'

    def allows(self, name: str, *command: str | bytes) -> bool:
        answer = self._asking.execute_command("ACL", "DRYRUN", name, *command)
        assert answer == b"OK" or b"has no permissions to" in answer, answer
        return bool(answer == b"OK")

    def refused(self) -> list[Any]:
        with self.client("operator") as client:
            return [(one["username"], one["object"]) for one in client.acl_log()]

    @contextmanager
    def recorded(self) -> Iterator[set[tuple[str, ...]]]:
        """The commands that redis runs meanwhile for whom it may be, with their arguments; those of scripts too."""
        found: set[tuple[str, ...]] = set()
        with self.client("operator") as client, client.monitor() as monitor:

            def record() -> None:
                while (line := monitor.next_command()["command"]) != "ECHO end":
                    found.add(tuple(shlex.split(line)))

            reader = threading.Thread(target=record)
            reader.start()
            try:
                yield found
            finally:
                with self.client("operator") as other:
                    other.echo("end")
                reader.join()


@pytest.fixture
def guarded(redis_server: RedisServer, tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(redis_server, tmp_path)
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One that is only asked what it would allow."""
    directory = tmp_path_factory.mktemp("rules")
    made = Guarded(RedisServer(free_port(), directory / "redis"), directory)
    made.start()
    yield made
    made.close()
    made.server.kill()


@pytest.fixture
def gateway(fleet: Any, guarded: Guarded) -> Any:
    """A fleet whose processes find their own password only."""
    plain = fleet.config

    def start(command: str) -> Any:
        return fleet.tfgateway(command, config=config("reconciler" if command == "reconcile" else command))

    def run(*command: str) -> Any:
        return fleet.tfgateway.run(*command, config=config("operator"))

    def config(secret: str) -> str:
        return str(plain().replace(f'url = "{guarded.server.url}"', guarded.settings(secret)))

    fleet.start, fleet.run, fleet.config = start, run, config
    return fleet


def answer(port: int, name: str) -> bool:
    query = dns.message.make_query(name, "A")
    return bool(dns.query.udp(query, "127.0.0.1", port=port, timeout=5).answer)


def written(command: tuple[str, ...]) -> list[str]:
    """The keys of a command that writes."""
    name, *rest = command
    if name == "EVALSHA":
        return rest[2 : 2 + int(rest[1])]
    if name == "DEL":
        return rest
    return rest[:1]


def test_every_process_of_a_gateway_does_its_work_and_no_others(
    gateway: Any, guarded: Guarded, web: Any, tfgateway: CommandLine
) -> None:
    mine = {"node_id": gateway.node_id}
    with guarded.recorded() as recorded:
        for command in ("dns", "proxy", "reconcile"):
            gateway.start(command)
        account = gateway.register("alice")
        secret = f"{account.tid}:hidden-from-everybody"
        numbers = [
            gateway.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), **mine)),
            gateway.reserve(Proxy(domain="www.gw1.example", addr="203.0.113.10", port=80, port_tls=443, **mine)),
            gateway.reserve(
                ReverseProxy(
                    domain="home.gw1.example", secret=encrypted_secret(account, gateway.node_id, secret), **mine
                )
            ),
        ]
        for number in numbers:
            gateway.deployed(number)
        until(lambda: answer(gateway.ports["dns"], "www.gw1.example"), "an answer")
        remote, local = f"--remote=127.0.0.1:{gateway.ports['tunnels']}", f"--local=127.0.0.1:{web.port}"
        client = tfgateway("tunnel", remote, local, f"--secret={secret}", config="")
        until(lambda: any(one["tunnel"] for one in gateway.state()["reservations"]), "the operator sees the tunnel")
        assert gateway.state()["notes"] == []

        def directory() -> str | None:
            return (json.loads(gateway.run("info", "--json").stdout)["directory"] or {}).get("state")

        until(lambda: directory() == "listed", "the operator sees that the explorer lists the gateway")
        with guarded.client("operator") as operator:
            operator.acl_setuser("default", enabled=True, nopass=True)
            (note,) = gateway.state()["notes"]
            operator.acl_setuser("default", enabled=False)
        assert note.startswith(f"redis lets every program in at port {guarded.server.port} of loopback")
        for number in numbers[:2]:
            gateway.delete(number)
            gateway.gone(number)
        identifier = gateway.state()["reservations"][0]["id"]
        for command in (["redis", "accept"], ["reconcile", "--release-reservation", identifier]):
            done = gateway.run(*command)
            assert done.returncode == 0, done.stderr
        gateway.gone(numbers[2])
        until(lambda: not answer(gateway.ports["dns"], "www.gw1.example"), "no answer any more")
        client.stop()
        with guarded.client("operator") as redis:
            serials = redis.hgetall(keys.SERIALS)
            connected = {one["user"] for one in redis.client_list()}
    assert b"gw1.example." in serials
    assert connected >= {"dns", "dns-serials", "proxy", "proxy-tunnels", "reconciler", "operator"}
    assert guarded.refused() == []

    # What one of them sent, on a row of another: refused, however it is asked for.
    commands = {(command[0].upper(), *command[1:]) for command in recorded}
    assert {name for name, *_ in commands} >= {"EVALSHA", "HSET", "HDEL", "SET", "DEL", "SCAN", "SUBSCRIBE", "CLIENT"}
    found = {
        (name, key)
        for name in PLANES
        for command in commands
        if command[0] in WRITES
        for key in written(command)
        if guarded.allows(name, *command)
    }
    for name, key in found:
        owner = next((own for own, row in OWN.items() if key.startswith(row.removesuffix("x"))), "reconciler")
        assert name == owner, (name, key)
    assert {name for name, _ in found} == {"reconciler", "dns-serials", "proxy-tunnels"}


@pytest.mark.parametrize("name", PLANES)
def test_rows_are_read_and_written_by_those_to_whom_they_belong(rules: Guarded, name: str) -> None:
    rows = {*ROWS.values(), keys.zone_key("gw1.example"), "of others"}
    everything = [["HSET", "f", "v"], ["HDEL", "f"], ["SET", "v"], ["DEL"], ["APPEND", "v"], ["RENAME", "other"]]
    reading = [["HSCAN", "0"], ["HGETALL"], ["HGET", "f"], ["HMGET", "f"], ["GET"], ["MGET"], ["GETRANGE", "0", "1"]]
    own = {OWN[name]} if name in OWN else set()
    readable = READ.get(name, set())
    if name == "reconciler":
        own = readable = rows - set(OWN.values()) - {"of others"}
    for row in rows:
        written = [words[0] for words in everything if rules.allows(name, words[0], row, *words[1:])]
        assert bool(written) is (row in own), (row, written)
        read = [words[0] for words in reading if rules.allows(name, words[0], row, *words[1:])]
        assert set(read) <= ({words[0] for words in reading} if row in readable | own else set()), (row, read)
        assert bool(read) is (row in readable), (row, read)


@pytest.mark.parametrize("name", [*PLANES, "health"])
def test_what_governs_redis_is_for_the_operator_alone(rules: Guarded, name: str) -> None:
    allowed = [one for one in FOR_NOBODY if rules.allows(name, *one.split())]
    assert allowed == []
    assert all(rules.allows("operator", *one.split()) for one in FOR_NOBODY)


def test_the_channel_of_changes_is_written_by_those_who_make_them(rules: Guarded) -> None:
    publish = {name for name in PLANES if rules.allows(name, "PUBLISH", zone_changes.CHANNEL, "x")}
    assert publish == {"reconciler", "dns-serials"}
    assert [name for name in PLANES if rules.allows(name, "PUBLISH", "__redis__:invalidate", "x")] == []


async def test_the_4to6_plane_follows_its_peers_and_sees_nothing_else(guarded: Guarded, tmp_path: Path) -> None:
    """The plane itself needs a WireGuard interface: tests/integration/fourtosix."""
    secrets = redis_users.write_secret(tmp_path, "fourtosix")
    settings = RedisSettings(url=f"unix://{guarded.socket}", secrets=str(secrets))
    known: dict[bytes, object] = {}
    mirror = Mirror(
        partial(connect_to_replica, settings, FOURTOSIX),
        Selection(match=keys.PEERS.encode()),
        lambda key, value: known.update({key: value}),
        logger("test"),
    )
    running = asyncio.create_task(mirror.run())
    await mirror.ready.wait()
    with guarded.client("reconciler") as client:
        client.hset(keys.PEERS, "7", "a key")
    await soon(lambda: known == {keys.PEERS.encode(): {b"7": b"a key"}})
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert guarded.refused() == []
    async with connect_to_replica(settings, FOURTOSIX) as client:
        with pytest.raises(StoreError, match="has no permissions"), store_errors():
            await client.hgetall("zone")


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("unix:///run/tfredis/redis.sock", True),
        ("redis://127.0.0.1:6379/0", True),
        ("tcp://localhost:6379", True),
        ("redis://[::1]/0", True),
        ("redis://redis.example/0", False),
        ("rediss://203.0.113.7:6380", False),
    ],
)
def test_a_redis_of_others_is_none_of_our_notes(url: str, local: bool) -> None:
    assert is_local(url) is local


def test_nobody_comes_in_without_a_password(guarded: Guarded, tfgateway: CommandLine, tmp_path: Path) -> None:
    at_once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    with redis.Redis(unix_socket_path=str(guarded.socket), retry=at_once) as client:
        for command in ("HSET gw1.example. @ {}", "EVAL return 0", "CONFIG GET *", "PING"):
            with pytest.raises(redis.AuthenticationError):
                client.execute_command(*command.split())
    seedfile.create(tmp_path / "seed", bytes(32))
    own = f'[redis]\nurl = "unix://{guarded.socket}"\nsecrets = "{tmp_path}"'
    done = tfgateway.run("redis", "accept", config=f'[identity]\nseed = "{tmp_path / "seed"}"\n{own}')
    assert done.returncode == 1
    assert "Authentication required" in done.stderr
    assert "as root" in done.stderr
