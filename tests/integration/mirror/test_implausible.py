"""A mirror on a real redis whose marker changes: what is held, what is followed, and what is kept on disk."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tfgateway.mirror import Mirror, Selection, SnapshotWriter, anti_entropy
from tfgateway.mirror import session as session_module
from tfgateway.mirror import snapshot_writer as keeper_module
from tfgateway.mirror.disk import snapshot
from tfgateway.redis_schema.connection import connect
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.marker import Marker, Mismatch, encode_marker
from tfgateway.telemetry.logs import logger

from tests.support.processes import RedisServer
from tests.support.waiting import soon

SERVICES = Selection(b"/tcprouter/service/*", kind="string")
ZONES = Selection(b"*.")
FIRST, SECOND = Marker("us", "a" * 32, 10, 1), Marker("us", "b" * 32, 10, 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_LOOK", 0.05)
    monkeypatch.setattr(keeper_module, "_LOOK", 0.05)
    monkeypatch.setattr(keeper_module, "_PAUSE", 0.05)


class Plane:
    """A mirror with a copy on disk."""

    def __init__(self, server: Any, path: Path | None, selection: Selection, hold_for: float) -> None:
        self.values: dict[bytes, Any] = {}

        def connecting() -> Any:
            return connect(server.url, timeout=2)

        def sink(key: bytes, value: Any) -> None:
            if value is None:
                del self.values[key]
            else:
                self.values[key] = value

        self.mirror = Mirror(
            connecting, selection, sink, logger("test"), file=path, hold_for=hold_for, retry_after=(0.02, 0.1)
        )
        self.keeper = None if path is None else SnapshotWriter(self.mirror, connecting, selection, path, logger("test"))

    @property
    def why(self) -> Mismatch | None:
        return self.mirror.hold.why if self.mirror.hold is not None else None


@asynccontextmanager
async def plane(
    server: Any, path: Path | None = None, selection: Selection = SERVICES, hold_for: float = math.inf
) -> AsyncIterator[Plane]:
    started = Plane(server, path, selection, hold_for)
    tasks = [asyncio.create_task(started.mirror.run())]
    if started.keeper is not None:
        tasks.append(asyncio.create_task(started.keeper.run()))
    try:
        await soon(started.mirror.ready.is_set)
        yield started
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def fill(server: Any, marker: Marker | None = FIRST, **services: str) -> None:
    with server.client() as client, client.pipeline(transaction=True) as pipe:
        if marker is not None:
            pipe.set(MARKER, encode_marker(marker))
        for name, value in services.items():
            pipe.set(f"/tcprouter/service/{name}", value)
        pipe.execute()


def services(**values: str) -> dict[bytes, bytes]:
    return {f"/tcprouter/service/{name}".encode(): value.encode() for name, value in values.items()}


async def test_an_emptied_redis_is_not_followed_until_a_full_pass_has_filled_it(redis_server: RedisServer) -> None:
    fill(redis_server, a="1", b="2")
    async with plane(redis_server) as one:
        with redis_server.client() as client:
            client.flushall()
        await soon(lambda: one.why is Mismatch.ABSENT)
        fill(redis_server, SECOND._replace(passes=0), a="1")
        await soon(lambda: one.why is Mismatch.REPLACED)
        fill(redis_server, SECOND._replace(passes=0, counter=11), c="3")
        await asyncio.sleep(0.2)
        assert one.values == services(a="1", b="2")
        assert not one.mirror.in_sync
        assert one.mirror.away() < 1 < one.mirror.age() + 1
        fill(redis_server, SECOND._replace(counter=12), b="4")
        await soon(lambda: one.mirror.in_sync)
        assert one.values == services(a="1", b="4", c="3")
        assert one.why is None
        assert one.mirror.marker == SECOND._replace(counter=12)


async def test_no_write_to_a_swapped_database_is_served(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at the marker: it comes with what is read because of the write."""
    monkeypatch.setattr(session_module, "_LOOK", 3600)
    fill(redis_server, a="1")
    async with plane(redis_server) as one:
        with redis_server.client() as client:
            client.swapdb(0, 1)
            client.set("/tcprouter/service/a", "of the other")
        await soon(lambda: one.why is Mismatch.ABSENT)
        assert one.values == services(a="1")


async def test_swapped_databases_are_noticed_and_so_is_that_they_are_swapped_back(redis_server: RedisServer) -> None:
    fill(redis_server, a="1")
    async with plane(redis_server) as one:
        with redis_server.client() as client:
            client.swapdb(0, 1)
            await soon(lambda: one.why is Mismatch.ABSENT)
            client.swapdb(0, 1)
        await soon(lambda: one.why is None and one.mirror.in_sync)
        fill(redis_server, FIRST._replace(counter=11), b="2")
        await soon(lambda: one.values == services(a="1", b="2"))


async def test_without_a_marker_a_slow_comparison_finds_swapped_databases(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anti_entropy, "PERIOD", 0.2)
    fill(redis_server, None, a="1", same="1")
    with redis_server.client() as client:
        client.hset("big.", mapping={f"n{number}": "1" for number in range(5000)})
        async with plane(redis_server) as one, plane(redis_server, selection=ZONES) as two:
            await soon(lambda: len(two.values.get(b"big.", ())) == 5000)
            changes = one.mirror.changes, two.mirror.changes
            client.swapdb(0, 1)
            fill(redis_server, None, b="2", same="1")
            client.swapdb(0, 1)
            client.swapdb(0, 1)  # whatever was announced is read by now or when it is right again
            await soon(lambda: one.values == services(b="2", same="1") and not two.values)
            client.swapdb(0, 1)
            await soon(lambda: one.values == services(a="1", same="1") and len(two.values.get(b"big.", ())) == 5000)
            assert (one.mirror.changes - changes[0], two.mirror.changes - changes[1]) == (4, 2)


