"""Who gets into the node's redis: passwords that one unit each can read, users, and what is open to old programs."""

from __future__ import annotations

import grp
import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.ports import free_port
from tests.support.waiting import until

ROLE = Path(__file__).resolve().parents[3] / "roles" / "tfredis"
SCRIPT = ROLE / "files" / "secrets.sh"
SHARED, OWN = "daemon", "mail"  # groups that every Debian has
NAMES = ["reconciler", "dns", "proxy", "fourtosix"]

Evaluate = Callable[..., dict[str, dict[str, Any]]]


class Secrets:
    """The script, beside units whose process ids the test gives."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "secrets"
        self.directory.mkdir()
        self._programs = directory / "programs"
        self._programs.mkdir()
        self.run_as(0)

    def run_as(self, pid: int) -> None:
        systemctl = self._programs / "systemctl"
        systemctl.write_text(f'#!/bin/sh\n[ "$4" = tfgateway-dns.service ] && echo {pid} || echo 0\n')
        systemctl.chmod(0o755)

    def __call__(self, *, change: bool = True) -> list[str]:
        """What it says it changed; with the digests of all that there is."""
        named = [f"dns:{OWN}:tfgateway-dns", "operator:root:"]
        command = ["sh", str(SCRIPT), str(self.directory), SHARED, str(int(change)), *named]
        environment = os.environ | {"PATH": f"{self._programs}:{os.environ['PATH']}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        digests = dict(re.findall(r"(?m)^digest ([a-z]+) ([0-9a-f]{64})$", done.stdout))
        for name, digest in digests.items():
            assert digest == hashlib.sha256((self.directory / f"{name}.secret").read_bytes()).hexdigest()
        return re.findall(r"(?m)^changed (.*)$", done.stdout)

    def files(self) -> dict[str, tuple[int, str, int]]:
        found = {path.name: path.stat() for path in self.directory.iterdir()}
        return {
            name: (one.st_uid, grp.getgrgid(one.st_gid).gr_name, one.st_mode & 0o777) for name, one in found.items()
        }


@contextmanager
def started(group: str) -> Iterator[int]:
    """A process of this group."""
    with subprocess.Popen(["sleep", "600"], group=grp.getgrnam(group).gr_gid) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    if os.geteuid() != 0:
        pytest.skip("only root gives files to groups")
    return Secrets(tmp_path)


def test_passwords_are_made_once_and_each_is_for_one_group(secrets: Secrets) -> None:
    assert secrets(change=False) == ["dns", "operator"]
    assert secrets.files() == {}
    assert secrets() == ["dns", "operator"]
    assert secrets.files() == {"dns.secret": (0, OWN, 0o640), "operator.secret": (0, "root", 0o600)}
    contents = [path.read_text() for path in secrets.directory.iterdir()]
    assert all(re.fullmatch("[0-9a-f]{64}", text) for text in contents)
    assert len(set(contents)) == 2
    assert secrets() == []
    assert sorted(path.read_text() for path in secrets.directory.iterdir()) == sorted(contents)


def test_a_unit_that_runs_with_the_group_of_all_can_read_its_password_until_it_is_restarted(secrets: Secrets) -> None:
    with started(SHARED) as pid:
        secrets.run_as(pid)
        assert secrets() == ["dns", "operator"]
        assert secrets.files()["dns.secret"] == (0, SHARED, 0o640)
        assert secrets() == []
    with started(OWN) as pid:
        secrets.run_as(pid)
        assert secrets(change=False) == ["dns"]
        assert secrets.files()["dns.secret"] == (0, SHARED, 0o640)
        assert secrets() == ["dns"]
        assert secrets.files()["dns.secret"] == (0, OWN, 0o640)


def test_a_node_that_had_a_redis_without_users_stays_open_until_nothing_needs_it(evaluate: Evaluate) -> None:
    link, settings = "/etc/tfredis/access.conf", "/etc/tfredis.conf"

    def node(target: str, *there: str) -> dict[str, Any]:
        paths = {path: [path] if path in there else [] for path in (link, settings)}
        return {"paths": paths, "commands": {"access": {"stdout": f"{target}\n"}}}

    cases = {
        "fresh": (node(""), False),
        "older": (node("", settings), True),
        "between": (node("open.conf", link, settings), True),
        "closed": (node("closed.conf", link, settings), False),
    }
    found = evaluate(
        "tfredis",
        {"open": "_tfredis_left_open | bool"},
        {name: {"_tfredis_host": before} for name, (before, _) in cases.items()} | {"not-run": {}},
    )
    assert {name: one["open"] for name, one in found.items()} == {
        **{name: wanted for name, (_, wanted) in cases.items()},
        "not-run": False,
    }


def test_the_gateway_takes_the_socket_where_there_is_one(evaluate: Evaluate) -> None:
    port, socket = "redis://127.0.0.1:6379/0", "unix:///run/tfredis/redis.sock"
    path = "/run/tfredis/redis.sock"
    there = {"_gateway_host": {"paths": {path: [path]}}}
    absent = {"_gateway_host": {"paths": {path: []}}}
    cases = {"older": absent, "users": there, "asked": there | {"gateway_redis_url": port}, "cutover": {}}
    found = evaluate("gateway", {"url": "gateway_redis_url"}, cases)
    assert {name: one["url"] for name, one in found.items()} == {
        "older": port,
        "users": socket,
        "asked": port,
        "cutover": port,
    }


@pytest.fixture(scope="module")
def configuration(evaluate: Evaluate) -> dict[str, dict[str, str]]:
    """By version of redis, each file of the role."""
    names = ["tfredis.conf", "users.conf", "open.conf", "closed.conf"]
    templates = {name: f"lookup('ansible.builtin.template', '{ROLE}/templates/{name}.j2')" for name in names}
    digests = "\n".join(f"digest {name} {hashlib.sha256(name.encode()).hexdigest()}" for name in [*NAMES, "operator"])
    facts = {"distribution": "Debian", "distribution_version": "12", "os_family": "Debian"}
    cases = {
        version: {
            "facts": facts,
            "tfredis_port": free_port(),
            "_tfredis_made": {"stdout": digests},
            "_tfredis_host": {
                "commands": {
                    "version": {"stdout": f"Redis server v={version} sha=0 malloc=libc bits=64 build=0", "rc": 0}
                }
            },
            "gateway_settings": {"dns": {"key_prefix": "p:", "key_suffix": ":s"}},
        }
        for version in ("6.0.16", "7.0.15")
    }
    return evaluate("tfredis", templates, cases)


@contextmanager
def running(files: dict[str, str], access: str, directory: Path) -> Iterator[redis.Redis]:
    """A redis-server with the role's own configuration, below ``directory``; its operator."""
    for name, text in files.items():
        for fixed, own in (("/etc/tfredis", directory), ("/run/tfredis", directory), ("/var/lib/tfredis", directory)):
            text = text.replace(fixed, str(own))
        (directory / name).write_text(text.replace("supervised systemd", "supervised no"))
    (directory / "access.conf").unlink(missing_ok=True)
    (directory / "access.conf").symlink_to(access)
    with subprocess.Popen(["redis-server", str(directory / "tfredis.conf")], stdout=subprocess.DEVNULL) as server:
        try:
            socket = directory / "redis.sock"
            until(lambda: socket.exists() or server.poll() is not None, "redis listens")
            with redis.Redis(unix_socket_path=str(socket), username="operator", password="operator") as operator:
                assert operator.ping()
                yield operator
        finally:
            server.terminate()


