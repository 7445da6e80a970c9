"""The explorer as a process: it stops in order, and forgets nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tfgateway.explorer import signing, user
from tfgateway.explorer.client import ExplorerClient
from tfgateway.explorer.models import AdmittedGateway, Gateway, Location, Result, ResultState, Subdomain
from tfgateway.explorer.user import Account
from tfgateway.identity.keys import Identity

from tests.support.postgresql import Server
from tests.support.processes import CommandLine, Explorer

GATEWAY = Identity.from_seed(bytes(range(0x20)))
USER = Identity.from_seed(bytes(range(0x20, 0x40)))
NODE = GATEWAY.node_id
ACCOUNT = Account(USER, 1)
BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
WANTED = Subdomain(node_id=NODE, domain="www.gw1.example", ips=("192.0.2.1",))


def _gateway(explorer: Explorer) -> ExplorerClient:
    return ExplorerClient(explorer.url, identity=GATEWAY, key_id=NODE)


def _user(explorer: Explorer) -> ExplorerClient:
    return ExplorerClient(explorer.url, identity=USER, key_id="1")


async def _furnish(explorer: Explorer) -> None:
    async with _user(explorer) as client:
        assert (await user.register(client, USER, "alice.3bot", "alice@example.com")).id == 1
        assert await user.farm(client, 1, "freefarm", "none") == 1
        assert await user.admit(client, AdmittedGateway(farm_id=1, node_id=NODE))
    async with _gateway(explorer) as client:
        place = Location(city="Ghent")
        key = GATEWAY.public_key.hex()
        await client.register_gateway(
            Gateway(node_id=NODE, farm_id=1, os_version="x", public_key_hex=key, location=place)
        )


@BOTH
async def test_a_waiting_gateway_hears_of_a_reservation(explorer: Explorer) -> None:
    await _furnish(explorer)
    async with _gateway(explorer) as gateway, _user(explorer) as client, asyncio.timeout(30):
        waiting = asyncio.create_task(gateway.poll(NODE, 0, wait=60))
        made = await user.reserve(client, ACCOUNT, WANTED)
        (item,) = (await waiting).items
        assert item.id == made.id


@BOTH
async def test_sigterm_answers_a_waiting_gateway_and_ends_with_0(explorer: Explorer) -> None:
    await _furnish(explorer)
    async with _gateway(explorer) as gateway, asyncio.timeout(30):
        waiting = asyncio.create_task(gateway.poll(NODE, 0, wait=60))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        explorer.process.send_signal(signal.SIGTERM)
        assert (await waiting).items == ()
        assert await asyncio.to_thread(explorer.process.wait) == 0
    assert "Traceback" not in explorer.process.log


@BOTH
async def test_nothing_is_forgotten_over_a_restart_nor_a_kill(explorer: Explorer) -> None:
    await _furnish(explorer)
    async with _user(explorer) as client, _gateway(explorer) as gateway:
        for number in (1, 2, 3):
            assert (await user.reserve(client, ACCOUNT, WANTED)).id == number
        signature = signing.sign_result(ResultState.OK, "", b"null", GATEWAY)
        await gateway.put_result(NODE, "1-1", Result(state=ResultState.OK, signature=signature))
        await gateway.delete_reservation(NODE, "3-1")
    explorer.process.kill()
    explorer.start()
    async with _user(explorer) as client, _gateway(explorer) as gateway:
        # 3 is deleted, but its id was given out.
        assert (await user.reserve(client, ACCOUNT, WANTED)).id == 4
        assert [item.id for item in (await gateway.poll(NODE, 0)).items] == [1, 2, 4]
        assert [item.id for item in (await gateway.poll(NODE, 5)).items] == [2, 4]
    explorer.stop()
    if isinstance(explorer.database, Path):
        with sqlite3.connect(explorer.database) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert database.execute("SELECT count(*) FROM workload").fetchone() == (4,)


@BOTH
async def test_many_write_at_once(explorer: Explorer) -> None:
    await _furnish(explorer)
    async with _user(explorer) as client:
        pool = await user.find_pool(client, 1, NODE)
        wanted = Subdomain(node_id=NODE, pool_id=pool, domain="www.gw1.example", ips=("192.0.2.1",))
        made = await asyncio.gather(*(user.reserve(client, ACCOUNT, wanted) for _ in range(50)))
    assert sorted(workload.id for workload in made) == list(range(1, 51))


async def test_the_access_log_is_json_without_headers_and_bodies(explorer: Explorer) -> None:
    await _furnish(explorer)
    async with aiohttp.ClientSession() as session, session.get(f"{explorer.url}/users?name=%0Aalice") as answer:
        assert answer.status == 200
    explorer.stop()
    events = [json.loads(line) for line in explorer.process.log.splitlines()]
    requests = [event for event in events if event["event"] == "request"]
    assert [(event["method"], event["path"].partition("?")[0], event["status"]) for event in requests] == [
        ("POST", "/api/v1/users", 201),
        ("POST", "/api/v1/farms", 201),
        ("GET", "/api/v1/farms/1/gateways", 200),
        ("PUT", f"/api/v1/farms/1/gateways/{NODE}", 200),
        ("POST", "/api/v1/gateways", 201),
        ("GET", "/api/v1/users", 200),
    ]
    assert "alice@example.com" not in explorer.process.log
    assert "Signature" not in explorer.process.log


def test_what_is_no_http_leaves_one_line_in_the_log(explorer: Explorer) -> None:
    for junk in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", b"\x16\x03\x01\x00"):
        with socket.create_connection(("127.0.0.1", explorer.port), 30) as connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    explorer.stop()
    events = [json.loads(line) for line in explorer.process.log.splitlines()]
    assert {event.get("status") for event in events if event["event"] == "request"} == {400}


def test_an_address_that_is_taken(explorer: Explorer, tfgateway: CommandLine, tmp_path: Any) -> None:
    listen = f"127.0.0.1:{explorer.port}"
    ended = tfgateway.run("explorer", "--listen", listen, "--database", str(tmp_path / "other.db"), config="")
    assert ended.returncode == 1
    assert f"tfgateway: error: cannot listen on 127.0.0.1 port {explorer.port}: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_wrong_usage(tfgateway: CommandLine, tmp_path: Any) -> None:
    database = str(tmp_path / "x.db")
    for arguments in (
        ["--listen", "nonsense", "--database", database],
        ["--listen", "127.0.0.1:0"],
        ["--database", database, "--owner-resolver", "nonsense"],
        ["--database", database, "--clock-skew", "-1"],
        ["--database", "postgresql://alice:secret@db.example/explorer"],
        ["--database", "postgresql://db.example/explorer?password=secret"],
        ["--database", "postgresql://db.example/?no=parameter"],
    ):
        assert tfgateway.run("explorer", *arguments, config="").returncode == 2


def test_a_second_explorer_of_a_file_names_the_first(
    explorer: Explorer, tfgateway: CommandLine, free_port: Callable[[], int]
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    ended = tfgateway.run("explorer", "--listen", listen, "--database", str(explorer.database), config="")
    assert ended.returncode == 1
    assert f"is served already by process {explorer.process.pid} on {socket.gethostname()}: " in ended.stderr


async def test_from_a_file_to_postgresql_and_back(
    explorer: Explorer, tfgateway: CommandLine, postgresql: Server, tmp_path: Path
) -> None:
    await _furnish(explorer)
    url, back = postgresql.new_database(), tmp_path / "back.db"
    made = []
    for source, target in ((explorer.database, url), (url, back)):
        async with _user(explorer) as client:
            made.append((await user.reserve(client, ACCOUNT, WANTED)).id)
        arguments = ["explorer", "migrate", "--from", str(source), "--to", str(target), "--json"]
        refused = await asyncio.to_thread(tfgateway.run, *arguments, config="")
        assert refused.returncode == 1
        assert "served already" in refused.stderr or "stop them first" in refused.stderr
        explorer.stop()
        ended = await asyncio.to_thread(tfgateway.run, *arguments, config="")
        assert ended.returncode == 0, ended.stderr
        tables = json.loads(ended.stdout)["tables"]
        assert tables["workload"]["rows"] == len(made)
        explorer.database = target
        explorer.start()
    async with _user(explorer) as client:
        made.append((await user.reserve(client, ACCOUNT, WANTED)).id)
    assert made == [1, 2, 3]
    explorer.stop()
    arguments = ["explorer", "acknowledge-restore", "--database", str(back)]
    ended = await asyncio.to_thread(tfgateway.run, *arguments, config="")
    assert ended.stdout == f"{back}: epoch 1\n"


def test_a_database_that_is_none(tfgateway: CommandLine, tmp_path: Any, free_port: Callable[[], int]) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is no database" * 100)
    ended = tfgateway.run("explorer", "--listen", f"127.0.0.1:{free_port()}", "--database", str(path), config="")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"tfgateway: error: {path}: ")


def test_e12_a_connection_that_says_nothing_does_not_keep_the_process(explorer: Explorer) -> None:
    with socket.create_connection(("127.0.0.1", explorer.port)) as silent:
        silent.sendall(b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{")
        time.sleep(0.2)
        try:
            assert explorer.process.stop() == 0
        except subprocess.TimeoutExpired as error:
            raise AssertionError("the process did not end") from error
