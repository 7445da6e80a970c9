"""The 4to6 plane with a real redis and real WireGuard interfaces: what redis wants is what the interface has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfgateway.redis_schema.keys import MARKER, PEERS
from tfgateway.redis_schema.marker import Marker, encode_marker

from tests.support.metrics import page
from tests.support.processes import RedisServer
from tests.support.waiting import until
from tools.reference import metrics

Until = Callable[[Callable[[], Any], str], Any]


def device(name: str) -> list[str]:
    """Public key, port and firewall mark of an interface."""
    done = subprocess.run(["wg", "show", name, "dump"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].split("\t")[1:]


def address(name: str) -> dict[str, Any]:
    done = subprocess.run(["ip", "-json", "address", "show", "dev", name], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def userspace(name: str) -> list[int]:
    """Processes of wireguard-go for this interface; none where the kernel does its work."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"wireguard-go") and name.encode() in words:
            found.append(int(path.name))
    return found


def test_the_interface_has_key_port_address_and_peers(gateway: Any, make_keys: Any, known: dict[str, Any]) -> None:
    first, second = make_keys(), make_keys()
    gateway.want(7, first.public)
    gateway.start()
    assert device(gateway.interface) == [known["public_key"], "3443", "off"]
    found = address(gateway.interface)
    assert "UP" in found["flags"]
    assert found["mtu"] == 1420
    inet6 = [f"{one['local']}/{one['prefixlen']}" for one in found["addr_info"] if one["scope"] == "global"]
    assert inet6 == [known["gateway"]]
    assert gateway.peers() == {first.public: f"{known['addresses']['7']}/128"}
    gateway.want(1234, second.public)
    until(lambda: gateway.peers() == gateway.right_peers(tid7=first.public, tid1234=second.public), "the second peer")
    gateway.unwant(7)
    until(lambda: gateway.peers() == gateway.right_peers(tid1234=second.public), "the first peer is gone")


