"""A group of two gateways on real processes: who reconciles, and what happens when one, or its redis, is gone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tfgateway.redis_schema.keys import FENCE

from tests.support.group import Group
from tests.support.processes import StartProcess
from tests.support.waiting import until


@pytest.fixture
def group(unstarted_fleet: Any, tmp_path: Path, start_process: StartProcess) -> Iterator[Group]:
    made = Group(unstarted_fleet, tmp_path, start_process)
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_one_reconciles_and_the_other_takes_over(group: Group) -> None:
    leader = group.leader
    standby = group.other(leader)
    reconciler = leader.processes["reconcile"]
    assert "standing by" in standby.processes["reconcile"].log
    with group.load():
        # It is stopped, as by an upgrade.
        reconciler.stop()
        until(lambda: standby.leads, "the other one leads")
        group.reserve()
        leader.start("reconcile")
        leader.processes["reconcile"].wait_log("standing by")
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


def _nothing_lost(group: Group) -> None:
    for member in group.members:
        assert member.load.wrong == 0, member.load.examples
        assert member.load.counts["queries lost"] + member.load.counts["visits lost"] == 0, member.load.row()
        assert member.load.counts["queries"] > 0
