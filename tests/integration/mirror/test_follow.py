"""The mirror against a real redis-server: what the sink was told equals what redis holds, whatever happens."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs
from tfgateway.mirror import Mirror, Selection
from tfgateway.mirror.feed import open_feed
from tfgateway.redis_schema.connection import connect
from tfgateway.telemetry.logs import logger

from tests.support.processes import RedisServer
from tests.support.waiting import soon

ZONES = Selection(b"*.")
SERVICES = Selection(b"/tcprouter/service/*", kind="string")
LIMIT = 30.0
"""Seconds after which what never happens is a failure."""


class Copy:
    """A sink that keeps everything, and a record of what it was told."""

    def __init__(self, server: Any, selection: Selection) -> None:
        self.values: dict[bytes, Any] = {}
        self.told: list[tuple[bytes, Any]] = []
        self.clients = 0
        self._server = server
        self._selection = selection
        self.mirror = Mirror(
            self._connect, selection, self._sink, logger("test"), heartbeat=0.1, retry_after=(0.02, 0.1)
        )

    def _connect(self) -> Any:
        self.clients += 1
        return connect(self._server.url, timeout=1)

    def _sink(self, key: bytes, value: Any) -> None:
        self.told.append((key, value))
        if value == {b"@": b"indigestible"}:
            raise ValueError("the plane's own trouble")
        if value is None:
            del self.values[key]  # a KeyError here is a key that was removed twice
        else:
            self.values[key] = value

    def heard_of(self, key: bytes) -> list[Any]:
        """Every value that the sink was told for this key."""
        return [value for told, value in self.told if told == key]

    def is_current(self) -> bool:
        """Does the copy equal redis?"""
        kind = self._selection.kind
        with self._server.client() as client, client.pipeline(transaction=False) as pipe:
            # In two round trips: the event loop stands still meanwhile, and the mirror's replies have a second.
            names = [name for name in client.keys(self._selection.match) if self._selection.wants(name)]
            for name in names:
                pipe.type(name)
            chosen = [name for name, found in zip(names, pipe.execute(), strict=True) if found == kind.encode()]
            for name in chosen:
                pipe.hgetall(name) if kind == "hash" else pipe.get(name)
            truth = dict(zip(chosen, pipe.execute(), strict=True))
        return self.values == truth


@asynccontextmanager
async def following(server: Any, selection: Selection) -> AsyncIterator[Copy]:
    copy = Copy(server, selection)
    task = asyncio.create_task(copy.mirror.run())
    ready = asyncio.create_task(copy.mirror.ready.wait())
    try:
        async with asyncio.timeout(LIMIT):
            await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        yield copy
        assert not task.done(), task.exception()
    finally:
        ready.cancel()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestSnapshot:
    async def test_selected_keys_and_no_others(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.hset("gw1.example.", mapping={"www": "{}", "": "{}", b"\xff\x00": b"\xfe"})
            client.hset("zone", "gw1.example", "x")
            client.set("/tcprouter/service/www.gw1.example", "y")
        async with following(redis_server, ZONES) as zones, following(redis_server, SERVICES) as services:
            assert zones.values == {b"gw1.example.": {b"www": b"{}", b"": b"{}", b"\xff\x00": b"\xfe"}}
            assert services.values == {b"/tcprouter/service/www.gw1.example": b"y"}

    async def test_an_empty_redis_is_a_complete_snapshot(self, redis_server: RedisServer) -> None:
        async with following(redis_server, ZONES) as copy:
            assert copy.mirror.ready.is_set()
            assert copy.mirror.in_sync
            assert copy.values == {}

    async def test_many_keys_are_each_told_once(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client, client.pipeline(transaction=False) as pipe:
            for number in range(3000):
                pipe.hset(f"z{number}.example.", "@", str(number))
                pipe.set(f"/tcprouter/service/n{number}", str(number))
            pipe.execute()
        for selection in (ZONES, SERVICES):
            async with following(redis_server, selection) as copy:
                assert copy.is_current()
                assert len(copy.told) == copy.mirror.changes == copy.mirror.keys == 3000

    async def test_a_hash_too_big_for_one_reply_is_read_whole(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.hset("big.", mapping={f"n{number}": str(number) for number in range(30_000)})
        async with following(redis_server, ZONES) as copy:
            assert copy.is_current()
            assert len(copy.told) == 1

    async def test_a_big_hash_that_is_written_while_it_is_read_is_never_half_old_half_new(
        self, redis_server: RedisServer
    ) -> None:
        together = [f"together{number}" for number in range(50)]
        with redis_server.client() as client:
            client.hset("big.", mapping={f"filler{number}": "x" for number in range(20_000)})
            client.hset("big.", mapping=dict.fromkeys(together, "0"))
        done = threading.Event()

        def write() -> None:
            number = 0
            with redis_server.client() as client:
                while not done.is_set():
                    number += 1
                    client.hset("big.", mapping=dict.fromkeys(together, str(number)))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            async with following(redis_server, ZONES) as copy:
                await soon(lambda: len(copy.told) >= 10)
                done.set()
                await soon(copy.is_current)
        finally:
            done.set()
            writer.join()
        for value in copy.heard_of(b"big."):
            assert len({value[name.encode()] for name in together}) == 1

    async def test_a_key_of_another_type_is_skipped_logged_and_harmless(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.set("string.", "x")
            client.rpush("list.", "x")
            client.hset("good.", "@", "x")
            client.hset("/tcprouter/service/hash", "x", "y")
            client.set("/tcprouter/service/good", "x")
        with capture_logs() as logs:
            async with following(redis_server, ZONES) as zones, following(redis_server, SERVICES) as services:
                assert zones.values == {b"good.": {b"@": b"x"}}
                assert services.values == {b"/tcprouter/service/good": b"x"}
        skipped = {entry["key"] for entry in logs if entry["event"] == "key of another type skipped"}
        assert skipped == {b"string.", b"list.", b"/tcprouter/service/hash"}


class TestChanges:
    async def test_hash_fields_set_and_removed(self, redis_server: RedisServer) -> None:
        async with following(redis_server, ZONES) as copy:
            with redis_server.client() as client:
                client.hset("a.", mapping={"www": "1", "mail": "1"})
                await soon(lambda: copy.values == {b"a.": {b"www": b"1", b"mail": b"1"}})
                client.hset("a.", "www", "2")
                await soon(lambda: copy.values == {b"a.": {b"www": b"2", b"mail": b"1"}})
                client.hdel("a.", "mail")
                await soon(lambda: copy.values == {b"a.": {b"www": b"2"}})
                client.hdel("a.", "www")
                await soon(lambda: copy.values == {})
            assert copy.mirror.resyncs == 1

    async def test_strings_set_deleted_and_expired(self, redis_server: RedisServer) -> None:
        key = b"/tcprouter/service/a"
        async with following(redis_server, SERVICES) as copy:
            with redis_server.client() as client:
                client.set(key, "1")
                await soon(lambda: copy.values == {key: b"1"})
                client.set(key, "2", px=50)
                await soon(lambda: copy.values == {})
                assert copy.heard_of(key) in ([b"1", b"2", None], [b"1", None])
                client.set(key, "3")
                await soon(lambda: copy.values == {key: b"3"})
                client.delete(key)
                await soon(lambda: copy.values == {})
            assert copy.mirror.resyncs == 1

    async def test_rename_into_out_of_and_within_the_selection(self, redis_server: RedisServer) -> None:
        async with following(redis_server, ZONES) as copy:
            with redis_server.client() as client:
                client.hset("outside", "@", "1")
                client.rename("outside", "a.")
                await soon(lambda: copy.values == {b"a.": {b"@": b"1"}})
                client.rename("a.", "b.")
                await soon(lambda: copy.values == {b"b.": {b"@": b"1"}})
                client.rename("b.", "outside")
                await soon(lambda: copy.values == {})

    async def test_a_key_that_changes_its_type_is_gone_and_returns(self, redis_server: RedisServer) -> None:
        async with following(redis_server, ZONES) as copy:
            with redis_server.client() as client:
                client.hset("a.", "@", "1")
                await soon(lambda: b"a." in copy.values)
                client.set("a.", "not a zone")
                await soon(lambda: copy.values == {})
                client.delete("a.")
                client.hset("a.", "@", "2")
                await soon(lambda: copy.values == {b"a.": {b"@": b"2"}})

    async def test_a_write_that_changes_nothing_is_not_told(self, redis_server: RedisServer) -> None:
        async with following(redis_server, ZONES) as copy:
            with redis_server.client() as client:
                client.hset("a.", "@", "1")
                await soon(lambda: b"a." in copy.values)
                client.hset("a.", "@", "1")
                client.hset("end.", "@", "1")
                await soon(lambda: b"end." in copy.values)
            assert copy.heard_of(b"a.") == [{b"@": b"1"}]

    async def test_flushall_empties_the_copy_and_it_fills_again(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.hset("a.", "@", "1")
            client.hset("b.", "@", "1")
            async with following(redis_server, ZONES) as copy:
                client.flushall()
                await soon(lambda: copy.values == {} and copy.mirror.in_sync)
                assert copy.mirror.resyncs == 2
                assert copy.clients == 1
                client.hset("a.", "@", "2")
                await soon(lambda: copy.values == {b"a.": {b"@": b"2"}})

    async def test_thousands_of_writes_in_a_burst_end_in_the_state_of_redis(self, redis_server: RedisServer) -> None:
        async with following(redis_server, SERVICES) as copy:
            with redis_server.client() as client, client.pipeline(transaction=False) as pipe:
                for number in range(10_000):
                    pipe.set(f"/tcprouter/service/n{number % 2000}", str(number))
                pipe.execute()
            await soon(copy.is_current)
            assert len(copy.values) == 2000
            assert copy.mirror.resyncs == 1

    async def test_a_sink_that_fails_on_one_key_hears_of_the_others_and_of_that_one_again(
        self, redis_server: RedisServer
    ) -> None:
        with redis_server.client() as client:
            client.hset("a.", "@", "indigestible")
            client.hset("b.", "@", "good")
            with capture_logs() as logs:
                async with following(redis_server, ZONES) as copy:
                    assert copy.values == {b"b.": {b"@": b"good"}}
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                    await soon(lambda: copy.mirror.resyncs == 2)
                    assert copy.heard_of(b"a.") == [{b"@": b"indigestible"}] * 2
                    assert copy.heard_of(b"b.") == [{b"@": b"good"}]
                    client.hset("a.", "@", "mended")
                    await soon(copy.is_current)
        assert [entry["key"] for entry in logs if entry["event"] == "change not applied"] == [b"a."] * 2


class TestGaps:
    async def test_restart_with_the_same_data_tells_nothing(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.hset("a.", "@", "1")
        async with following(redis_server, ZONES) as copy:
            redis_server.stop()
            await soon(lambda: not copy.mirror.in_sync)
            assert copy.values == {b"a.": {b"@": b"1"}}
            redis_server.start()
            await soon(lambda: copy.mirror.in_sync)
            assert len(copy.told) == 1
            assert copy.mirror.resyncs == 2

    async def test_restart_with_other_data_tells_the_difference(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.hset("stays.", "@", "1")
            client.hset("goes.", "@", "1")
            client.hset("changes.", "@", "1")
        async with following(redis_server, ZONES) as copy:
            # Nothing is awaited here: the mirror comes back when all of it has happened.
            redis_server.stop()
            redis_server.forget()
            redis_server.start()
            with redis_server.client() as client:
                client.hset("stays.", "@", "1")
                client.hset("changes.", "@", "2")
                client.hset("comes.", "@", "1")
            await soon(lambda: copy.mirror.resyncs == 2)
            assert copy.is_current()
            assert sorted(copy.told[3:]) == [
                (b"changes.", {b"@": b"2"}),
                (b"comes.", {b"@": b"1"}),
                (b"goes.", None),
            ]

    async def test_restart_emptied_empties_the_copy_only_once_redis_answers(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.hset("a.", "@", "1")
        async with following(redis_server, ZONES) as copy:
            redis_server.kill()
            await soon(lambda: not copy.mirror.in_sync)
            attempts = copy.clients
            await soon(lambda: copy.clients > attempts + 2)
            assert copy.values == {b"a.": {b"@": b"1"}}
            redis_server.forget()
            redis_server.start()
            await soon(lambda: copy.values == {} and copy.mirror.in_sync)

    async def test_news_lost_with_the_killed_feed_is_found_by_the_next_snapshot(
        self, redis_server: RedisServer
    ) -> None:
        with redis_server.client() as client:
            client.hset("goes.", "@", "1")
            client.hset("changes.", "@", "1")
            async with following(redis_server, ZONES) as copy:
                for number in range(2, 12):
                    resyncs = copy.mirror.resyncs
                    with client.pipeline(transaction=True) as pipe:
                        # One step for everybody else: when the writes happen, nobody is there to be told.
                        pipe.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                        pipe.hset("changes.", "@", str(number))
                        pipe.delete("goes.")
                        pipe.execute()
                    await soon(lambda resyncs=resyncs: copy.mirror.resyncs > resyncs)
                    assert copy.values == {b"changes.": {b"@": str(number).encode()}}

    async def test_killed_connections_during_snapshots_remove_nothing(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client, client.pipeline(transaction=False) as pipe:
            for number in range(2000):
                pipe.hset(f"z{number}.", "@", "1")
            pipe.execute()
        async with following(redis_server, ZONES) as copy:
            chance = random.Random(7)
            with redis_server.client() as client:
                for _ in range(40):
                    client.execute_command("CLIENT", "KILL", "TYPE", chance.choice(["normal", "pubsub"]))
                    await asyncio.sleep(chance.uniform(0, 0.15))
            resyncs = copy.mirror.resyncs
            await soon(lambda: (copy.mirror.in_sync and copy.mirror.resyncs > resyncs) or copy.is_current())
            assert copy.is_current()
            assert len(copy.told) == 2000

    async def test_a_silent_redis_is_away_until_it_speaks_again(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.hset("a.", "@", "1")
            async with following(redis_server, ZONES) as copy:
                os.kill(redis_server.pid, signal.SIGSTOP)
                try:
                    await soon(lambda: not copy.mirror.in_sync)
                finally:
                    os.kill(redis_server.pid, signal.SIGCONT)
                client.hset("a.", "@", "2")
                await soon(lambda: copy.mirror.in_sync and copy.is_current())

    async def test_a_quiet_redis_stays_in_sync_on_the_same_connections(self, redis_server: RedisServer) -> None:
        async with following(redis_server, ZONES) as copy:
            # Longer than the time-out of a reply, which must not apply to waiting for news.
            await asyncio.sleep(1.5)
            assert copy.mirror.in_sync
            assert copy.clients == 1
            assert copy.mirror.age() < 1
            with redis_server.client() as client:
                client.hset("a.", "@", "1")
            await soon(copy.is_current)

    async def test_a_refused_login_is_away_and_removes_nothing(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.hset("a.", "@", "1")
            with capture_logs() as logs:
                async with following(redis_server, ZONES) as copy:
                    client.config_set("requirepass", "s3cr3t")
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                    attempts = copy.clients
                    await soon(lambda: copy.clients > attempts + 2)
                    assert copy.values == {b"a.": {b"@": b"1"}}
                    client.config_set("requirepass", "")
                    await soon(lambda: copy.mirror.in_sync)
                    assert len(copy.told) == 1
        away = [entry["reason"] for entry in logs if entry["event"].startswith("redis is away")]
        assert len(away) == len(set(away))
        assert any("uthenticat" in reason for reason in away)

    async def test_a_refused_command_is_away_and_removes_nothing(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client:
            client.hset("a.", "@", "1")
            async with following(redis_server, ZONES) as copy:
                client.execute_command("ACL", "SETUSER", "default", "-hscan")
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                attempts = copy.clients
                await soon(lambda: copy.clients > attempts + 2)
                assert not copy.mirror.in_sync
                client.execute_command("ACL", "SETUSER", "default", "+hscan")
                await soon(lambda: copy.mirror.in_sync)
                assert copy.told == [(b"a.", {b"@": b"1"})]

    async def test_a_loading_redis_is_away_and_removes_nothing(self, redis_server: RedisServer) -> None:
        with redis_server.client() as client, client.pipeline(transaction=False) as pipe:
            pipe.hset("a.", "@", "1")
            for number in range(12_000):
                pipe.set(f"slow to load {number}", "1")
            pipe.execute()
        with capture_logs() as logs:
            async with following(redis_server, ZONES) as copy:
                redis_server.stop()
                # Microseconds a key; while it loads, redis looks after its clients once in 1024 of them.
                await asyncio.to_thread(redis_server.start, "--key-load-delay", "50")
                await soon(lambda: copy.mirror.in_sync and copy.mirror.resyncs > 1)
                assert len(copy.told) == 1
        reasons = [entry["reason"] for entry in logs if entry["event"].startswith("redis is away")]
        assert any("loading" in reason for reason in reasons), reasons

    async def test_redis_that_starts_after_the_mirror(self, redis_server: RedisServer) -> None:
        redis_server.stop()
        copy = Copy(redis_server, ZONES)
        task = asyncio.create_task(copy.mirror.run())
        await soon(lambda: copy.clients > 2)
        assert not copy.mirror.ready.is_set()
        assert not copy.mirror.in_sync
        assert copy.mirror.age() == math.inf
        redis_server.start()
        await soon(copy.mirror.ready.is_set)
        task.cancel()

    async def test_age_grows_while_redis_is_away(self, redis_server: RedisServer) -> None:
        async with following(redis_server, ZONES) as copy:
            redis_server.stop()
            await soon(lambda: not copy.mirror.in_sync)
            first = copy.mirror.age()
            await soon(lambda: copy.mirror.age() > first + 0.2)
            redis_server.start()
            await soon(lambda: copy.mirror.in_sync)
            assert copy.mirror.age() < first + 0.2


async def test_a_closed_feed_leaves_no_news_among_the_replies_of_others(redis_server: RedisServer) -> None:
    async with connect(redis_server.url, timeout=1) as client:
        async with open_feed(client, (b"a",), 1.0) as feed:
            await client.set("a1", "x")
            await client.set("b1", "x")
            assert await feed.next() == [b"a1"]
        await client.set("a2", "x")
        assert await client.get("a2") == b"x"


async def test_descriptors_and_tasks_are_back_at_the_base_line_after_the_end(redis_server: RedisServer) -> None:
    async with following(redis_server, ZONES):
        pass  # what the event loop opens once and keeps is part of the base line
    descriptors, tasks = open_descriptors(), len(asyncio.all_tasks())
    for _ in range(5):
        async with following(redis_server, ZONES) as copy:
            with redis_server.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await soon(lambda copy=copy: copy.mirror.resyncs > 1)
    await soon(lambda: open_descriptors() == descriptors)
    assert len(asyncio.all_tasks()) == tasks


@pytest.mark.parametrize("seed", range(4))
async def test_any_mixture_of_writes_and_faults_ends_in_the_state_of_redis(
    redis_server: RedisServer, seed: int
) -> None:
    chance = random.Random(seed)
    names = [f"z{number}." for number in range(12)] + ["outside"]

    def step(client: redis.Redis) -> None:
        name, other = chance.sample(names, 2)
        dice = chance.random()
        if dice < 0.5:
            client.hset(name, chance.choice("abc"), str(chance.randrange(4)))
        elif dice < 0.65:
            client.hdel(name, chance.choice("abc"))
        elif dice < 0.75:
            client.delete(name)
        elif dice < 0.85:
            client.rename(name, other)
        elif dice < 0.9:
            client.set(name, "another type")
        elif dice < 0.95:
            client.pexpire(name, chance.randrange(1, 20))
        elif dice < 0.98:
            client.execute_command("CLIENT", "KILL", "TYPE", chance.choice(["normal", "pubsub"]))
        else:
            client.flushall()

    async with following(redis_server, ZONES) as copy:
        with redis_server.client() as client:
            for _ in range(1000):
                with suppress(redis.ResponseError):  # no such key, another type: part of the mixture
                    step(client)
                if chance.random() < 0.2:
                    await asyncio.sleep(0)
        await soon(copy.is_current)
        # Keys may still expire, and the copy follows.
        await soon(lambda: copy.mirror.in_sync and copy.is_current())


async def test_news_that_come_while_a_feed_subscribes_are_no_answer_to_it(redis_server: RedisServer) -> None:
    done = threading.Event()

    def write() -> None:
        with redis_server.client() as client:
            while not done.is_set():
                client.hset("busy.", "field", "x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        async with connect(redis_server.url, timeout=5) as client:
            for _ in range(200):
                async with open_feed(client, (b"busy",), 5.0) as feed:
                    for _ in range(3):
                        assert await feed.next() in ([b"busy."], ())
    finally:
        done.set()
        writer.join()