def test_a_peer_is_told_to_keep_the_way_open(gateway: Any, make_keys: Any) -> None:
    gateway.want(7, make_keys().public)
    gateway.start()
    done = subprocess.run(
        ["wg", "show", gateway.interface, "persistent-keepalive"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\t")[1] == "25\n"


def test_what_others_changed_is_put_right(gateway: Any, make_keys: Any) -> None:
    own, stranger = make_keys(), make_keys()
    gateway.want(7, own.public)
    gateway.start()
    right = gateway.right_peers(tid7=own.public)

    def wg(*words: str) -> None:
        subprocess.run(["wg", "set", gateway.interface, *words], check=True)
        assert gateway.peers() != right

    wg("peer", own.public, "remove")
    until(lambda: gateway.peers() == right, "a removed peer")
    wg("peer", stranger.public, "allowed-ips", "::/0")
    until(lambda: gateway.peers() == right, "a stranger is gone")
    wg("peer", own.public, "allowed-ips", "fd00::7/128")
    until(lambda: gateway.peers() == right, "the user's address")
    subprocess.run(["ip", "address", "flush", "dev", gateway.interface], check=True)
    until(lambda: any(one["scope"] == "global" for one in address(gateway.interface)["addr_info"]), "the address")
    subprocess.run(["wg", "set", gateway.interface, "listen-port", "3555"], check=True)
    until(lambda: device(gateway.interface)[1] == "3443", "the port")


def test_an_interface_that_was_removed_is_made_again(gateway: Any, make_keys: Any) -> None:
    keys = make_keys()
    gateway.want(7, keys.public)
    gateway.start()
    processes = userspace(gateway.interface)
    if processes:
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
    else:
        subprocess.run(["ip", "link", "delete", gateway.interface], check=True)
    until(lambda: not gateway.peers(), "the interface is gone")
    until(lambda: gateway.peers() == gateway.right_peers(tid7=keys.public), "it is back with its peer")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_peers_survive_the_plane(gateway: Any, make_keys: Any, number: signal.Signals) -> None:
    first, second = make_keys(), make_keys()
    gateway.want(7, first.public)
    plane = gateway.start()
    made = address(gateway.interface)["ifindex"]
    plane.send_signal(number)
    assert plane.wait() == (0 if number is signal.SIGTERM else -number)
    assert gateway.peers() == gateway.right_peers(tid7=first.public)
    gateway.want(8, second.public)
    gateway.start()
    assert address(gateway.interface)["ifindex"] == made, "the interface is reused"
    assert gateway.peers() == gateway.right_peers(tid7=first.public, tid8=second.public)


def test_peers_survive_redis(gateway: Any, make_keys: Any, redis_server: RedisServer) -> None:
    first, second = make_keys(), make_keys()
    gateway.want(7, first.public)
    plane = gateway.start()
    right = gateway.right_peers(tid7=first.public)
    redis_server.kill()
    plane.wait_log("redis is away")
    subprocess.run(["wg", "set", gateway.interface, "peer", first.public, "remove"], check=True)
    until(lambda: gateway.peers() == right, "repaired from memory")
    # Started without redis, it knows of no peer, and leaves those that are there.
    plane.stop()
    again = gateway.start(ready=False)
    again.wait_for(lambda: "STATUS=waiting for redis" in again.notifications, "its status")
    assert gateway.peers() == right
    redis_server.start()
    again.wait_ready()
    assert gateway.peers() == right
    gateway.want(8, second.public)
    until(lambda: len(gateway.peers()) == 2, "news")


def test_an_emptied_redis_wants_no_peers(gateway: Any, make_keys: Any, redis_server: RedisServer) -> None:
    gateway.want(7, make_keys().public)
    gateway.start()
    with redis_server.client() as client:
        client.flushall()
    until(lambda: not gateway.peers(), "no peers")


def test_peers_outlast_a_redis_that_lost_its_data(
    gateway: Any, make_keys: Any, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    first, second, third = make_keys(), make_keys(), make_keys()
    gateway.want(7, first.public)
    full = Marker("us", "a" * 32, 10, 1)
    with redis_server.client() as client:
        client.set(MARKER, encode_marker(full))
    plane = gateway.start()
    right = gateway.right_peers(tid7=first.public)
    until((tmp_path / "state" / "fourtosix.snapshot").exists, "a copy on disk")
    with redis_server.client() as client:
        client.flushall()
    plane.wait_log("redis is implausible")
    assert gateway.peers() == right
    # Started meanwhile, it makes what its copy has and the interface lacks, and leaves what the interface has besides.
    plane.stop()
    subprocess.run(["wg", "set", gateway.interface, "peer", first.public, "remove"], check=True)
    newer = gateway.right_peers(tid9=third.public)
    added = ["wg", "set", gateway.interface, "peer", third.public, "allowed-ips", newer[third.public]]
    subprocess.run(added, check=True)
    again = gateway.start()
    until(lambda: gateway.peers() == {**right, **newer}, "both are there")
    # A full pass has filled redis: it alone counts.
    gateway.want(8, second.public)
    with redis_server.client() as client:
        client.set(MARKER, encode_marker(Marker("us", "b" * 32, 5, 1, previous=full.incarnation)))
    until(lambda: gateway.peers() == gateway.right_peers(tid8=second.public), "redis is followed")
    again.wait_log("redis is followed again")


def test_damaged_rows_do_not_keep_the_others(gateway: Any, make_keys: Any, redis_server: RedisServer) -> None:
    keys = make_keys()
    with redis_server.client() as client:
        client.hset(PEERS, mapping={"7": keys.public, "8": "garbage", "user": keys.public, "9": keys.public})
    plane = gateway.start()
    assert gateway.peers() == gateway.right_peers(tid7=keys.public)
    plane.wait_log("user 8: not a WireGuard key")
    plane.wait_log("user 9: the key is another user's")


def test_c3_the_private_key_is_in_no_command_line_file_or_log(
    gateway: Any, known: dict[str, Any], make_keys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every program is run through a wrapper that notes its arguments.
    tools = tmp_path / "tools"
    tools.mkdir()
    noted = tmp_path / "arguments"
    for name in ("wg", "ip", "wireguard-go"):
        wrapper = tools / name
        wrapper.write_text(f'#!/bin/sh\necho "{name} $*" >> {noted}\nPATH={os.environ["PATH"]} exec {name} "$@"\n')
        wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    gateway.want(7, make_keys().public)
    plane = gateway.start()
    plane.stop()
    assert f"wg set {gateway.interface} listen-port 3443 private-key /dev/stdin\n" in noted.read_text()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != gateway.seed:
            content = path.read_bytes()
            assert known["private_key"].encode() not in content, path
            assert known["clamped_private_key"].encode() not in content, path
            assert bytes(range(32)) not in content, path


def test_c3_a_derived_key_may_be_used_instead(gateway: Any, make_keys: Any, known: dict[str, Any]) -> None:
    gateway.want(7, make_keys().public)
    gateway.start(private_key="derived")
    assert device(gateway.interface)[0] != known["public_key"]
    assert list(gateway.peers().values()) == [f"{known['addresses']['7']}/128"]


def test_metrics(gateway: Any, make_keys: Any) -> None:
    gateway.want(7, make_keys().public)
    gateway.start()
    lines = page(gateway.ports["fourtosix"]).splitlines()
    assert "tfgateway_fourtosix_peers 1.0" in lines
    assert "tfgateway_fourtosix_peers_alive 0.0" in lines
    assert "tfgateway_fourtosix_passes_failed_total 0.0" in lines
    typed = {tuple(line.split()[2:]) for line in lines if line.startswith("# TYPE ") and "_created " not in line}
    assert typed == {(one.name, one.type) for one in metrics.SOURCES["fourtosix"].metrics()}


def test_without_an_endpoint_there_is_no_plane(gateway: Any) -> None:
    done = gateway.run("fourtosix", endpoint="")
    assert done.returncode == 2
    assert done.stderr == "tfgateway: error: fourtosix.endpoint: set it to the HOST:PORT that peers connect to\n"


def test_an_interface_that_cannot_be_made_is_said_at_once(gateway: Any) -> None:
    subprocess.run(["ip", "link", "add", "dev", gateway.interface, "type", "bridge"], check=True)
    done = gateway.run("fourtosix")
    assert done.returncode == 1
    assert f"there is no WireGuard interface {gateway.interface}" in done.stderr.splitlines()[-1]
