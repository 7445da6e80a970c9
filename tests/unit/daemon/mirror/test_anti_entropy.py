from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tfgateway.mirror import anti_entropy
from tfgateway.mirror.anti_entropy import PERIOD, SHARE, AntiEntropy


class World:
    """A copy and a redis; reading a key takes ``cost`` seconds."""

    def __init__(self, copy: dict[bytes, int], redis: dict[bytes, int], cost: float = 0.0) -> None:
        self.copy, self.redis, self.cost = copy, redis, cost
        self.now = 100.0
        self.read: list[bytes] = []
        self.rounds = AntiEntropy(lambda: self.copy, lambda key: key in self.copy, self.names, self.refresh, self.time)

    def time(self) -> float:
        return self.now

    async def names(self, cursor: int) -> tuple[int, list[bytes]]:
        """Three keys at a time, as SCAN does."""
        keys = sorted(self.redis)[cursor : cursor + 3]
        after = cursor + 3
        return (after if after < len(self.redis) else 0), keys

    async def refresh(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self.read.append(key)
            self.now += self.cost
            if key in self.redis:
                self.copy[key] = self.redis[key]
            else:
                self.copy.pop(key, None)

    def round(self) -> None:
        before = self.rounds.rounds
        while self.rounds.rounds == before:
            self.now = max(self.now, self.rounds.due)
            asyncio.run(self.rounds.step())


def keys(*numbers: int) -> dict[bytes, int]:
    return {b"%d" % number: number for number in numbers}


def test_what_nobody_told_is_found() -> None:
    copy = keys(*range(1000))
    world = World(copy, keys(*range(500), *range(700, 1200)) | {b"3": 999})
    world.round()
    assert world.copy == world.redis
    assert sorted(world.read) == sorted({*keys(*range(1200))}), "each is read once"


def test_an_empty_copy_and_an_empty_redis() -> None:
    world = World({}, keys(1, 2, 3, 4))
    world.round()
    assert world.copy == world.redis
    world.redis = {}
    world.round()
    assert world.copy == {}
    world.round()


def test_it_takes_its_share_of_the_time_and_no_more() -> None:
    world = World(keys(*range(1000)), keys(*range(1000)), cost=0.001)
    started = world.now
    world.round()
    spent = len(world.read) * world.cost
    assert spent == 1.0
    assert world.now - started <= PERIOD + spent / SHARE + 0.01
    world.round()
    assert world.now - started >= spent / SHARE
    assert world.now - started <= 60 * 2 + 0.1, "twice within two minutes, when one second is enough for all"


def test_what_is_cheap_is_compared_every_period() -> None:
    world = World(keys(1), keys(1))
    world.round()
    began = world.now
    for _ in range(3):
        world.round()
    assert world.now - began == 3 * PERIOD


def test_after_an_error_the_round_goes_on_where_it_was() -> None:
    size = anti_entropy._KEYS_AT_ONCE
    world = World(keys(*range(2 * size)), keys(*range(2 * size)))
    good, world.rounds._refresh = world.rounds._refresh, failing
    world.now = world.rounds.due
    try:
        asyncio.run(world.rounds.step())
    except OSError:
        world.rounds._refresh = good
    world.round()
    assert sorted(world.read) == sorted(world.copy)


async def failing(_keys: Sequence[bytes]) -> None:
    raise OSError("redis is away")