def test_redis_takes_the_configuration_and_lets_nobody_else_in(
    configuration: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    files = configuration["7.0.15"]
    port = int(re.findall(r"(?m)^port (\d+)$", files["open.conf"])[0])
    with running(files, "closed.conf", tmp_path) as operator:
        assert operator.config_get("port") == {"port": "0"}
        assert operator.config_get("appendonly", "maxmemory-policy") == {
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }
        assert (tmp_path / "redis.sock").stat().st_mode & 0o777 == 0o660
        users = [line.split()[1] for line in operator.acl_list()]
        assert sorted(users) == sorted([*NAMES, "default", "dns-serials", "health", "operator", "proxy-tunnels"])
        assert "~p:*.:s" in next(line for line in operator.acl_list() if line.startswith("user dns "))
        with redis.Redis(port=port) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        socket = str(tmp_path / "redis.sock")
        with redis.Redis(unix_socket_path=socket) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        with redis.Redis(unix_socket_path=socket, username="health", password="-") as client:
            assert client.ping()  # as the unit of a redis that cannot speak to systemd asks
    with running(files, "open.conf", tmp_path), redis.Redis(port=port) as client:
        assert client.eval("return redis.call('HSET', 'gw1.example.', '@', '{}')", 0) == 1


@pytest.mark.parametrize("access", ["open.conf", "closed.conf"])
def test_redis_comes_back_with_all_that_was_written(
    configuration: dict[str, dict[str, str]], access: str, tmp_path: Path
) -> None:
    """It replays its append-only file as a user: as one with no rights it leaves out transactions, and says so."""
    files = configuration["7.0.15"]
    with running(files, "closed.conf", tmp_path) as operator:
        with operator.pipeline(transaction=True) as pipe:
            pipe.set("one", "1").set("two", "2").execute()
        operator.eval("redis.call('SET', 'three', '3') redis.call('SET', 'four', '4')", 0)
        operator.set("five", "5")
        operator.publish("tfgateway:news", "x")
    with running(files, access, tmp_path) as operator:
        assert sorted(operator.keys()) == [b"five", b"four", b"one", b"three", b"two"]


def test_a_redis_that_knows_no_rules_about_channels_gets_none(configuration: dict[str, dict[str, str]]) -> None:
    for name in ("users.conf", "closed.conf", "open.conf"):
        old, new = configuration["6.0.16"][name], configuration["7.0.15"][name]
        assert re.sub(r" (resetchannels|&\S+)|(?m:^port .*$)", "", new) == re.sub("(?m)^port .*$", "", old)
    for name in ("open.conf", "closed.conf"):
        assert " &* " in configuration["7.0.15"][name]
    # Nor does that redis know the minus for an address that may be missing: it would look it up as a name.
    assert "bind 127.0.0.1 ::1\n" in configuration["6.0.16"]["tfredis.conf"]
    assert "bind 127.0.0.1 -::1\n" in configuration["7.0.15"]["tfredis.conf"]
