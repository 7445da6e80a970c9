"""One gateway's life with every kind of work, from an empty redis to a restart, for tests that get in its way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp.web import Request, Response, json_response
from tfgateway import settings
from tfgateway.diagnosis import collect
from tfgateway.errors import StoreError
from tfgateway.explorer.models import PROXY
from tfgateway.identity import seedfile
from tfgateway.reconciler import loop
from tfgateway.redis_schema.keys import OUTBOX, RELEASED_RESERVATIONS, RESERVATIONS, STATUS, ZONE_OWNERS

from tests.support.processes import RedisServer
from tests.support.waiting import soon

MANY = 5
"""Removals that are held back until an operator allows them."""


class Running:
    """A reconciler for as long as the block lasts."""

    def __init__(self, given: settings.Settings) -> None:
        self._opened = loop.opened(given)
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> None:
        reconciler = await self._opened.__aenter__()
        run = reconciler.run(stopping=self._stopping, ready=lambda: None, status=lambda _text: None)
        self._task = asyncio.create_task(run)

    async def __aexit__(self, *error: object) -> None:
        self._stopping.set()
        try:
            await self._task
        finally:
            await self._opened.__aexit__(None, None, None)


class Gateway:
    """Settings of a gateway, its redis, and an explorer that lists what the test has it list."""

    def __init__(self, directory: Path, redis_server: RedisServer, rogue: Any, *, seed: bytes, section: str) -> None:
        """section: lines of [gateway] besides."""
        self.redis = redis_server.client()
        self.rogue = rogue
        seed_file = directory / "identity.seed"
        seedfile.create(seed_file, seed)
        self.settings = settings.parse(
            f"""
identity.seed = "{seed_file}"
redis.url = "{redis_server.url}"
[gateway]
managed_domains = ["gw1.example"]
{section}
[explorer]
url = "{rogue.url}"
poll_interval = 0.05
long_poll = 0
[proxy]
allowed_targets = ["203.0.113.0/24"]
""".encode()
        )
        rogue.poll = lambda handler, _start: rogue.answer(handler, rogue.items(0))
        rogue.listing = []

    def proxy(self, number: int, domain: str, tid: int) -> None:
        """Have it list a proxy."""
        proxy = {"domain": domain, "addr": "203.0.113.10", "port": 80, "port_tls": 443}
        self.rogue.listing.append(self.rogue.workload(number, PROXY, customer_tid=tid, **proxy))

    def message(self, name: str) -> str | None:
        """Of the last result that it was given; None: of none yet."""
        answers = self.rogue.results.get(name)
        return json.loads(answers[-1])["message"] if answers else None


class Scene:
    """Deploys, refuses, repairs, removes, holds back, is allowed to, gives a domain up, registers and starts again."""

    def __init__(self, directory: Path, redis_server: RedisServer, rogue: Any) -> None:
        self.redis = redis_server.client()
        self.rogue = rogue
        self.geoip_url = ""
        self._seed = directory / "identity.seed"
        seedfile.create(self._seed, bytes(range(32)))
        self._port = redis_server.port
        self._asked = 0

    async def geoip(self, _request: Request) -> Response:
        """It answers one question, and then no more: what it said is remembered."""
        self._asked += 1
        known = {"city": "Gent", "country_name": "Belgium", "continent": "Europe"}
        return json_response(known, status=200 if self._asked == 1 else 500)

    @property
    def settings(self) -> settings.Settings:
        return self._settings("gw1.example")

    def go_through(self, port: int) -> None:
        """Reach redis by this port from now on."""
        self._port = port

    async def begin(self) -> None:
        """An empty redis but for a domain that was managed once, and that an operator is going to release."""
        self.redis.flushall()
        for told in (self.rogue.listing, self.rogue.results, self.rogue.deleted, self.rogue.registered):
            told.clear()
        self._asked = 0
        async with loop.opened(self._settings("gw1.example", "gw2.example")) as reconciler:
            await reconciler.once()

    def _settings(self, *domains: str) -> settings.Settings:
        text = f"""
