"""`tfgateway state` on a node with all its processes: every verdict is provoked."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

from tfgateway.explorer.models import DomainDelegate, Proxy, ReverseProxy, Subdomain, UnknownWorkload
from tfgateway.explorer.user import encrypted_secret
from tfgateway.redis_schema.keys import OUTBOX, RESERVATIONS

from tests.integration.reconciler.conftest import Fleet
from tests.support import metrics
from tests.support.waiting import until


def one(state: dict[str, Any], domain: str) -> dict[str, Any]:
    return next(found for found in state["reservations"] if found["domain"] == domain)


def gauges(fleet: Fleet, name: str) -> dict[str, float]:
    """Label -> value."""
    found = metrics.scrape(fleet.ports["rm"])
    return {key[len(name) + 1 : -1]: value for key, value in found.items() if key.startswith(f"{name}{{")}


def reserve(fleet: Fleet, web: int) -> list[int]:
    mine = {"node_id": fleet.node_id}
    return [
        fleet.reserve(DomainDelegate(domain="alice.example", **mine)),
        fleet.reserve(Subdomain(domain="www.alice.example", ips=("203.0.113.5", "2001:db8::5"), **mine)),
        fleet.reserve(Subdomain(domain="web.gw1.example", ips=("203.0.113.6",), **mine)),
        fleet.reserve(Proxy(domain="web.gw1.example", addr="127.0.0.1", port=web, **mine)),
        fleet.reserve(Proxy(domain="tls.alice.example", addr="127.0.0.1", port_tls=fleet.ports["web"], **mine)),
    ]


def test_a_node_in_sync_and_each_way_to_be_out_of_it(fleet: Fleet, web: Any) -> None:
    plane = fleet.start("dns")
    fleet.start("proxy")
    process = fleet.start("reconcile")
    numbers = reserve(fleet, web.port)
    for number in numbers:
        fleet.deployed(number)
    web.start_tls(fleet.ports["web"])
    state = until(lambda: (found := fleet.state())["in_sync"] and found, "in sync")
    assert state["node_id"] == fleet.node_id
    assert state["summary"] == {
        "in_sync": 5,
        "pending": 0,
        "missing": 0,
        "drifted": 0,
        "orphaned": 0,
        "failed": 0,
        "unreported": 0,
        "target_down": 0,
    }
    assert state["problems"] == []
    assert [found["served"] for found in state["reservations"]] == [True] * 5
    assert one(state, "www.alice.example") == {
        "id": "2-1",
        "type": "subdomain",
        "domain": "www.alice.example",
        "user": "2",
        "verdict": "in_sync",
        "message": "",
        "explorer": {"next_action": 3, "result_state": 1},
        "recorded": True,
        "redis": True,
        "served": True,
        "proof": None,
        "tunnel": None,
    }
    until(lambda: gauges(fleet, "tfgateway_reconciler_verdicts")['verdict="in_sync"'] == 5, "told by the metrics too")
    human = fleet.run("state")
    assert human.returncode == 0
    assert f"{fleet.node_id}: in sync: 5 reservations: 5 in_sync" in human.stdout
    assert "www.alice.example" in human.stdout
    fares = r"last poll +last success +outbox +drift repaired +directory *\n\d+ s ago +\d+ s ago +0 +0 +listed *\n"
    until(lambda: re.search(fares, fleet.run("state").stdout), "how the reconciler fares")

    process.stop()
    with fleet.redis() as client:
        # missing, drifted
        client.delete("/tcprouter/service/web.gw1.example")
        client.hset("alice.example.", "www", '{"a":[{"ip":"198.51.100.66","ttl":1}]}')
        # unreported: an answer is still on its way
        client.hset(OUTBOX, "deleted:3-1", '{"since":1}')
    mine = {"node_id": fleet.node_id}
    waiting = fleet.reserve(Subdomain(domain="new.gw1.example", ips=("203.0.113.9",), **mine))
    fleet.delete(numbers[0])
    state = fleet.state()
    assert not state["in_sync"]
    verdicts = {found["id"]: found["verdict"] for found in state["reservations"]}
    assert verdicts == {
        "1-1": "pending",
        "2-1": "drifted",
        "3-1": "unreported",
        "4-1": "missing",
        "5-1": "in_sync",
        f"{waiting}-1": "pending",
    }
    assert one(state, "new.gw1.example")["explorer"] == {"next_action": 3, "result_state": None}
    assert one(state, "www.alice.example")["served"] is False

    os.kill(plane.workers[0], signal.SIGKILL)

    def told() -> dict[str, Any] | None:
        figures = fleet.state()["dns"]
        return figures if figures["worker_restarts"] and figures["zones"] else None

    figures = until(told, "the plane's figures")
    counts = {(found["transport"], found["type"], found["rcode"]): found["count"] for found in figures["queries"]}
    assert counts["udp", "A", "NOERROR"] > 0
    assert figures["worker_restarts"] == [{"reason": "end", "count": 1}]
    assert (figures["drops"], figures["rate_limited"]) == ([], [])
    assert 0 <= figures["mirror_age"] < 60
    assert (figures["zones"], figures["names"] > 2) == (2, True)
    assert 0 < figures["latency"]["0.1"] <= figures["latency"]["+Inf"]
    assert figures["latency_sum"] > 0
    plane.stop()
    assert fleet.state()["dns"] is None


def test_whose_fault_it_is_that_a_proxy_is_not_served(fleet: Fleet, web: Any) -> None:
    strict = fleet.tfgateway("proxy", config=fleet.config().replace('"127.0.0.1/32", ', ""))
    fleet.start("reconcile")
    mine = {"node_id": fleet.node_id}
    web.start_tls(fleet.ports["web"])
    account = fleet.register("alice")
    secret = encrypted_secret(account, fleet.node_id, f"{account.tid}:hidden-from-everybody")
    for proxy in (
        Proxy(domain="both.gw1.example", addr="127.0.0.1", port=web.port, port_tls=fleet.ports["web"], **mine),
        Proxy(domain="http.gw1.example", addr="127.0.0.1", port=web.port, **mine),
        Proxy(domain="tls.gw1.example", addr="127.0.0.1", port_tls=fleet.ports["web"], **mine),
        Proxy(domain="nowhere.gw1.example", addr="2001:db8::1", port=80, port_tls=443, **mine),
        ReverseProxy(domain="home.gw1.example", secret=secret, **mine),
    ):
        fleet.deployed(fleet.reserve(proxy))
    local = ["both.gw1.example", "http.gw1.example", "tls.gw1.example"]

    # The proxy's: it runs with other settings, and does not lead anybody to a target that can be reached.
    state = fleet.state()
    assert {domain: one(state, domain)["verdict"] for domain in local} == dict.fromkeys(local, "missing")
    assert one(state, "tls.gw1.example")["message"] == "the gateway does not answer for it"
    assert one(state, "nowhere.gw1.example")["verdict"] == "target_down"
    assert (state["in_sync"], state["problems"]) == (False, [])

    # The proxy's: it does not run, which is said once.
    strict.stop()
    state = fleet.state()
    where = f"127.0.0.1:{fleet.ports['http']}"
    assert state["problems"] == [f"the proxy does not run: nothing answers at {where}"]
    assert {found["verdict"] for found in state["reservations"]} == {"missing"}
    assert {found["message"] for found in state["reservations"]} == {"the plane that serves it does not run"}

    # Nobody's, and then the targets'.
    fleet.start("proxy")
    home = {"home.gw1.example": "in_sync", "nowhere.gw1.example": "target_down"}
    until(lambda: fleet.verdicts() == dict.fromkeys(local, "in_sync") | home, "served")
    web.stop()
    state = fleet.state()
    assert {found["domain"]: found["verdict"] for found in state["reservations"]} == dict.fromkeys(
        local, "target_down"
    ) | home
    assert one(state, "both.gw1.example") | {"explorer": None} == {
        "id": "1-1",
        "type": "proxy",
        "domain": "both.gw1.example",
        "user": "2",
        "verdict": "target_down",
        "message": "its target does not answer",
        "explorer": None,
        "recorded": True,
        "redis": True,
        "served": False,
        "proof": None,
        "tunnel": None,
    }
    assert state["in_sync"], "what users break is not the gateway's fault"
    assert state["summary"]["target_down"] == 4


def test_planes_that_are_away_are_missing(fleet: Fleet) -> None:
    fleet.start("reconcile")
    mine = {"node_id": fleet.node_id}
    fleet.deployed(fleet.reserve(DomainDelegate(domain="alice.example", **mine)))
    fleet.deployed(fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), **mine)))
    until(lambda: fleet.verdicts()["www.gw1.example"] == "missing", "reported, but not served")
    state = fleet.state()
    assert one(state, "alice.example")["message"] == "the plane that serves it does not run"
    assert state["problems"] == [f"DNS does not run: nothing answers at 127.0.0.1:{fleet.ports['dns']}"]


def test_a_refused_one_is_failed_until_the_explorer_has_the_answer(fleet: Fleet) -> None:
    reconciler = fleet.start("reconcile")
    fleet.registered()
    reconciler.stop()
    fleet.reserve(UnknownWorkload(workload_type=12, node_id=fleet.node_id))
    with fleet.redis() as client:
        result = {"category": 12, "state": 0, "message": "no such thing", "data": "null", "signature": "", "epoch": 1}
        client.hset(OUTBOX, mapping={"result:1-1": json.dumps(result), "deleted:1-1": "{}"})
    state = fleet.state()
    assert [(found["verdict"], found["message"]) for found in state["reservations"]] == [("failed", "no such thing")]


def test_what_the_explorer_does_not_know_is_orphaned_and_damage_is_told(fleet: Fleet) -> None:
    fleet.start("reconcile")
    fleet.deployed(fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), node_id=fleet.node_id)))
    with fleet.redis() as client:
        raw = client.hget(RESERVATIONS, "1-1")
        client.hset(RESERVATIONS, "77-1", raw.replace(b'"1-1"', b'"77-1"').replace(b"www.gw1", b"old.gw1"))
        client.hset(RESERVATIONS, "78-1", "garbage")
    state = fleet.state()
    assert one(state, "old.gw1.example")["verdict"] == "orphaned"
    assert {found["id"]: found["verdict"] for found in state["reservations"]}["78-1"] == "orphaned"
    assert any("record 78-1 cannot be read" in text for text in state["problems"])
    until(lambda: gauges(fleet, "tfgateway_reconciler_verdicts")['verdict="orphaned"'] == 2, "told by the metrics too")


def test_one_of_explorer_and_redis_is_enough_to_judge(fleet: Fleet) -> None:
    fleet.start("dns")
    process = fleet.start("reconcile")
    fleet.deployed(fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), node_id=fleet.node_id)))
    until(lambda: fleet.verdicts() == {"www.gw1.example": "in_sync"}, "served")
    process.stop()
    fleet.explorer.stop()
    without_explorer = fleet.state()
    assert not without_explorer["in_sync"]
    assert any("the explorer cannot be asked" in text for text in without_explorer["problems"])
    assert one(without_explorer, "www.gw1.example")["explorer"] is None
    fleet.start_explorer()
    fleet.redis_server.stop()
    without_redis = fleet.state()
    assert not without_redis["in_sync"]
    assert any("redis cannot be asked" in text for text in without_redis["problems"])
    assert one(without_redis, "www.gw1.example")["served"] is True
    fleet.explorer.stop()
    ended = fleet.run("state", "--json")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("tfgateway: error: redis cannot be asked: ")
    assert "the explorer cannot be asked" in ended.stderr


def test_a_reconciler_that_never_ran_is_a_problem(fleet: Fleet) -> None:
    state = fleet.state()
    assert state["reservations"] == []
    assert state["problems"] == ["the reconciler has not written its status yet"]
    assert not state["in_sync"]
