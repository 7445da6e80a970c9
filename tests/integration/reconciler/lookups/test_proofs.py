"""Proofs by DNS: our DNS plane as the server of the domain, and what the running reconciler does with its answers."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.asyncresolver
import pytest
from tfgateway.diagnosis import collect
from tfgateway.explorer.user import Account, proof_record
from tfgateway.identity import proof_token
from tfgateway.identity.keys import Identity
from tfgateway.reconciler import loop
from tfgateway.reconciler.lookups import cache, proofs
from tfgateway.reconciler.lookups.cache import Lookups
from tfgateway.reconciler.lookups.proofs import ProofResolver, name_lookups
from tfgateway.reconciler.planning.proofs import NameFacts
from tfgateway.redis_schema.keys import PROOFS, STATUS, service_key
from tfgateway.redis_schema.services import decode_service

from tests.integration.reconciler.scene import Gateway, Running
from tests.support.processes import CommandLine, Process, RedisServer
from tests.support.waiting import LIMIT, soon

ADDRESS = "127.0.0.1"
ZONE = "newcorp.example"
NAME = f"www.{ZONE}"
GATEWAY = Identity.from_seed(bytes(range(32)))
ALICE = Account(Identity.from_seed(bytes([7]) * 32), 7)


class Records(ProofResolver):
    """Counts what is not answered."""

    failed = 0

    async def facts(self, domain: str) -> NameFacts:
        try:
            return await super().facts(domain)
        except OSError:
            self.failed += 1
            raise


class Elsewhere:
    """The domain at its owner's DNS: another gateway's DNS plane, with a redis of its own."""

    def __init__(self, redis_server: RedisServer, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self._redis = redis_server
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [ADDRESS], port
        self.resolver = resolver
        self.records = Records(resolver)

    def stop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on nobody answers, and that is known soon."""
        self.process.stop()
        monkeypatch.setattr(proofs, "_QUERY_TIME", 0.2)

    def write(self, label: str, **records: object) -> None:
        with self._redis.client() as client:
            client.hset(f"{ZONE}.", label, json.dumps(records))

    async def serves(self, name: str, kind: str) -> None:
        """Wait until the plane has taken what was written."""

        async def found() -> bool:
            answer = await self.resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
            return bool(answer.response.answer)

        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    if await found():
                        return
                except dns.resolver.NXDOMAIN:
                    pass
                await asyncio.sleep(0.02)


@pytest.fixture
def elsewhere(
    tmp_path: Path, tfgateway: CommandLine, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Elsewhere]:
    monkeypatch.setattr(proofs, "_QUERY_TIME", LIMIT)  # a busy machine is no outage
    monkeypatch.setattr(cache, "_LOOKUP_TIME", LIMIT)
    (tmp_path / "elsewhere").mkdir()
    redis_server = RedisServer(free_port(), tmp_path / "elsewhere")
    redis_server.start()
    port, metrics = free_port(), free_port()
    with redis_server.client() as client:
        client.hset(f"{ZONE}.", "api", json.dumps({"a": [{"ip": "198.51.100.1", "ttl": 60}]}))
    config = f"""
redis.url = "{redis_server.url}"
gateway.name_servers = ["ns1.elsewhere.example"]
[dns]
workers = 1
listen = ["{ADDRESS}:{port}"]
metrics = "{ADDRESS}:{metrics}"
"""
    made = Elsewhere(redis_server, tfgateway("dns", config=config), port)
    yield made
    made.process.stop()
    redis_server.stop()


async def test_what_servers_say(elsewhere: Elsewhere) -> None:
    elsewhere.write("www", cname=[{"host": "NS1.gw1.example.", "ttl": 60}])
    elsewhere.write("six", aaaa=[{"ip": "2001:db8::1", "ttl": 60}])
    texts = ["v=spf1 -all", proof_token.record_text("a" * 32), "x" * 250, proof_token.record_text("b" * 32)]
    elsewhere.write("_tfgateway.www", txt=[{"text": text, "ttl": 60} for text in texts])
    await elsewhere.serves(f"_tfgateway.{NAME}", "TXT")
    facts = elsewhere.records.facts
    assert await facts(NAME) == NameFacts(
        aliases=frozenset({"ns1.gw1.example"}), tokens=frozenset({"a" * 32, "b" * 32}), complete=True
    )
    assert await facts(f"api.{ZONE}") == NameFacts(
        addresses=frozenset({ipaddress.ip_address("198.51.100.1")}), complete=True
    )
    assert await facts(f"six.{ZONE}") == NameFacts(
        addresses=frozenset({ipaddress.ip_address("2001:db8::1")}), complete=True
    )
    assert await facts(f"nowhere.{ZONE}") == NameFacts(complete=True)


