"""The marker of the data set, on a real redis: what is written, counted and noted, and what is not."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tfgateway.errors import StoreError
from tfgateway.reconciler.dataset import DataSet
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.connection import connect
from tfgateway.redis_schema.keys import LEASE, MARKER
from tfgateway.redis_schema.marker import ANY, NONE, Marker, decode_marker, encode_marker
from tfgateway.redis_schema.zone_changes import CHANNEL, decode_changes

from tests.support.processes import RedisServer

HELD = (Row(LEASE, None, b"mine"),)
NODE = "node"


@dataclasses.dataclass
class Scene:
    store: Store
    redis: Any
    """A synchronous client."""

    def process(self) -> DataSet:
        """A reconciler that was just started."""
        return DataSet(self.store, NODE)

    @property
    def marker(self) -> Marker:
        return decode_marker(self.redis.get(MARKER))

    async def write(self, data_set: DataSet, count: int = 1) -> None:
        rows = [Transaction((), (Row("gw.", f"n{number}", b"{}"),)) for number in range(count)]
        data_set.wrote((await self.store.apply(rows, HELD)).count(""))

    async def full_pass(self, data_set: DataSet, rows: int = 1) -> None:
        await data_set.begin(HELD)
        await self.write(data_set, rows)
        await data_set.complete(HELD)


@pytest.fixture
async def scene(redis_server: RedisServer) -> AsyncIterator[Scene]:
    client = connect(redis_server.url, timeout=30)
    with redis_server.client() as synchronous:
        synchronous.set(LEASE, "mine")
        yield Scene(Store(client), synchronous)
    await client.aclose()


async def test_a_full_pass_is_noted_and_everything_that_is_written_counts(scene: Scene) -> None:
    data_set = scene.process()
    await data_set.begin(HELD)
    begun = scene.marker
    assert (begun.node_id, begun.passes, begun.previous) == (NODE, 0, NONE)
    await scene.write(data_set, 3)
    assert scene.marker == begun._replace(counter=begun.counter + 3)
    assert await data_set.unchanged()
    await data_set.complete(HELD)
    assert scene.marker == begun._replace(counter=begun.counter + 4, passes=1)
    await scene.full_pass(data_set)
    assert scene.marker == begun._replace(counter=begun.counter + 6, passes=2)


async def test_a_process_that_is_started_goes_on_and_says_from_where(scene: Scene) -> None:
    await scene.full_pass(scene.process())
    before = scene.marker
    await scene.full_pass(scene.process())
    after = scene.marker
    assert (after.incarnation, after.passes) == (before.incarnation, 2)
    assert after.writer != before.writer
    assert after.base == before.counter


async def test_a_refused_step_raises_nothing(scene: Scene) -> None:
    data_set = scene.process()
    await data_set.begin(HELD)
    before = scene.marker
    refused = Transaction((Row("gw.", "n", b"other"),), (Row("gw.", "n", b"x"),))
    failures = await scene.store.apply([refused], HELD)
    assert failures != [""]
    assert scene.marker == before


Loss = Callable[[Scene], None]


def flushed(scene: Scene) -> None:
    scene.redis.flushall()
    scene.redis.set(LEASE, "mine")


def older(scene: Scene) -> None:
    scene.redis.set(MARKER, encode_marker(scene.marker._replace(counter=scene.marker.counter - 1)))


def foreign(scene: Scene) -> None:
    scene.redis.set(MARKER, encode_marker(Marker("another", "f" * 32, 500, 50)))


def unreadable(scene: Scene) -> None:
    scene.redis.set(MARKER, b"\xff" * 10_000)


def of_another_type(scene: Scene) -> None:
    scene.redis.delete(MARKER)
    scene.redis.hset(MARKER, "a", "b")


LOSSES = [flushed, older, foreign, unreadable, of_another_type]


@pytest.mark.parametrize("lose", LOSSES)
async def test_after_a_loss_another_data_set_takes_the_place_of_the_last_complete_one(scene: Scene, lose: Loss) -> None:
    data_set = scene.process()
    await scene.full_pass(data_set)
    before = scene.marker
    lose(scene)
    assert not await data_set.unchanged()
    await data_set.begin(HELD)
    begun = scene.marker
    assert begun.incarnation != before.incarnation
    assert (begun.passes, begun.previous, begun.node_id) == (0, before.incarnation, NODE)
    lose(scene)  # and once more, before it was complete
    await scene.full_pass(data_set)
    assert (scene.marker.passes, scene.marker.previous) == (1, before.incarnation)


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_pass_under_which_redis_changes_is_not_noted(scene: Scene, lose: Loss) -> None:
    data_set = scene.process()
    await scene.full_pass(data_set)
    await data_set.begin(HELD)
    await scene.write(data_set)
    lose(scene)
    left = scene.redis.dump(MARKER)
    await data_set.complete(HELD)
    assert scene.redis.dump(MARKER) == left


async def test_who_has_lost_the_lease_writes_no_marker(scene: Scene) -> None:
    scene.redis.set(LEASE, "another's")
    data_set = scene.process()
    with pytest.raises(StoreError, match="lease"):
        await data_set.begin(HELD)
    assert scene.redis.get(MARKER) is None


async def test_what_an_operator_said_is_taken_over_and_counts_until_the_next_full_pass(scene: Scene) -> None:
    data_set = scene.process()
    await scene.full_pass(data_set)
    said = Marker(NODE, "e" * 32, 1, 1, previous=ANY, retired=True)
    scene.redis.set(MARKER, encode_marker(said))
    await data_set.begin(HELD)
    begun = scene.marker
    assert (begun.incarnation, begun.previous, begun.retired) == (said.incarnation, ANY, False)
    await data_set.complete(HELD)
    assert (scene.marker.previous, scene.marker.passes) == (NONE, 2)


async def test_what_is_published_says_of_which_data_set_it_is(scene: Scene) -> None:
    data_set = scene.process()
    await data_set.begin(HELD)
    with scene.redis.pubsub() as listener:
        listener.subscribe(CHANNEL)
        listener.get_message(timeout=5)
        await scene.write(data_set)
        message: Any = listener.get_message(timeout=5)
    told = decode_changes(message["data"])
    assert told == {b"gw.": {b"n0": b"{}"}, MARKER.encode(): {b"": encode_marker(scene.marker)}}
