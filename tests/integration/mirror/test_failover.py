"""The mirror through Sentinel: the master dies, a replica takes over, the copy follows it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from tfgateway.mirror import Mirror, Selection
from tfgateway.redis_schema.connection import connect
from tfgateway.telemetry.logs import logger

from tests.support.processes import RedisServer, StartProcess
from tests.support.waiting import soon


async def test_the_copy_follows_a_failover_and_loses_nothing(
    redis_server: RedisServer, start_process: StartProcess, free_port: Callable[[], int], tmp_path: Path
) -> None:
    replica_port, sentinel_port = free_port(), free_port()
    replica_files = tmp_path / "replica"
    replica_files.mkdir()
    options = f"--port {replica_port} --dir {replica_files} --bind 127.0.0.1 --repl-diskless-sync-delay 0".split()
    start_process("replica", ["redis-server", *options, "--replicaof", f"127.0.0.1 {redis_server.port}"])
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor tfgateway 127.0.0.1 {redis_server.port} 1\n"
        "sentinel down-after-milliseconds tfgateway 500\nsentinel failover-timeout tfgateway 3000\n"
    )
    start_process("sentinel", ["redis-server", str(configuration), "--sentinel"])

    replica = redis.Redis(port=replica_port, protocol=2)
    sentinel = redis.Redis(port=sentinel_port, protocol=2)

    def ask(client: redis.Redis, *command: str) -> Any:
        with contextlib.suppress(redis.ConnectionError):
            return client.execute_command(*command)
        return None

    with redis_server.client() as master:
        master.hset("stays.", "@", "1")
    await soon(lambda: ask(replica, "HGET", "stays.", "@") == b"1")
    await soon(lambda: len(ask(sentinel, "SENTINEL", "REPLICAS", "tfgateway") or []) == 1)

    told: list[tuple[bytes, Any]] = []
    mirror = Mirror(
        lambda: connect("redis://", timeout=1, sentinels=[f"127.0.0.1:{sentinel_port}"], sentinel_service="tfgateway"),
        Selection(b"*."),
        lambda key, value: told.append((key, value)),
        logger("test"),
        heartbeat=0.1,
        retry_after=(0.05, 0.2),
    )
    following = asyncio.create_task(mirror.run())
    try:
        await soon(mirror.ready.is_set)
        redis_server.kill()
        await soon(lambda: ask(replica, "ROLE")[0] == b"master")
        replica.hset("comes.", "@", "1")
        await soon(lambda: (b"comes.", {b"@": b"1"}) in told)
        assert told == [(b"stays.", {b"@": b"1"}), (b"comes.", {b"@": b"1"})]
    finally:
        following.cancel()
        replica.close()
        sentinel.close()
