"""The connection to redis breaks once, before and after each single write of a gateway's life."""

from __future__ import annotations

import threading

from tests.integration.reconciler.scene import Scene
from tests.support.processes import RedisServer
from tests.support.relay import Cut, Relay

pytest_plugins = ("tests.integration.conftest", "tests.integration.reconciler.conftest")


class Cutter:
    """Cuts the connection at one step, counted from 1; 0: never."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._lock = threading.Lock()
        self.steps: list[str] = []

    def step(self, what: str) -> None:
        with self._lock:
            self.steps.append(what)
            if len(self.steps) == self._at:
                raise Cut


async def play(scene: Scene, redis_server: RedisServer, at: int) -> list[str]:
    """The steps that there were."""
    cutter = Cutter(at)
    relay = Relay(redis_server.port, cutter.step)
    scene.go_through(relay.port)
    try:
        await scene.play()
    finally:
        relay.close()
    scene.go_through(redis_server.port)
    await scene.check()
    return cutter.steps


async def test_the_connection_breaks_at_any_write(scene: Scene, redis_server: RedisServer) -> None:
    """How many writes there are differs a little: passes that find nothing are made as time goes by."""
    steps = await play(scene, redis_server, at=0)
    done: list[str] = []
    for number in range(1, len(steps) + 1):
        await scene.begin()
        steps = await play(scene, redis_server, at=number)
        if len(steps) >= number:
            done.append(steps[number - 1])
    counts = {what: done.count(what) for what in sorted(set(done))}
    print(f"{len(done)} connections were cut: {counts}")  # noqa: T201
    assert {"before EVALSHA", "after EVALSHA", "before HDEL", "after HDEL"} <= set(counts)
