"""The way to redis, on real servers: logins, sockets, time limits, Sentinel."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tfgateway.errors import StoreError
from tfgateway.redis_schema.connection import ask_sentinels, confirm_master, connect, store_errors

from tests.support.processes import RedisServer, StartProcess
from tests.support.waiting import soon


async def ask(url: str, *command: str, **options: Any) -> Any:
    """The reply to one command on a client of its own."""
    async with connect(url, **{"timeout": 5.0, **options}) as client:
        with store_errors():
            return await client.execute_command(*command)


@pytest.mark.parametrize("scheme", ["tcp", "redis"])
async def test_replies_are_bytes_in_resp2(redis_server: RedisServer, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{redis_server.port}"
    async with connect(url, timeout=5) as client:
        await client.hset("zone", "gw1.example", b'{"Owner":"7"}')
        assert await client.hgetall("zone") == {b"gw1.example": b'{"Owner":"7"}'}
        mine = [info for info in await client.client_list() if info["cmd"] == "client|list"]
    assert [info.get("resp", "2") for info in mine] == ["2"]


async def test_r1_the_old_form_with_the_password_in_the_place_of_the_user(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.stop()
    socket = tmp_path / "redis.sock"
    redis_server.start("--requirepass", "s3cr3t/%", "--unixsocket", str(socket))
    host = f"127.0.0.1:{redis_server.port}"
    for url in (
        f"tcp://s3cr3t%2F%25@{host}",
        f"tcp://:s3cr3t%2F%25@{host}",
        f"redis://:s3cr3t%2F%25@{host}/0",
        f"unix://s3cr3t%2F%25@{socket}",
    ):
        assert await ask(url, "PING") is True


async def test_r1_the_password_after_a_user_name_is_not_lost(redis_server: RedisServer) -> None:
    redis_server.stop()
    redis_server.start("--requirepass", "other", "--user", "reader", "on", ">s3cr3t", "+@all", "~*")
    assert await ask(f"tcp://reader:s3cr3t@127.0.0.1:{redis_server.port}", "ACL", "WHOAMI") == b"reader"


async def test_a_refused_login_is_a_store_error_without_the_password(redis_server: RedisServer) -> None:
    redis_server.stop()
    redis_server.start("--requirepass", "s3cr3t")
    for url in (f"tcp://wr0ng@127.0.0.1:{redis_server.port}", f"tcp://127.0.0.1:{redis_server.port}"):
        with pytest.raises(StoreError) as caught:
            await ask(url, "PING")
        assert "wr0ng" not in str(caught.value)


async def test_only_our_own_schemes_select_a_database(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set("where", "0")
        client.select(3)
        client.set("where", "3")
    assert await ask(f"redis://127.0.0.1:{redis_server.port}/3", "GET", "where") == b"3"
    assert await ask(f"tcp://127.0.0.1:{redis_server.port}/3", "GET", "where") == b"0"


async def test_a_redis_that_is_away_is_a_store_error_and_its_return_is_noticed(redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=5) as client:
        assert await client.ping()
        redis_server.stop()
        with pytest.raises(StoreError), store_errors():
            await client.ping()
        redis_server.start()
        assert await client.ping()


async def test_a_redis_that_hangs_is_a_store_error(redis_server: RedisServer) -> None:
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreError):
            await ask(redis_server.url, "PING", timeout=0.2)
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)


async def test_a_lost_reply_does_not_repeat_the_write(redis_server: RedisServer, free_port: Callable[[], int]) -> None:
    """The connection breaks after the server did the write: a client that tries again by itself would write twice."""
    lose = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        while data := await reader.read(65536):
            if replies and lose.is_set():
                lose.clear()
                break
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", redis_server.port)
        await asyncio.gather(pump(reader, server_writer, replies=False), pump(server_reader, writer, replies=True))

    port = free_port()
    async with (
        await asyncio.start_server(relay, "127.0.0.1", port),
        connect(f"redis://127.0.0.1:{port}", timeout=5) as client,
    ):
        await client.rpush("log", "first")
        lose.set()
        with pytest.raises(StoreError), store_errors():
            await client.rpush("log", "second")
        assert await client.lrange("log", 0, -1) == [b"first", b"second"]


@pytest.fixture
def sentinel_port(redis_server: RedisServer, free_port: Callable[[], int], tmp_path: Path) -> Iterator[int]:
    """A real Sentinel that watches ``redis_server`` under the name ``tfgateway``."""
    port, config = free_port(), tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor tfgateway 127.0.0.1 {redis_server.port} 1\n")
    with (tmp_path / "sentinel.log").open("wb") as log:
        process = subprocess.Popen(["redis-server", str(config), "--sentinel"], stdout=log, stderr=log)
    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 200)
    with redis.Redis(port=port, retry=retry, retry_on_error=[redis.ConnectionError]) as client:
        client.ping()
    yield port
    process.kill()
    process.wait()


async def test_sentinels_name_the_master(
    redis_server: RedisServer, sentinel_port: int, free_port: Callable[[], int]
) -> None:
    with redis_server.client() as client:
        client.select(2)
        client.set("where", "master")
    sentinels = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{sentinel_port}", f"localhost:{sentinel_port}"]
    options: dict[str, Any] = {"sentinels": sentinels, "sentinel_service": "tfgateway"}
    assert await ask("redis://ignored.example:1/2", "GET", "where", **options) == b"master"
    with redis.Redis(port=sentinel_port) as sentinel:
        assert len(sentinel.client_list()) == 1, "closing our client closes its connection to the Sentinel"


async def test_an_unknown_master_is_a_store_error(sentinel_port: int) -> None:
    with pytest.raises(StoreError, match="0 of 1 Sentinels name a master of 'other'"):
        await ask("redis://", "PING", sentinels=[f"127.0.0.1:{sentinel_port}"], sentinel_service="other")


async def test_a_master_that_only_some_sentinels_name_is_not_written(
    redis_server: RedisServer, start_process: StartProcess, free_port: Callable[[], int], tmp_path: Path
) -> None:
    sentinels = []
    for number in range(3):
        port = free_port()
        file = tmp_path / f"sentinel{number}.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor tfgateway 127.0.0.1 {redis_server.port} 2\n"
            "sentinel down-after-milliseconds tfgateway 60000\n"
        )
        sentinels.append((start_process(f"sentinel{number}", ["redis-server", str(file), "--sentinel"]), port))
    addresses = [f"127.0.0.1:{port}" for _, port in sentinels]
    for _, port in sentinels:
        await soon(lambda: _accepts(port))  # noqa: B023 - called at once
    async with connect("redis://", timeout=1, sentinels=addresses, sentinel_service="tfgateway") as client:
        await client.set("a", "1")
        sentinels[0][0].kill()
        await confirm_master(client)
        assert await ask_sentinels(client) == [None, ("127.0.0.1", redis_server.port), ("127.0.0.1", redis_server.port)]
        sentinels[1][0].kill()
        with pytest.raises(StoreError, match=r"1 of 3 Sentinels name a master of 'tfgateway' \(127.0.0.1:\d+ by 1\)"):
            await confirm_master(client)
    async with connect("redis://", timeout=1, sentinels=addresses, sentinel_service="tfgateway") as client:
        with pytest.raises(StoreError, match="more than half have to name the same"), store_errors():
            await client.set("a", "2")
    with redis_server.client() as direct:
        assert direct.get("a") == b"1"


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
