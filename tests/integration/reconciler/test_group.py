"""A group of two gateways on real processes: who reconciles, and what happens when one, or its redis, is gone."""

from __future__ import annotations

import json
import signal
import socket
from typing import Any

from tfgateway.redis_schema.keys import FENCE

from tests.support.group import DNS_PORT, REDIS_PORT, Group, Member
from tests.support.waiting import until


def test_one_reconciles_and_the_other_takes_over(group: Group) -> None:
    leader = group.leader
    standby = group.other(leader)
    reconciler = leader.processes["reconcile"]
    assert "standing by" in standby.processes["reconcile"].log
    assert [member.metric("tfgateway_reconciler_standby") for member in (leader, standby)] == [0, 1]
    with group.load():
        # It is stopped, as by an upgrade.
        reconciler.stop()
        until(lambda: standby.leads, "the other one leads")
        group.reserve()
        leader.start("reconcile")
        leader.processes["reconcile"].wait_log("standing by")
        assert standby.metric("tfgateway_reconciler_standby") == 0
        # It hangs.
        paused = standby.processes["reconcile"]
        taken = int(leader.ask("GET", FENCE))
        paused.send_signal(signal.SIGSTOP)
        until(lambda: leader.leads, "the first one leads again")
        assert int(leader.ask("GET", FENCE)) > taken
        group.reserve()
        paused.send_signal(signal.SIGCONT)
        paused.wait_log("lease lost")
        paused.wait_log("standing by")
        assert leader.leads
        assert paused.running
    _nothing_lost(group)


def test_a_member_dies_with_the_master(group: Group) -> None:
    dead = group.master
    living = group.other(dead)
    with group.load(living):
        dead.kill()
        group.sentinels.pop(dead.number).kill()
        group.reserve(living)
        # What it missed is there when it serves again.
        group.start_sentinel(dead.number)
        dead.start_redis()
        dead.start_gateway()
        dead.wait_ready()
    with group.load():
        group.reserve()
    assert not dead.is_master
    _nothing_lost(group)


def test_it_says_how_it_stands(group: Group) -> None:
    master = group.master
    replica = group.other(master)
    address = f"{master.address}:{REDIS_PORT}"
    host = socket.gethostname()  # of both, in namespaces of the network alone

    def state(member: Member) -> tuple[Any, list[str]]:
        ended = member.run("state", "--json")
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout)
        return found["group"], [problem for problem in found["problems"] if problem.startswith("group:")]

    common = {"leader": host, "master": address, "sentinels": 3, "agreeing": 3}
    assert state(master) == ({**common, "role": "master", "lag": 0.0, "replicas": 1}, [])
    found, problems = state(replica)
    assert found.pop("lag") < 5
    assert (found, problems) == ({**common, "role": "replica", "replicas": None}, [])
    assert f"master {address} by 3 of 3 Sentinels" in replica.run("info").stdout
    until(lambda: replica.metric("tfgateway_reconciler_sentinels_agreeing") == 3, "its metrics say so too")
    assert replica.metric("tfgateway_reconciler_replica_lag_seconds") < 5

    assert replica.run("info", "--serving").returncode == 0
    replica.kill("dns")
    ended = replica.run("info", "--serving")
    assert ended.returncode == 1
    assert f"not serving: gw1.example at {replica.address} port {DNS_PORT}: " in ended.stderr

    group.sentinels[2].kill()
    group.network.cut(replica.number)
    until(lambda: replica.ask("EXISTS", "x") is None, "it has noticed that it is cut off")
    found, problems = state(replica)
    assert found == {
        "leader": "", "master": "", "role": "replica", "lag": None, "replicas": None, "sentinels": 3, "agreeing": 1
    }  # fmt: skip
    assert [problem.partition(": nothing")[0] for problem in problems] == [
        "group: no master: 1 of 3 Sentinels name the same; nothing is written, the planes serve what they know",
        "group: this member's redis is not connected to the master; it serves what it knew before",
    ]
    until(lambda: state(master)[0]["replicas"] == 0, "the master has noticed too")
    until(lambda: len(state(master)[1]) == 3, "it has neither majority nor replica, nor a reconciler that leads")


def _nothing_lost(group: Group) -> None:
    for member in group.members:
        assert member.load.wrong == 0, member.load.examples
        assert member.load.counts["queries lost"] + member.load.counts["visits lost"] == 0, member.load.row()
        assert member.load.counts["queries"] > 0
