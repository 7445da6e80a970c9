"""Explorers and redis servers at their worst, against the real `tfgateway reconcile`."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tfgateway.explorer.models import Subdomain
from tfgateway.identity import seedfile
from tfgateway.redis_schema.keys import OUTBOX, RESERVATIONS, STATUS

from tests.integration.reconciler.conftest import Fleet
from tests.support import metrics
from tests.support.processes import CommandLine, RedisServer
from tests.support.relay import Relay
from tests.support.waiting import until

Poll = Callable[[BaseHTTPRequestHandler, int], None]


class Gateway:
    """The reconciler between a redis of its own and the rogue."""

    def __init__(
        self, directory: Path, redis_server: RedisServer, tfgateway: CommandLine, rogue: Any, port: int
    ) -> None:
        self.redis_server = redis_server
        self._tfgateway = tfgateway
        seed = directory / "identity.seed"
        seedfile.create(seed, bytes(range(32)))
        self._metrics_port = port
        self.config = f"""
identity.seed = "{seed}"
gateway.managed_domains = ["gw1.example"]
gateway.geoip = ""
reconciler.metrics = "127.0.0.1:{port}"
[redis]
url = "{redis_server.url}"
timeout = 1
[explorer]
url = "{rogue.url}"
poll_interval = 0.1
long_poll = 1
timeout = 1
"""

    def start(self) -> Any:
        return self._tfgateway("reconcile", config=self.config)

    def problems(self) -> list[str]:
        """Of ``tfgateway state``."""
        ended = self._tfgateway.run("state", "--json", config=self.config)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)["problems"]

    def metric(self, name: str) -> float:
        return metrics.scrape(self._metrics_port)[name]

    def status(self) -> dict[str, Any]:
        with self.redis_server.client() as client:
            return json.loads(client.get(STATUS) or b"{}")

    def rows(self) -> dict[bytes, Any]:
        with self.redis_server.client() as client:
            keys = [key for key in client.keys("*") if not key.startswith(b"tfgateway:")]
            return {key: client.hgetall(key) for key in keys}

    def recorded(self) -> set[str]:
        with self.redis_server.client() as client:
            return {name.decode() for name in client.hkeys(RESERVATIONS)}

    def outbox(self) -> dict[bytes, bytes]:
        with self.redis_server.client() as client:
            return client.hgetall(OUTBOX)

    def waiting(self) -> int:
        return len(self.outbox())


@pytest.fixture
def gateway(
    tmp_path: Path, redis_server: RedisServer, tfgateway: CommandLine, rogue: Any, free_port: Callable[[], int]
) -> Gateway:
    return Gateway(tmp_path, redis_server, tfgateway, rogue, free_port())


def deep(rogue: Any) -> bytes:
    return b'[{"id":1,"domain":' + b"[" * 200_000 + b"]" * 200_000 + b"}]"


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(3)
    handler.close_connection = True


def dripping(handler: BaseHTTPRequestHandler, rogue: Any) -> None:
    """A byte now and then: each read succeeds, the whole never ends."""
    rogue.answer(handler, b"[", length=1000)
    for _ in range(30):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def bad(body: bytes, **members: Any) -> Callable[[Any], Poll]:
    return lambda rogue: lambda handler, _start: rogue.answer(handler, body, **members)


def queue(rogue: Any) -> Poll:
    """What is to be done comes with every poll, of any id."""
    return lambda handler, _start: rogue.answer(handler, rogue.items(0))


BAD: dict[str, Callable[[Any], Poll]] = {
    "500": bad(b'{"error":"boom"}', status=500),
    "500 without a word": bad(b"", status=500),
    "HTML": bad(b"<html>gateway time-out</html>"),
    "a proxy's 404": bad(b"<html>not found</html>", status=404),
    "its own 404": bad(b'{"error":"node not found"}', status=404),
    "a redirection": bad(b"", status=302),
    "truncated": lambda rogue: lambda handler, start: rogue.answer(handler, rogue.items(0)[:-20], length=10**6),
    "truncated, yet complete": lambda rogue: lambda handler, start: rogue.answer(handler, rogue.items(0)[:-20]),
    "nothing at all": bad(b""),
    "null": bad(b"null"),
    "an object": bad(b'{"id":1}'),
    "a list of everything else": bad(
        b'[null,true,1e999,"x",[],{},{"id":"x"},{"id":1},{"id":-1},{"id":99999999999999999999}]'
    ),
    "not UTF-8": bad(b'[{"id":1,"domain":"\xff\xfe"}]'),
    "nesting without end": lambda rogue: bad(deep(rogue))(rogue),
    "more than it may be": bad(b"[" + b" " * (17 * 1024 * 1024) + b"]"),
    "an empty list": bad(b"[]"),
    "an empty list, far ahead": bad(b"[]", last=10**17),
    "no x-last-id": bad(b"[]", last="no number"),
    "silence": lambda rogue: lambda handler, _start: silent(handler),
    "drops": lambda rogue: lambda handler, _start: dripping(handler, rogue),
}


@pytest.mark.parametrize("how", BAD)
def test_p15_p23_a_bad_answer_changes_nothing_and_is_got_over(gateway: Gateway, rogue: Any, how: str) -> None:
    rogue.listing = [rogue.subdomain(1, "one"), rogue.workload(2, 8, domain="alice.example")]
    process = gateway.start()
    until(lambda: gateway.recorded() == {"1-1", "2-1"} and not gateway.waiting(), "deployed")
    before = gateway.rows()
    rogue.poll, asked = BAD[how](rogue), rogue.asked
    process.stop()
    # Once more from nothing, so that the bad answer stands where the listing should.
    process = gateway.start()
    until(lambda: rogue.asked > asked + 1, "asked again")
    until(lambda: gateway.status().get("last_poll"), "looked again")
    assert gateway.rows() == before
    assert not rogue.deleted
    rogue.poll = None
    rogue.listing.append(rogue.subdomain(3, "three"))
    until(lambda: rogue.results["3-1"], "what comes after it is deployed")
    until(lambda: gateway.status()["last_error"] == "", "all is well again")
    assert set(rogue.results) == {"1-1", "2-1", "3-1"}
    assert not rogue.deleted
    assert "Traceback" not in process.log


def test_p1_p2_a_poisoned_workload_is_answered_and_the_others_are_served(gateway: Gateway, rogue: Any) -> None:
    rogue.listing = [
        rogue.workload(1, 12),
        rogue.workload(2, 6, domain="r.gw1.example", secret="ab" * 10),
        rogue.workload(3, 7, domain=["gw1.example"], ips={"a": 1}),
        rogue.workload(4, 7, domain="\x00\x1b[2J.gw1.example", ips=["203.0.113.5"] * 1000),
        rogue.workload(5, -1),
        rogue.workload(6, 5, domain="p.gw1.example", addr="203.0.113.9", port=2**31, port_tls=0),
        rogue.workload(7, 9, public_key="x"),
        rogue.workload(8, 8, domain="." * 10_000),
        rogue.subdomain(9, "good"),
    ]
    process = gateway.start()
    until(lambda: rogue.results["9-1"], "the good one is answered")
    assert json.loads(rogue.results["9-1"][0])["state"] == 1
    bad = {f"{number}-1" for number in range(1, 9)}
    until(lambda: bad <= set(rogue.deleted), "the bad ones are answered and reported as gone")
    assert all(json.loads(rogue.results[name][0])["state"] == 0 for name in bad)
    assert gateway.recorded() == {"9-1"}
    assert process.running
    assert "Traceback" not in process.log


def test_p8_ids_that_go_backwards_lose_nothing(gateway: Gateway, rogue: Any) -> None:
    """Its database was restored: what is new has lower ids than what was."""
    rogue.listing = [rogue.subdomain(500, "one")]
    process = gateway.start()
    until(lambda: rogue.results["500-1"], "deployed")
    rogue.listing = [rogue.subdomain(7, "seven")]
    process.stop()
    gateway.start()
    until(lambda: rogue.results["7-1"], "the lower id is deployed")
    assert gateway.recorded() == {"500-1", "7-1"}, "what it does not know any more stays"
    assert not rogue.deleted


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-7 * 60, "this node's clock is 7 minutes ahead of the explorer's"),
        (3 * 3600, "this node's clock is 3 hours behind the explorer's"),
    ],
)
def test_clocks_that_differ_are_told_in_words(gateway: Gateway, rogue: Any, seconds: int, words: str) -> None:
    rogue.ahead = seconds
    rogue.listing = [rogue.subdomain(1, "one")]
    process = gateway.start()
    process.wait_log(f'"reason": "{words}", "event": "clocks differ"')
    until(lambda: gateway.status().get("clock") == words, "it stands in the status")
    assert abs(gateway.metric("tfgateway_reconciler_clock_ahead_seconds") + seconds) < 10
    assert words in gateway.problems()
    until(lambda: rogue.results["1-1"], "served all the same")
    rogue.ahead = 0
    until(lambda: gateway.status()["clock"] == "", "they agree again")
    assert abs(gateway.metric("tfgateway_reconciler_clock_ahead_seconds")) < 10
    assert [problem for problem in gateway.problems() if "clock" in problem] == []
    assert process.log.count("clocks differ") == 1, "not with every poll"


def test_an_explorer_that_is_down_at_the_start_and_for_long(fleet: Fleet) -> None:
    mine = {"node_id": fleet.node_id, "ips": ("203.0.113.5",)}
    process = fleet.start()
    fleet.deployed(fleet.reserve(Subdomain(domain="www.gw1.example", **mine)))
    process.stop()
    fleet.explorer.stop()
    with fleet.redis() as client:
        client.hdel("gw1.example.", "www")
    process = fleet.start()
    until(lambda: fleet.get("gw1.example.", "www"), "what is recorded is repaired without it")
    process.wait_for(lambda: process.log.count("poll failed") > 5, "many failed polls")
    status = json.loads(fleet.get(STATUS))
    assert status["last_error"]
    assert status["last_success"] == 0
    fleet.start_explorer()
    fleet.deployed(fleet.reserve(Subdomain(domain="later.gw1.example", **mine)))


def test_p16_what_waits_while_the_explorer_is_away_arrives_exactly_once(gateway: Gateway, rogue: Any) -> None:
    """A result and a deletion were decided, and then nobody answers for long, over a kill."""
    rogue.listing = [rogue.subdomain(1, "one")]
    process = gateway.start()
    until(lambda: rogue.results["1-1"] and not gateway.waiting(), "deployed")
    rogue.deaf = True
    rogue.poll = queue(rogue)
    rogue.listing = [rogue.subdomain(1, "one", action=4), rogue.subdomain(2, "two")]
    until(lambda: gateway.recorded() == {"2-1"}, "one removed, two deployed")
    rogue.away = True
    until(lambda: gateway.status()["outbox"] == 2, "both wait")
    waiting = gateway.outbox()
    process.wait_for(lambda: process.log.count("poll failed") > 5, "many failed polls")
    process.kill()
    missed = rogue.missed
    process = gateway.start()
    process.wait_for(lambda: process.log.count("poll failed") > 5, "many failed polls")
    assert rogue.missed > missed
    assert gateway.outbox() == waiting, "the very same bytes"
    assert (rogue.deleted, rogue.results["2-1"]) == ([], [])
    rogue.deaf = rogue.away = False
    until(lambda: rogue.deleted and rogue.results["2-1"] and not gateway.waiting(), "both arrived")
    asked = rogue.asked
    until(lambda: rogue.asked > asked + 3 and gateway.status()["last_error"] == "", "some polls later")
    assert rogue.deleted == ["1-1"]
    assert {name: len(bodies) for name, bodies in rogue.results.items()} == {"1-1": 1, "2-1": 1}
    assert process.running


def test_p3_p25_a_full_redis_answers_nobody_wrongly(gateway: Gateway, rogue: Any) -> None:
    rogue.listing = [rogue.subdomain(1, "one")]
    process = gateway.start()
    until(lambda: rogue.results["1-1"] and not gateway.waiting(), "deployed")
    with gateway.redis_server.client() as client:
        client.config_set("maxmemory", "1")
        before = gateway.rows()
        rogue.listing += [rogue.subdomain(2, "two"), rogue.workload(3, 12)]
        process.wait_for(lambda: process.log.count("maxmemory") > 3, "some passes")
        assert gateway.rows() == before
        assert set(rogue.results) == {"1-1"}
        client.config_set("maxmemory", "0")
    until(lambda: rogue.results["2-1"] and "3-1" in rogue.deleted, "caught up")
    assert json.loads(rogue.results["2-1"][0])["state"] == 1
    assert gateway.recorded() == {"1-1", "2-1"}


def test_p3_a_redis_that_hangs_is_given_up_and_got_over(gateway: Gateway, rogue: Any) -> None:
    rogue.listing = [rogue.subdomain(1, "one")]
    process = gateway.start()
    until(lambda: rogue.results["1-1"], "deployed")
    os.kill(gateway.redis_server.pid, signal.SIGSTOP)
    try:
        rogue.listing.append(rogue.subdomain(2, "two"))
        process.wait_log("pass ended early")
    finally:
        os.kill(gateway.redis_server.pid, signal.SIGCONT)
    until(lambda: rogue.results["2-1"], "deployed")
    assert {json.loads(body)["state"] for bodies in rogue.results.values() for body in bodies} == {1}


def test_p3_a_redis_that_is_late_every_time_is_waited_for(gateway: Gateway, rogue: Any) -> None:
    """Nearly as late as the time-out allows: all takes its time, nothing fails."""
    relay = Relay(gateway.redis_server.port, late=0.3)
    gateway.config = gateway.config.replace(gateway.redis_server.url, f"redis://127.0.0.1:{relay.port}/0")
    rogue.listing = [rogue.subdomain(1, "one")]
    process = gateway.start()
    until(lambda: rogue.results["1-1"] and not gateway.waiting(), "deployed")
    rogue.poll = queue(rogue)
    rogue.listing = [rogue.subdomain(1, "one", action=4), rogue.subdomain(2, "two"), rogue.workload(3, 12)]
    until(lambda: rogue.results["2-1"] and set(rogue.deleted) == {"1-1", "3-1"}, "news and deletions")
    until(lambda: not gateway.waiting(), "all acknowledged")
    assert gateway.recorded() == {"2-1"}
    states = {name: [json.loads(body)["state"] for body in bodies] for name, bodies in rogue.results.items()}
    assert states == {"1-1": [1], "2-1": [1], "3-1": [0]}
    assert gateway.status()["last_error"] == ""
    for trouble in ("pass ended early", "waiting for redis", "outbox cannot be read", "lease"):
        assert trouble not in process.log
    assert process.stop() == 0
    relay.close()


def test_p14_a_redis_that_was_killed_and_lost_everything_is_filled_again(gateway: Gateway, rogue: Any) -> None:
    rogue.listing = [rogue.workload(1, 8, domain="alice.example"), rogue.subdomain(2, "two")]
    gateway.start()
    until(lambda: len(gateway.recorded()) == 2 and not gateway.waiting(), "deployed")
    before = gateway.rows()
    gateway.redis_server.kill()
    gateway.redis_server.forget()
    gateway.redis_server.start()
    until(lambda: gateway.recorded() == {"1-1", "2-1"}, "filled again")
    after = gateway.rows()
    before.pop(RESERVATIONS.encode())  # the times of the answers differ
    after.pop(RESERVATIONS.encode())
    assert after == before
    assert {name: len(set(bodies)) for name, bodies in rogue.results.items()} == {"1-1": 1, "2-1": 1}
    assert not rogue.deleted