identity.seed = "{self._seed}"
redis.url = "redis://127.0.0.1:{self._port}/0"
[gateway]
managed_domains = {json.dumps(domains)}
geoip = "{self.geoip_url}"
[explorer]
url = "{self.rogue.url}"
poll_interval = 0.05
long_poll = 0
[reconciler]
max_removal_count = 3
max_removal_share = 0.0
"""
        return settings.parse(text.encode())

    async def play(self) -> None:
        rogue = self.rogue
        rogue.poll = lambda handler, _start: rogue.answer(handler, rogue.items(0))
        many = range(10, 10 + MANY)
        rogue.listing = [
            *(rogue.subdomain(number, f"s{number}") for number in (1, 2, *many)),
            rogue.workload(3, 8, domain="alice.example"),
            rogue.workload(4, 12),
        ]
        async with self._running():
            # Deployed and refused.
            await self._answered(1, 2, 3, 4, *many)
            # What others changed is repaired.
            self.redis.hdel("gw1.example.", "s2")
            await soon(lambda: self.redis.hget("gw1.example.", "s2"))
            # News, of both kinds.
            rogue.listing.append(rogue.subdomain(5, "s5"))
            rogue.listing[0] = rogue.subdomain(1, "s1", action=4)
            await self._answered(5)
            await soon(lambda: "1-1" in rogue.deleted)
            # An operator's word about a domain.
            await self._operator(lambda command: command.release(frozenset({"gw2.example"}), {}))
            await soon(lambda: self.redis.hget(ZONE_OWNERS, "gw2.example") is None)
            # Too many removals, which an operator allows; the next one counts from there.
            rogue.listing[2 : 2 + MANY] = [rogue.subdomain(number, f"s{number}", action=4) for number in many]
            await soon(lambda: json.loads(self.redis.get(STATUS) or b"{}").get("held"))
            await self._operator(lambda command: command.permit())
            await soon(lambda: {f"{number}-1" for number in many} <= set(rogue.deleted))
            rogue.listing[1] = rogue.subdomain(2, "s2", action=4)
            await soon(lambda: "2-1" in rogue.deleted)
            await soon(lambda: not self.redis.exists(OUTBOX))
        # The explorer was restored from a backup without one of them.
        rogue.listing = [item for item in rogue.listing if item["id"] != 3]
        async with self._running():
            await soon(lambda: len(rogue.registered) == 2)
            rogue.listing.append(rogue.subdomain(6, "s6"))
            await self._answered(6)
            await self._operator(lambda command: command.release(frozenset(), {"3-1": "nobody knows it"}))
            await soon(lambda: not self.redis.exists(RELEASED_RESERVATIONS, OUTBOX))
        # `tfgateway state` asks redis as well, and says so when it could not.
        for _ in range(5):
            seen = await collect.collect(self.settings)
            if not any("redis cannot be asked" in problem for problem in seen.problems):
                return
        raise AssertionError(seen.problems)

    async def check(self) -> None:
        """All is done, told and served that was asked for, and a fresh look finds nothing more to do."""
        states = {name: answer["state"] for name, answer in self.answers().items()}
        many = [f"{number}-1" for number in range(10, 10 + MANY)]
        assert states == {"4-1": 0} | dict.fromkeys(["1-1", "2-1", "3-1", "5-1", "6-1", *many], 1)
        assert set(self.rogue.deleted) == {"1-1", "2-1", "4-1", *many}
        made = await self.plan()
        assert (made.steps, made.held, made.problems) == ((), None, ())
        assert self.served() == {
            "gw1.example.": {"__owner__", "s5", "s6"},
            "zone": {"gw1.example"},
            "managed_domains": {"s5.gw1.example", "s6.gw1.example"},
        }
        assert {name.decode() for name in self.redis.hkeys(RESERVATIONS)} == {"5-1", "6-1"}
        assert not self.redis.exists(OUTBOX)
        registered = [json.loads(body)["location"]["city"] for body in self.rogue.registered]
        assert registered[0] == "Gent"

    async def plan(self) -> Any:
        """Of somebody who looks for the first time."""
        async with loop.opened(self.settings) as fresh:
            return await fresh.preview()

    def answers(self) -> dict[str, dict[str, Any]]:
        """What the explorer was told, by gwid: all copies of an answer are the same bytes."""
        told = {}
        for name, bodies in self.rogue.results.items():
            assert len(set(bodies)) <= 1, f"{name} was answered in several ways: {bodies}"
            if bodies:
                told[name] = json.loads(bodies[0])
        return told

    def served(self) -> dict[str, set[str]]:
        """Fields by key, of all that planes serve."""
        keys = [key for key in self.redis.keys("*") if not key.startswith(b"tfgateway")]
        return {key.decode(): {field.decode() for field in self.redis.hkeys(key)} for key in keys}

    async def _answered(self, *numbers: int) -> None:
        await soon(lambda: all(self.rogue.results.get(f"{number}-1") for number in numbers))

    async def _operator(self, command: Callable[[loop.Reconciler], Awaitable[object]]) -> None:
        """Somebody who repeats a command that failed."""
        for last in (False, True):
            try:
                async with loop.opened(self.settings) as own:
                    await command(own)
            except StoreError:
                if last:
                    raise
            else:
                return

    def _running(self) -> Running:
        return Running(self.settings)
