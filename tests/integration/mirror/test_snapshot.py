"""The copy on disk: written whole or not at all, believed when it is whole, and enough to serve without redis."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tfgateway.errors import ParseError
from tfgateway.mirror import Mirror, Selection, SnapshotWriter
from tfgateway.mirror import snapshot_writer as keeper_module
from tfgateway.mirror.disk import snapshot
from tfgateway.redis_schema.connection import connect
from tfgateway.telemetry.logs import logger

from tests.support.processes import RedisServer
from tests.support.waiting import soon

ZONES = Selection(b"*.")
ITEMS: list[snapshot.Item] = [
    (b"big.", {b"n%d" % number: b"\x00\xff" * number for number in range(50)}),
    (b"big.", {b"more": b"", b"": b"empty"}),
    (b"small.", {b"@": b"{}"}),
    (b"/tcprouter/service/a", b"value"),
    (b"empty string", b""),
]


def held(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def each(items: list[snapshot.Item]) -> AsyncIterator[snapshot.Item]:
    for item in items:
        yield item


async def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plane.snapshot"
    size = await snapshot.write(path, b"*.", each(ITEMS), 1 << 20)
    assert path.stat().st_size == size
    assert path.stat().st_mode & 0o777 == 0o600
    _, items = snapshot.read(path, b"*.")
    assert list(items) == ITEMS
    assert held(tmp_path) == [path]


async def test_a_damaged_file_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "plane.snapshot"
    await snapshot.write(path, b"*.", each(ITEMS), 1 << 20)
    whole = path.read_bytes()
    chance = random.Random(1)
    damaged = [whole[:size] for size in range(0, len(whole), 97)] + [whole + b"x", b"", b"\n" * 5000]
    for _ in range(200):
        at = chance.randrange(len(whole))
        damaged.append(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ParseError):
            snapshot.read(path, b"*.")


async def test_a_file_of_other_keys_or_another_version_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "plane.snapshot"
    await snapshot.write(path, b"dns:*.", each(ITEMS), 1 << 20)
    with pytest.raises(ParseError, match="of other keys"):
        snapshot.read(path, b"*.")


async def test_what_fails_leaves_the_last_file(tmp_path: Path) -> None:
    path = tmp_path / "plane.snapshot"
    await snapshot.write(path, b"*.", each(ITEMS[:1]), 1 << 20)
    before = path.read_bytes()

    async def broken() -> AsyncIterator[snapshot.Item]:
        yield ITEMS[0]
        raise OSError("redis is away")

    with pytest.raises(OSError, match="away"):
        await snapshot.write(path, b"*.", broken(), 1 << 20)
    with pytest.raises(OSError, match="larger than"):
        await snapshot.write(path, b"*.", each(ITEMS), 1000)
    assert path.read_bytes() == before
    assert held(tmp_path) == [path]


async def test_a_mirror_begins_with_the_file_when_redis_is_away_and_goes_on_with_redis(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "_LOOK", 0.05)
    path = tmp_path / "plane.snapshot"

    def connecting() -> Any:
        return connect(redis_server.url, timeout=1)

    def started(values: dict[bytes, Any]) -> tuple[Mirror, asyncio.Task[None]]:
        def sink(key: bytes, value: Any) -> None:
            if value is None:
                del values[key]
            else:
                values[key] = value

        mirror = Mirror(connecting, ZONES, sink, logger("test"), file=path, retry_after=(0.02, 0.1))
        return mirror, asyncio.create_task(mirror.run())

    with redis_server.client() as client:
        client.hset("big.", mapping={f"n{number}": "0" for number in range(6000)})
        client.hset("small.", "@", "1")
        client.hset("goes.", "@", "1")
    first: dict[bytes, Any] = {}
    mirror, task = started(first)
    keeping = asyncio.create_task(SnapshotWriter(mirror, connecting, ZONES, path, logger("test")).run())
    await soon(path.exists)
    keeping.cancel()
    task.cancel()
    redis_server.stop()
    os.utime(path, (time.time() - 1000,) * 2)
    second: dict[bytes, Any] = {}
    mirror, task = started(second)
    await soon(mirror.ready.is_set)
    assert second == first
    assert len(second[b"big."]) == 6000
    assert not mirror.in_sync
    assert 1000 <= mirror.age() < 1060
    redis_server.start()
    with redis_server.client() as client:
        client.hset("big.", "n7", "new")
        client.delete("goes.")
        client.hset("small.", "@", "1")
        client.hset("comes.", "@", "1")
    await soon(lambda: mirror.in_sync and b"comes." in second)
    assert second[b"big."][b"n7"] == b"new"
    assert sorted(second) == [b"big.", b"comes.", b"small."]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_broken_file_is_told_and_the_mirror_waits_for_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "plane.snapshot"
    path.write_bytes(b"tfgateway snapshot 1\nrubbish" * 10)
    redis_server.stop()
    told: list[bytes] = []
    with capture_logs() as logs:
        mirror = Mirror(
            lambda: connect(redis_server.url, timeout=1),
            ZONES,
            lambda key, _: told.append(key),
            logger("test"),
            file=path,
            retry_after=(0.02, 0.1),
        )
        task = asyncio.create_task(mirror.run())
        await soon(lambda: any(entry["event"] == "snapshot on disk ignored" for entry in logs))
        assert not mirror.ready.is_set()
        redis_server.start()
        with redis_server.client() as client:
            client.hset("a.", "@", "1")
        await soon(lambda: told == [b"a."])
        await soon(mirror.ready.is_set)
    task.cancel()


class Fields:
    """A sink by field that has trouble with one key."""

    def __init__(self) -> None:
        self.values: dict[bytes, dict[bytes, bytes]] = {}

    async def replace(self, key: bytes, pieces: AsyncIterator[Mapping[bytes, bytes]]) -> bool:
        fields: dict[bytes, bytes] = {}
        async for piece in pieces:
            if key == b"bad.":
                raise ValueError("the plane's own trouble")
            fields.update(piece)
        self.values[key] = fields
        return True

    async def change(self, key: bytes, fields: Mapping[bytes, bytes | None]) -> None:
        raise AssertionError("nobody writes")

    async def remove(self, key: bytes) -> None:
        del self.values[key]


async def test_pieces_from_disk_are_put_together_and_one_bad_key_keeps_no_other_away(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "plane.snapshot"
    bad: list[snapshot.Item] = [(b"bad.", {b"a": b"1"}), (b"bad.", {b"b": b"1"})]
    await snapshot.write(path, b"*.", each([*ITEMS[:2], *bad, ITEMS[2]]), 1 << 20)
    redis_server.stop()
    fields = Fields()
    with capture_logs() as logs:
        mirror = Mirror(lambda: connect(redis_server.url, timeout=1), ZONES, fields, logger("test"), file=path)
        task = asyncio.create_task(mirror.run())
        await soon(mirror.ready.is_set)
    assert fields.values == {b"big.": {**dict(ITEMS[0][1]), **dict(ITEMS[1][1])}, b"small.": ITEMS[2][1]}
    assert [entry["key"] for entry in logs if entry["event"] == "change not applied"] == [b"bad."]
    redis_server.start()
    await soon(lambda: mirror.in_sync)
    assert fields.values == {}
    task.cancel()
