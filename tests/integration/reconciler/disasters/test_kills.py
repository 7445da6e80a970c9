"""``kill -9`` at every single write to redis and every answer to the explorer, before and after it took effect."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tfgateway.identity import seedfile
from tfgateway.redis_schema.keys import OUTBOX, RESERVATIONS
from tfgateway.redis_schema.reservations import decode_reservation

from tests.support.processes import CommandLine, RedisServer
from tests.support.relay import Cut, Relay


class Killer:
    """Counts the steps of a process; kills it at the one it is armed for."""

    def __init__(self) -> None:
        self.pid = 0
        self.steps: list[str] = []
        self._at = 0
        self._lock = threading.Lock()

    def arm(self, at: int) -> None:
        self.steps = []
        self._at = at

    def step(self, what: str) -> None:
        with self._lock:
            self.steps.append(what)
            if len(self.steps) == self._at:
                os.kill(self.pid, signal.SIGKILL)
            if 0 < self._at <= len(self.steps):
                raise Cut


class Scene:
    """A gateway that has one reservation and is about to remove it, deploy two and refuse one."""

    def __init__(self, directory: Path, redis_server: RedisServer, tfgateway: CommandLine, rogue: Any) -> None:
        self.killer = Killer()
        self.redis = redis_server.client()
        self.relay = Relay(redis_server.port, self.killer.step)
        self._tfgateway = tfgateway
        self._rogue = rogue
        rogue.step = self.killer.step
        seed = directory / "identity.seed"
        seedfile.create(seed, bytes(range(32)))
        self._config = f"""
identity.seed = "{seed}"
redis.url = "redis://127.0.0.1:{self.relay.port}/0"
explorer.url = "{rogue.url}"
gateway.managed_domains = ["gw1.example"]
gateway.geoip = ""
"""
        rogue.listing = [rogue.subdomain(1, "old")]
        self.run()
        self._before = {key: self.redis.dump(key) for key in self.redis.keys("*")}
        self._answers = {name: list(bodies) for name, bodies in rogue.results.items()}
        rogue.listing = [
            rogue.subdomain(1, "old", action=4),
            rogue.workload(2, 8, domain="alice.example"),
            rogue.subdomain(3, "new"),
            rogue.workload(4, 12),
        ]

    def reset(self) -> None:
        self.redis.flushall()
        for key, value in self._before.items():
            self.redis.restore(key, 0, value)
        self._rogue.deleted.clear()
        self._rogue.results.clear()
        self._rogue.results.update({name: list(bodies) for name, bodies in self._answers.items()})

    def run(self, kill_at: int = 0) -> None:
        """One pass, killed at that step; 0: not at all."""
        self.killer.arm(kill_at)
        process = self._tfgateway("reconcile", "--once", config=self._config, ready=False)
        self.killer.pid = process.pid
        assert process.wait() in ((0,) if not kill_at else (0, -signal.SIGKILL)), process.log

    def rows(self) -> dict[bytes, Any]:
        """What is served and recorded, but for the time of the answers."""
        found: dict[bytes, Any] = {}
        for key in self.redis.keys("*"):
            if key == RESERVATIONS.encode():
                for name, raw in self.redis.hgetall(key).items():
                    record = decode_reservation(raw)
                    assert record.result is not None
                    found[name] = (record.data, record.user_id, record.result.state, record.result.signature)
            elif not key.startswith(b"tfgateway:"):
                found[key] = self.redis.hgetall(key) if self.redis.type(key) == b"hash" else self.redis.get(key)
        return found

    def told(self) -> dict[str, Any]:
        """What the explorer was told; all copies of an answer are the same bytes."""
        answers = {}
        for name, bodies in self._rogue.results.items():
            assert len(set(bodies)) == 1, name
            answers[name] = {key: value for key, value in json.loads(bodies[0]).items() if key != "epoch"}
        return {"answers": answers, "deleted": set(self._rogue.deleted)}


@pytest.fixture
def scene(tmp_path: Path, redis_server: RedisServer, tfgateway: CommandLine, rogue: Any) -> Iterator[Scene]:
    made = Scene(tmp_path, redis_server, tfgateway, rogue)
    yield made
    made.relay.close()
    made.redis.close()


def test_p16_p25_a_kill_at_any_step_changes_nothing_in_the_end(scene: Scene) -> None:
    scene.reset()
    scene.run()
    steps = list(scene.killer.steps)
    rows, told = scene.rows(), scene.told()
    assert set(told["answers"]) == {"1-1", "2-1", "3-1", "4-1"}
    assert told["deleted"] == {"1-1", "4-1"}
    for kind in ("EVALSHA", "HDEL", "PUT", "DELETE"):
        assert {f"before {kind}", f"after {kind}"} <= set(steps)
    for number in range(1, len(steps) + 1):
        scene.reset()
        scene.run(kill_at=number)
        where = scene.killer.steps[-1] if scene.killer.steps else "the start"
        scene.run()
        assert scene.rows() == rows, f"killed {where} ({number})"
        assert scene.told() == told, f"killed {where} ({number})"
        assert scene.redis.hlen(OUTBOX) == 0