async def test_comparing_tells_nothing_that_is_known(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anti_entropy, "PERIOD", 0.01)
    monkeypatch.setattr(anti_entropy, "SHARE", 1.0)
    fill(redis_server, a="1", b="2")
    async with plane(redis_server) as one:
        with redis_server.client() as client:
            before = client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
            await soon(lambda: client.info("commandstats")["cmdstat_mget"]["calls"] > before + 5)
        assert one.mirror.changes == 2


@pytest.mark.parametrize("found", [None, SECOND, Marker("them", "c" * 32, 99, 9), FIRST._replace(counter=9)])
async def test_a_plane_that_is_started_serves_its_copy_and_goes_on_after_a_full_pass(
    redis_server: RedisServer, tmp_path: Path, found: Marker | None
) -> None:
    path = tmp_path / "plane.snapshot"
    fill(redis_server, a="1", b="2")
    async with plane(redis_server, path):
        await soon(path.exists)
    with redis_server.client() as client:
        client.flushall()
    fill(redis_server, found, a="wrong")
    written = path.stat()
    async with plane(redis_server, path) as again:
        assert again.values == services(a="1", b="2")
        assert again.why is not None
        assert again.mirror.resyncs == 0
        await asyncio.sleep(0.3)
        assert (path.stat().st_ino, path.stat().st_mtime) == (written.st_ino, written.st_mtime), "the copy stays"
        fill(redis_server, FIRST._replace(incarnation="d" * 32, previous=FIRST.incarnation), a="1", b="3")
        await soon(lambda: again.values == services(a="1", b="3"))
        await soon(lambda: snapshot.marker(path, SERVICES.match) == again.mirror.marker)


async def test_without_a_copy_redis_is_followed_whatever_it_holds(redis_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "plane.snapshot"
    fill(redis_server, FIRST._replace(passes=0), a="1")
    async with plane(redis_server, path) as one:
        assert one.values == services(a="1")
        assert one.mirror.marker is None
    # A copy whose head alone can be read is none.
    fill(redis_server)
    async with plane(redis_server, path):
        await soon(lambda: snapshot.marker(path, SERVICES.match) == FIRST)
    path.write_bytes(path.read_bytes()[:-1])
    with redis_server.client() as client:
        client.flushall()
    fill(redis_server, None, b="2")
    with capture_logs() as logs:
        async with plane(redis_server, path) as one:
            assert one.values == services(b="2")
            assert one.why is None
    assert "snapshot on disk ignored" in [entry["event"] for entry in logs]


async def test_how_long_is_a_setting(redis_server: RedisServer) -> None:
    fill(redis_server, a="1")
    async with plane(redis_server, hold_for=0.5) as limited, plane(redis_server, hold_for=0) as following:
        with redis_server.client() as client:
            client.flushall()
        await soon(lambda: not following.values)
        assert limited.values == services(a="1")
        await soon(lambda: not limited.values)
        assert limited.why is None


async def test_it_is_said_once_and_with_the_reason(redis_server: RedisServer) -> None:
    fill(redis_server, a="1")
    with capture_logs() as logs:
        async with plane(redis_server) as one:
            with redis_server.client() as client:
                client.flushall()
                await soon(lambda: one.why is Mismatch.ABSENT)
                await asyncio.sleep(0.3)
                client.set(MARKER, encode_marker(FIRST))
            await soon(lambda: one.mirror.in_sync)
    said = [(entry["event"], entry.get("reason")) for entry in logs if "redis is" in entry["event"]]
    assert said == [("redis is implausible: serving what is known", Mismatch.ABSENT), ("redis is followed again", None)]


async def test_a_retired_marker_leaves_redis_to_old_programs(redis_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "plane.snapshot"
    fill(redis_server, a="1")
    async with plane(redis_server, path) as one:
        await soon(lambda: snapshot.marker(path, SERVICES.match) == FIRST)
        fill(redis_server, FIRST._replace(counter=11, retired=True))
        await soon(lambda: one.mirror.marker is None)
        with redis_server.client() as client:
            client.flushall()
            client.set("/tcprouter/service/b", "2")
        await soon(lambda: one.values == services(b="2"))
        await soon(lambda: snapshot.marker(path, SERVICES.match) is None)


OLD_FILE = (
    b'tfgateway snapshot 1\n{"match":"/tcprouter/service/*"}\n\x02\x00\x00\x00\x14\x00\x00\x00\x01/tcprouter/service/a1'
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)
"""As releases before the marker wrote it, without the digest at its end."""


async def test_a_copy_of_an_older_release_is_read_and_redis_followed(redis_server: RedisServer, tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "plane.snapshot"
    path.write_bytes(OLD_FILE + hashlib.blake2b(OLD_FILE, digest_size=32).digest())
    assert list(snapshot.read(path, SERVICES.match).items) == [(b"/tcprouter/service/a", b"1")]
    assert snapshot.marker(path, SERVICES.match) is None
    async with plane(redis_server, path) as one:
        assert one.values == {}