async def test_who_does_not_answer_says_nothing(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    """REFUSED, no server at all, and names that are none: no denial, and no end of the reconciler."""
    names = ["refused.example", "a." * 200 + ZONE, f"x..{ZONE}"]
    found = name_lookups(elsewhere.records)
    await found.look_up(names)
    assert found.known() == dict.fromkeys(names, NameFacts())
    elsewhere.stop(monkeypatch)
    await found.look_up([f"api.{ZONE}"])
    assert found.known()[f"api.{ZONE}"] == NameFacts()


async def test_a_name_too_long_for_a_record_below_it(elsewhere: Elsewhere) -> None:
    name = ".".join([*["a" * 60] * 3, "b" * 50, ZONE])
    assert (len(name), proof_token.record_name(name)) == (249, "")
    assert await elsewhere.records.facts(name) == NameFacts(complete=True)


class ProvingGateway(Gateway):
    """One that wants proofs."""

    def __init__(self, directory: Path, redis_server: RedisServer, rogue: Any) -> None:
        section = 'proof = "dns"\npublic_addresses = ["198.51.100.1"]'
        super().__init__(directory, redis_server, rogue, seed=GATEWAY.seed, section=section)
        self.clock = 0.0
        """Of what is known by DNS."""

    def forget(self) -> None:
        """What DNS said before has to be looked up again."""
        self.clock += 301

    async def passes(self) -> None:
        """Wait until a pass has begun and ended."""
        for _ in range(2):
            before = self.redis.get(STATUS)
            await soon(lambda before=before: self.redis.get(STATUS) != before)

    def by(self, name: str) -> str | None:
        raw = self.redis.hget(PROOFS, name)
        return json.loads(raw)["by"] if raw else None


@pytest.fixture
def gateway(
    tmp_path: Path, redis_server: RedisServer, rogue: Any, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> ProvingGateway:
    made = ProvingGateway(tmp_path, redis_server, rogue)
    facts = elsewhere.records.facts
    monkeypatch.setattr(
        loop, "name_lookups", lambda _records: Lookups("not looked up", facts, NameFacts(), clock=lambda: made.clock)
    )
    return made


async def test_the_owner_of_a_domain_gets_it_and_keeps_it(
    gateway: ProvingGateway, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Running(gateway.settings):
        gateway.proxy(1, NAME, tid=8)
        gateway.proxy(2, f"api.{ZONE}", tid=8)
        await soon(lambda: (gateway.by("1-1"), gateway.by("2-1")) == ("none", "address"))
        gateway.proxy(3, NAME, tid=7)
        await soon(lambda: "3-1" in gateway.rogue.deleted)
        name, text = proof_record(ALICE, GATEWAY.node_id, NAME)
        assert f'TXT {name} "{text}"' in (gateway.message("3-1") or "")
        elsewhere.write("_tfgateway.www", txt=[{"text": text, "ttl": 60}])
        await elsewhere.serves(name, "TXT")
        gateway.forget()
        gateway.proxy(4, NAME, tid=7)
        await soon(lambda: gateway.message("4-1") == "")
        await soon(lambda: "1-1" in gateway.rogue.deleted)
        assert gateway.message("1-1") == f"DNS proves that {NAME} is to be another user's at this gateway"
        assert decode_service(gateway.redis.get(service_key(NAME))).user == "7"
        assert (gateway.by("4-1"), gateway.by("2-1")) == ("txt", "address")
        elsewhere.stop(monkeypatch)
        for failed in (2, 4):
            gateway.forget()
            await soon(lambda failed=failed: elsewhere.records.failed >= failed)
            await gateway.passes()
        assert (gateway.by("4-1"), gateway.by("2-1")) == ("txt", "address")
    seen = await collect.collect(gateway.settings)
    shown = {one.reservation.id: one.as_data()["proof"] for one in seen.reservations}
    assert (shown["4-1"]["by"], shown["2-1"]["by"]) == ("txt", "address")


async def test_a_single_pass_asks_before_it_decides(gateway: ProvingGateway, elsewhere: Elsewhere) -> None:
    gateway.proxy(1, NAME, tid=8)
    async with loop.opened(gateway.settings) as reconciler:
        await reconciler.once()
    name, text = proof_record(ALICE, GATEWAY.node_id, NAME)
    elsewhere.write("_tfgateway.www", txt=[{"text": text, "ttl": 60}])
    await elsewhere.serves(name, "TXT")
    gateway.proxy(2, NAME, tid=7)
    async with loop.opened(gateway.settings) as reconciler:
        plan = await reconciler.preview()
        assert [(step.id, str(step.action)) for step in plan.steps] == [("1-1", "refuse"), ("2-1", "deploy")]
