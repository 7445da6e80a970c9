"""What can happen to a group of gateways, while its members are asked for all that they serve. A table is printed.

*Wrong* is an answer that is not the reserved one; *lost* is none at all. Members that do not run are not asked.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable

import pytest
from tfgateway.reconciler.planning.inputs.rows import Row, Transaction
from tfgateway.reconciler.store import Store
from tfgateway.redis_schema.connection import connect

from tests.support import redis_users
from tests.support.group import Group, Member, rows
from tests.support.waiting import until

pytest_plugins = ("tests.integration.conftest", "tests.integration.reconciler.conftest")


def _kill(group: Group, member: Member) -> None:
    member.kill()
    group.sentinels.pop(member.number).kill()


def _boot(group: Group, *members: Member) -> None:
    for member in members:
        group.start_sentinel(member.number)
    for member in members:
        member.start_redis()
        member.start_gateway()
    for member in members:
        member.wait_ready()


def replica_killed(group: Group) -> None:
    _killed_and_back(group, group.other(group.master))


def master_killed(group: Group) -> None:
    dead = group.master
    _killed_and_back(group, dead)
    assert not dead.is_master


def _killed_and_back(group: Group, dead: Member) -> None:
    living = group.other(dead)
    with group.load(living):
        _kill(group, dead)
        group.reserve(living)
        _boot(group, dead)
    with group.load():
        group.reserve()


def master_redis_killed(group: Group) -> None:
    """All else of its member goes on."""
    dead = group.master
    with group.load():
        dead.kill("redis")
        until(lambda: group.other(dead).is_master, "the other one is the master")
        group.reserve(group.other(dead))
        dead.start_redis()
        group.reserve()


def minority_cut_off(group: Group) -> None:
    """The master's member reaches neither the other nor the third Sentinel; the explorer it does."""
    lone = group.master
    other = group.other(lone)
    with group.load():
        group.network.cut(lone.number)
        until(lambda: other.is_master, "the majority has a master")
        until(lambda: other.leads, "and a reconciler")
        # Names of both sides: the lone one gets it later.
        new = group.reserve(other)
        until(lambda: not lone.ask("EXISTS", "tfgateway:lease"), "the lone master has no holder of the lease any more")
        group.network.mend(lone.number)
        group.served_by(lone, *new)
        group.reserve()
    assert not lone.is_master


def both_sides_write(group: Group) -> None:
    """As a reconciler writes that has not noticed yet that it is cut off with its master."""
    lone = group.master
    other = group.other(lone)
    lost = ("lost.gw1.example", "203.0.113.250")
    row = Row("gw1.example.", "lost", b'{"a":[{"ip":"203.0.113.250","ttl":3600}]}')

    async def write() -> None:
        password = redis_users.password("operator")
        async with connect(f"unix://operator:{password}@{lone.socket}", timeout=5) as client:
            assert await Store(client).apply([Transaction((), (row,))]) == [""]

    with group.load():
        group.network.cut(lone.number)
        asyncio.run(write())
        until(lambda: lone.load.query(lost) == "", "what only this side has is served there")
        until(lambda: other.leads, "the majority has a reconciler")
        new = group.reserve(other)
        group.network.mend(lone.number)
        group.served_by(lone, *new)
        group.reserve()
    assert [member.load.query(lost) for member in group.members] == ["NXDOMAIN [] instead of 203.0.113.250"] * 2


def back_with_old_data(group: Group) -> None:
    """A member was restored from a backup; of the marker, its planes know better."""
    old = group.other(group.master)
    saved = group.directory / "saved"
    old.ask("SAVE")
    shutil.copytree(old.directory / "redis", saved)
    group.reserve()
    living = group.master
    with group.load(living):
        _kill(group, old)
        group.reserve(living)
        shutil.rmtree(old.directory / "redis")
        shutil.copytree(saved, old.directory / "redis")
        _boot(group, old)
    with group.load():
        group.reserve()


def leader_paused(group: Group) -> None:
    paused = group.leader
    with group.load():
        paused.processes["reconcile"].send_signal(signal.SIGSTOP)
        until(lambda: group.other(paused).leads, "the other one leads")
        group.reserve()
        paused.processes["reconcile"].send_signal(signal.SIGCONT)
        paused.processes["reconcile"].wait_log("lease lost")
        group.reserve()


def all_rebooted(group: Group) -> None:
    for member in group.members:
        _kill(group, member)
    group.sentinels.pop(len(group.members)).kill()
    group.start_sentinel(len(group.members))
    _boot(group, *group.members)
    with group.load():
        group.reserve()


def planes_restarted_while_cut_off(group: Group) -> None:
    """What a member serves then is its copy on disk."""
    lone = group.other(group.master)
    for plane in ("dns", "proxy"):
        until((lone.directory / "state" / f"{plane}.snapshot").exists, f"copy of {plane}")
    with group.load(group.master):
        group.network.cut(lone.number)
        for plane in ("dns", "proxy"):
            lone.kill(plane)
            lone.start(plane)
        lone.processes["dns"].wait_log('"event": "listening"')
        for item in lone.load.names.items():
            until(lambda: lone.load.query(item) == "", f"{item} is served")  # noqa: B023 - called at once
        group.network.mend(lone.number)
        lone.wait_ready()
    with group.load():
        group.reserve()


def upgraded_one_by_one(group: Group) -> None:
    """Each reconciler ends and starts, the planes are replaced while the other member serves."""
    for member in group.members:
        with group.load(group.other(member)):
            for what in ("reconcile", "dns", "proxy"):
                member.processes.pop(what).stop()
            until(lambda: group.other(member).leads, "the other one leads")  # noqa: B023 - called at once
            member.start_gateway()
            member.wait_ready()
    with group.load():
        group.reserve()


DISASTERS: dict[str, Callable[[Group], None]] = {
    "the replica's member is killed": replica_killed,
    "the master's member is killed": master_killed,
    "the master is killed": master_redis_killed,
    "the master is cut off with one Sentinel": minority_cut_off,
    "both sides of a partition write": both_sides_write,
    "a member comes back with old data": back_with_old_data,
    "the reconciler that leads is paused": leader_paused,
    "all members boot": all_rebooted,
    "planes start while cut off": planes_restarted_while_cut_off,
    "members are upgraded one by one": upgraded_one_by_one,
}


@pytest.mark.parametrize("what", DISASTERS)
def test_nothing_is_wrong_and_nothing_lost(group: Group, capsys: pytest.CaptureFixture[str], what: str) -> None:
    before = max(member.serial() for member in group.members)
    DISASTERS[what](group)
    with capsys.disabled():
        print(f"\n{rows(group, what)}")  # noqa: T201 - what this test is for
    for member in group.members:
        until(lambda: member.following, f"member {member.number} follows redis")  # noqa: B023 - called at once
        assert member.load.wrong == 0, member.load.examples
        assert member.load.counts["queries lost"] + member.load.counts["visits lost"] == 0, member.load.row()
        assert min(member.load.counts["queries"], member.load.counts["visits"]) > 0
    until(lambda: len({member.serial() for member in group.members}) == 1, "all members have the same serial")
    assert group.members[0].serial() > before
    assert sorted(member.leads for member in group.members) == [False, True]
    assert group.other(group.master).ask("ROLE")[3] == b"connected"
