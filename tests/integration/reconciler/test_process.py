"""The real `tfgateway reconcile` between a real redis and a real explorer."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import Any

from tfgateway.explorer.models import DomainDelegate, NextAction, Proxy, ResultState, Subdomain, UnknownWorkload
from tfgateway.redis_schema.keys import OUTBOX, RELEASED, RESERVATIONS, SAMPLES, STATUS
from tfgateway.redis_schema.records import owner_record

from tests.integration.reconciler.conftest import Fleet
from tests.support.waiting import until


def snapshot(fleet: Fleet) -> dict[bytes, Any]:
    """All that is served and recorded; not what the loop writes about itself, nor times of results."""
    with fleet.redis() as client:
        found = {}
        for key in client.keys("*"):
            if not key.startswith(b"tfgateway"):
                found[key] = client.hgetall(key) if client.type(key) == b"hash" else client.get(key)
        return {**found, b"records": sorted(client.hkeys(RESERVATIONS))}


def test_reservations_are_deployed_and_removed(fleet: Fleet) -> None:
    process = fleet.start()
    empty = snapshot(fleet)
    mine = {"node_id": fleet.node_id}
    numbers = [
        fleet.reserve(DomainDelegate(domain="alice.example", **mine)),
        fleet.reserve(Subdomain(domain="www.alice.example", ips=("203.0.113.5", "2001:db8::5"), **mine)),
        fleet.reserve(Subdomain(domain="web.gw1.example", ips=("203.0.113.6",), **mine)),
        fleet.reserve(Proxy(domain="web.gw1.example", addr="203.0.113.10", port=80, port_tls=443, **mine)),
    ]
    for number in numbers:
        assert fleet.deployed(number).result.state == ResultState.OK
    assert fleet.get("alice.example.", "www") == (
        b'{"a":[{"ip":"203.0.113.5","ttl":3600}],"aaaa":[{"ip":"2001:db8::5","ttl":3600}]}'
    )
    assert fleet.get("/tcprouter/service/web.gw1.example") is not None
    for number in reversed(numbers):
        fleet.delete(number)
    for number in numbers:
        assert fleet.gone(number).result.state == ResultState.DELETED
    until(lambda: snapshot(fleet) == empty, "no trace is left")
    assert process.stop() == 0
    assert "Traceback" not in process.log


def test_bad_reservations_get_a_reason_and_the_others_are_deployed(fleet: Fleet) -> None:
    mine = {"node_id": fleet.node_id}
    fleet.start()
    fleet.register("bob")
    fleet.deployed(fleet.reserve(DomainDelegate(domain="bob.example", **mine), "bob"))
    bad = {
        fleet.reserve(DomainDelegate(domain="in valid", **mine)): "domain 'in valid' name is invalid",
        fleet.reserve(
            Subdomain(domain="www.bob.example", ips=("203.0.113.5",), **mine)
        ): "cannot add subdomain www to zone bob.example: unauthorized error",
        fleet.reserve(
            Subdomain(domain="www.gw1.example", ips=("203.0.113",), **mine)
        ): "incorrect format for domain www.gw1.example: '203.0.113' is not an IP address",
        fleet.reserve(UnknownWorkload(workload_type=12, **mine)): "type of reservation not supported: virtual_machine",
        fleet.reserve(
            Proxy(domain="internal.gw1.example", addr="169.254.169.254", port=80, **mine)
        ): "cannot add proxy from internal.gw1.example: target '169.254.169.254' is a link-local address",
    }
    good = fleet.reserve(Subdomain(domain="good.gw1.example", ips=("203.0.113.7",), **mine))
    fleet.deployed(good)
    for number, message in bad.items():
        workload = fleet.gone(number)
        assert workload.result.message == message
        assert workload.result.state == ResultState.DELETED
    assert fleet.get("gw1.example.", "good") is not None


def test_p14_a_flushed_redis_is_filled_again(fleet: Fleet) -> None:
    mine = {"node_id": fleet.node_id}
    process = fleet.start()
    numbers = [
        fleet.reserve(DomainDelegate(domain="alice.example", **mine)),
        fleet.reserve(Subdomain(domain="www.alice.example", ips=("203.0.113.5",), **mine)),
        fleet.reserve(Proxy(domain="www.alice.example", addr="203.0.113.10", port=80, **mine)),
    ]
    for number in numbers:
        fleet.deployed(number)
    before = snapshot(fleet)
    with fleet.redis() as client:
        client.flushall()
    until(lambda: snapshot(fleet) == before, "everything is back")
    # And after a restart of both, with redis empty again.
    process.stop()
    with fleet.redis() as client:
        client.flushall()
    ended = fleet.run("reconcile", "--once", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["summary"] == {"claim": 1, "deploy": 3}
    assert snapshot(fleet) == before
    assert fleet.get(OUTBOX) is None
    for number in numbers:
        assert fleet.workload(number).next_action == NextAction.DEPLOY


def test_an_explorer_that_is_away_changes_nothing(fleet: Fleet) -> None:
    mine = {"node_id": fleet.node_id}
    process = fleet.start()
    first = fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), **mine))
    fleet.deployed(first)
    before = snapshot(fleet)
    process.stop()
    fleet.explorer.stop()
    # Started without an explorer it is ready, and repairs what it knows.
    with fleet.redis() as client:
        client.delete("gw1.example.")
    process = fleet.start()
    until(lambda: snapshot(fleet) == before, "repaired from the record")
    until(lambda: json.loads(fleet.get(STATUS))["last_error"], "the trouble stands in the status")
    assert json.loads(fleet.get(STATUS))["last_success"] == 0
    assert fleet.metric("tfgateway_reconciler_polls_failed_total") > 0
    fleet.start_explorer()
    second = fleet.reserve(Subdomain(domain="two.gw1.example", ips=("203.0.113.5",), **mine))
    fleet.deployed(second)
    until(lambda: not json.loads(fleet.get(STATUS))["last_error"], "all is well again")
    assert fleet.workload(first).next_action == NextAction.DEPLOY


def test_an_explorer_that_lost_everything_deletes_nothing(fleet: Fleet) -> None:
    mine = {"node_id": fleet.node_id}
    process = fleet.start()
    fleet.deployed(fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), **mine)))
    before = snapshot(fleet)
    process.stop()
    fleet.explorer.stop()
    for path in fleet.database.parent.glob("explorer.db*"):
        path.unlink()
    fleet.start_explorer()
    process = fleet.start()
    process.wait_log("the explorer does not know it")
    until(lambda: json.loads(fleet.get(STATUS))["last_success"], "a poll succeeded")
    assert snapshot(fleet) == before
    assert fleet.verdicts() == {"www.gw1.example": "orphaned"}


def test_p3_a_redis_that_is_away_is_waited_for(fleet: Fleet) -> None:
    mine = {"node_id": fleet.node_id}
    fleet.redis_server.stop()
    process = fleet.start(ready=False)
    process.wait_log("waiting for redis")
    assert "READY=1" not in process.notifications
    fleet.redis_server.start()
    process.wait_ready()
    fleet.deployed(fleet.reserve(Subdomain(domain="one.gw1.example", ips=("203.0.113.5",), **mine)))
    fleet.redis_server.stop()
    process.wait_log("pass ended early")
    second = fleet.reserve(Subdomain(domain="two.gw1.example", ips=("203.0.113.5",), **mine))
    process.wait_for(lambda: process.log.count("pass ended early") > 2, "some passes without redis")
    assert fleet.workload(second).next_action == NextAction.DEPLOY, "P-3: no error result for a passing trouble"
    assert not fleet.workload(second).result.message
    fleet.redis_server.start()
    fleet.deployed(second)


def test_p16_a_kill_between_two_steps_loses_nothing(fleet: Fleet) -> None:
    """The explorer is away while it deploys; killed, the next one delivers what the first one had decided."""
    mine = {"node_id": fleet.node_id}
    process = fleet.start()
    number = fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), **mine))
    bad = fleet.reserve(UnknownWorkload(workload_type=12, **mine))
    fleet.deployed(number)
    fleet.gone(bad)
    fleet.delete(number)
    process.wait_for(lambda: fleet.get("gw1.example.", "www") is None, "removed")
    process.kill()
    fleet.start()
    assert fleet.gone(number).result.state == ResultState.DELETED


def test_the_gateway_is_registered_again_when_the_explorer_forgot_it(fleet: Fleet) -> None:
    process = fleet.start()

    def entry() -> Any:
        found = fleet.call(lambda client: client.gateways())
        return found[0] if found else None

    def forget() -> None:
        with contextlib.closing(sqlite3.connect(fleet.database)) as connection, connection:
            assert connection.execute("DELETE FROM gateway").rowcount == 1

    first = until(entry, "registered")
    assert first.node_id == fleet.node_id
    assert first.managed_domains == ("gw1.example",)
    assert first.dns_nameserver == ("ns1.gw1.example",)
    assert first.public_key_hex == fleet.identity.public_key.hex()
    assert first.location.city == "Gent"
    until(lambda: entry().uptime > 0, "the heartbeat arrived")
    numbers = [
        fleet.reserve(Subdomain(domain=f"{label}.gw1.example", ips=("203.0.113.5",), node_id=fleet.node_id))
        for label in ("one", "two")
    ]
    for number in numbers:
        fleet.deployed(number)
    until(lambda: entry().workloads.subdomain == 2, "the counters arrived")

    forget()
    fleet.delete(numbers[0])
    until(lambda: (again := entry()) and again.uptime > 0 and again.workloads.subdomain == 1, "registered by counters")

    fleet.explorer.stop()
    forget()
    fleet.start_explorer()
    until(lambda: (again := entry()) and again.uptime > 0 and again.workloads.subdomain == 1, "registered by greeting")
    assert process.running


def test_a_dry_run_shows_the_plan_and_changes_nothing(fleet: Fleet) -> None:
    mine = {"node_id": fleet.node_id}
    fleet.run("reconcile", "--once")
    fleet.start().stop()
    fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), **mine))
    fleet.reserve(UnknownWorkload(workload_type=12, **mine))
    before = snapshot(fleet)
    shown = fleet.run("reconcile", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines() == [
        "deploy  1-1 subdomain www.gw1.example of user 2",
        "refuse  2-1 virtual_machine of user 2: type of reservation not supported: virtual_machine",
        "2 steps: 1 deploy, 1 refuse",
    ]
    data = json.loads(fleet.run("reconcile", "--dry-run", "--json").stdout)
    assert [(step["action"], step["id"]) for step in data["steps"]] == [("deploy", "1-1"), ("refuse", "2-1")]
    assert snapshot(fleet) == before
    once = fleet.run("reconcile", "--once", "--json")
    assert json.loads(once.stdout) == data
    assert fleet.deployed(1).result.state == ResultState.OK
    assert fleet.gone(2)
    assert fleet.run("reconcile", "--dry-run").stdout == "0 steps\n"


def test_wrong_usage_and_configuration_are_one_line(fleet: Fleet) -> None:
    assert fleet.run("reconcile", "--json").returncode == 2
    for text, word in (
        (fleet.config().replace('["gw1.example"]', '["nodots"]'), "gateway.managed_domains: 'nodots'"),
        (fleet.config().replace(str(fleet.seed), "/nonexistent"), "/nonexistent"),
    ):
        ended = fleet.tfgateway.run("reconcile", config=text)
        assert ended.returncode in (1, 2)
        assert ended.stderr.startswith("tfgateway: error: ")
        assert word in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    fleet.explorer.stop()
    ended = fleet.run("reconcile", "--dry-run")
    assert ended.returncode == 1
    assert ended.stderr.startswith("tfgateway: error: ")


def test_the_removal_guard_holds_until_the_operator_allows_it(fleet: Fleet) -> None:
    mine = {"node_id": fleet.node_id}
    guarded = {"max_removal_count": 1, "max_removal_share": 0.1}
    process = fleet.start(**guarded)
    numbers = [
        fleet.reserve(Subdomain(domain=f"n{number}.gw1.example", ips=("203.0.113.5",), **mine)) for number in range(3)
    ]
    for number in numbers:
        fleet.deployed(number)
    process.stop()
    for number in numbers:
        fleet.delete(number)
    process = fleet.start(**guarded)
    process.wait_log("removals held back")
    assert fleet.metric("tfgateway_reconciler_removals_held") == 1
    until(lambda: json.loads(fleet.get(STATUS))["held"], "it stands in the status")
    assert fleet.get("gw1.example.", "n0") is not None
    assert any("removals are held back" in text for text in fleet.state()["problems"])
    once = fleet.run("reconcile", "--dry-run", **guarded).stdout
    assert [line.split()[:3] for line in once.splitlines() if line.startswith("held    remove")] == [
        ["held", "remove", f"{number}-1"] for number in numbers
    ]
    shown = fleet.run("reconcile", "--allow-removals", **guarded)
    assert shown.returncode == 0
    assert shown.stderr == "allowed for 10 minutes:\n"
    assert shown.stdout == once
    for number in numbers:
        fleet.gone(number)
    until(lambda: not json.loads(fleet.get(STATUS))["held"], "nothing is held any more")
    assert fleet.run("reconcile", "--allow-removals", **guarded).stderr == "nothing is held back\n"
    process.stop()


def test_the_removal_guard_remembers_slices_over_a_restart(fleet: Fleet) -> None:
    guarded = {"max_removal_count": 2, "max_removal_share": 0.1}
    process = fleet.start(**guarded)
    numbers = [
        fleet.reserve(Subdomain(domain=f"n{number}.gw1.example", ips=("203.0.113.5",), node_id=fleet.node_id))
        for number in range(6)
    ]
    for number in numbers:
        fleet.deployed(number)
    process.stop()
    with fleet.redis() as client:
        client.delete(SAMPLES)  # what was noted while they came; it counts what it finds now
    process = fleet.start(**guarded)
    for number in numbers[:2]:
        fleet.delete(number)
        fleet.gone(number)
    process.stop()
    fleet.delete(numbers[2])
    process = fleet.start(**guarded)
    process.wait_log("removals held back")
    shown = fleet.run("reconcile", "--allow-removals", **guarded)
    assert shown.stderr == "allowed for 10 minutes:\n"
    assert "1 of 4 reservations would be removed after 2 within the hour and at most 2 may be" in shown.stdout
    fleet.gone(numbers[2])
    fleet.delete(numbers[3])
    fleet.gone(numbers[3])
    process.stop()


def test_p19_a_claim_is_released_by_the_reconciler_that_runs_or_by_one_pass(fleet: Fleet) -> None:
    process = fleet.start()
    claimed = {"gw1.example": "FormerNode", "gw2.example": "FormerNode", "gw3.example": fleet.node_id}
    with fleet.redis() as client:
        for domain in ("gw2.example", "gw3.example"):
            client.hset("zone", domain, f'{{"Owner":"{claimed[domain]}"}}')
            client.hset(f"{domain}.", "__owner__", owner_record(claimed[domain], claimed[domain]))
        client.hset("gw3.example.", "byhand", '{"txt":[{"text":"x","ttl":60}]}')
    told = fleet.run("reconcile", "--release-domain", "GW2.example")
    assert (told.returncode, told.stderr) == (0, "handed to the running reconciler, valid for 10 minutes:\n")
    until(lambda: fleet.get("zone", "gw2.example") is None, "released")
    until(lambda: fleet.get(RELEASED) is None, "done with")
    refused = fleet.run("reconcile", "--release-domain", "gw3.example", "--release-domain", "gw2.example")
    assert refused.returncode == 1
    assert "gw3.example waits: it is not released: it holds byhand" in refused.stdout
    assert refused.stderr == "tfgateway: error: not released: gw2.example, gw3.example\n"
    assert fleet.get(RELEASED) is None
    process.stop()
    with fleet.redis() as client:
        client.hset("zone", "gw1.example", f'{{"Owner":"{claimed["gw1.example"]}"}}')
    assert "taken over from FormerNode" in fleet.run("reconcile", "--dry-run", "--release-domain", "gw1.example").stdout
    assert b"FormerNode" in fleet.get("zone", "gw1.example")
    assert fleet.run("reconcile", "--once", "--release-domain", "gw1.example").returncode == 0
    assert fleet.node_id.encode() in fleet.get("zone", "gw1.example")
    assert fleet.run("reconcile", "--release-domain", "nodots").returncode == 2


def test_removals_are_allowed_for_one_pass(fleet: Fleet) -> None:
    mine = {"node_id": fleet.node_id}
    process = fleet.start()
    numbers = [
        fleet.reserve(Subdomain(domain=f"n{number}.gw1.example", ips=("203.0.113.5",), **mine)) for number in range(3)
    ]
    for number in numbers:
        fleet.deployed(number)
    process.stop()
    for number in numbers:
        fleet.delete(number)
    guarded = {"max_removal_count": 1, "max_removal_share": 0.1}
    assert "held" in fleet.run("reconcile", "--once", **guarded).stdout
    assert fleet.get("gw1.example.", "n0") is not None
    preview = fleet.run("reconcile", "--dry-run", "--allow-removals", "--markdown", **guarded).stdout
    assert preview.splitlines()[2] == "| remove | 1-1 | subdomain | n0.gw1.example | 2 |  |"
    assert fleet.get("gw1.example.", "n0") is not None
    assert fleet.run("reconcile", "--once", "--allow-removals", **guarded).returncode == 0
    for number in numbers:
        fleet.gone(number)
    assert fleet.get("tfgateway:consent") is None


def test_news_are_in_redis_long_before_the_next_poll_is_due(fleet: Fleet) -> None:
    """The explorer holds the poll back; without ``wait=`` the next one would come after an hour."""
    mine = {"node_id": fleet.node_id}
    slow = fleet.config().replace("poll_interval = 0.2", "poll_interval = 3600\nlong_poll = 1")
    process = fleet.tfgateway("reconcile", config=slow)
    number = fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), **mine))
    fleet.deployed(number)
    fleet.delete(number)
    fleet.gone(number)
    assert fleet.get("gw1.example.", "www") is None
    status = fleet.state()["reconciler"]
    assert status["last_success"] > 0
    assert status["last_error"] == ""
    assert status["clock"] == ""
    assert process.stop() == 0, "a poll that is held back holds nothing else up"


def test_drift_is_repaired_and_counted_while_a_poll_is_held_back(fleet: Fleet) -> None:
    fleet.start()
    fleet.deployed(fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), node_id=fleet.node_id)))
    with fleet.redis() as client:
        client.hdel("gw1.example.", "www")
    until(lambda: fleet.get("gw1.example.", "www"), "repaired")
    until(lambda: json.loads(fleet.get(STATUS))["repaired"] == 1, "counted")
    assert fleet.metric('tfgateway_reconciler_steps_total{action="repair"}') == 1


def test_what_a_restored_redis_brings_back_is_removed_again(fleet: Fleet) -> None:
    """Rows of a reservation that ended long ago: the listing does not show it, and the explorer says deleted."""
    process = fleet.start()
    empty = snapshot(fleet)
    number = fleet.reserve(Subdomain(domain="www.gw1.example", ips=("203.0.113.5",), node_id=fleet.node_id))
    fleet.deployed(number)
    with fleet.redis() as client:
        backup = {key: client.dump(key) for key in (b"gw1.example.", b"managed_domains", RESERVATIONS.encode())}
    fleet.delete(number)
    fleet.gone(number)
    until(lambda: snapshot(fleet) == empty, "removed")
    process.stop()
    with fleet.redis() as client:
        for key, value in backup.items():
            client.restore(key, 0, value, replace=True)
    assert fleet.verdicts() == {"www.gw1.example": "orphaned"}
    fleet.start()
    until(lambda: snapshot(fleet) == empty, "removed again")
