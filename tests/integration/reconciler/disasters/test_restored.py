"""Explorers that were restored from a backup, or said once what is not so, against the real `tfgateway reconcile`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tfgateway.explorer import user
from tfgateway.explorer.models import Subdomain
from tfgateway.redis_schema.keys import OUTBOX, RELEASED_RESERVATIONS, RESERVATIONS, STATUS

from tests.integration.reconciler.conftest import Fleet
from tests.support.processes import CommandLine, RedisServer
from tests.support.waiting import until

GUIDE = Path(__file__).resolve().parents[4] / "docs" / "how-to" / "operating.md"


class Backups:
    """Of the fleet's explorer: by its command, or the file as it was while it was stopped."""

    def __init__(self, fleet: Fleet, directory: Path, *, copied: bool) -> None:
        self._fleet = fleet
        self._file = directory / "backup.sqlite"
        self._copied = copied

    def make(self) -> None:
        if self._copied:
            self._fleet.explorer.stop()
            shutil.copy(self._fleet.database, self._file)
            self._fleet.start_explorer()
            return
        arguments = ["explorer", "backup", "--database", str(self._fleet.database), str(self._file)]
        ended = self._fleet.tfgateway.run(*arguments, config="")
        assert ended.returncode == 0, ended.stderr

    def restore(self) -> None:
        self._fleet.explorer.stop()
        for path in self._fleet.database.parent.glob("explorer.db*"):
            path.unlink()
        shutil.copy(self._file, self._fleet.database)
        self._fleet.start_explorer()


@pytest.fixture(params=["copy of the file", "its command"])
def backups(request: pytest.FixtureRequest, fleet: Fleet, tmp_path: Path) -> Backups:
    return Backups(fleet, tmp_path, copied=request.param == "copy of the file")


def guide() -> list[list[str]]:
    """The commands of the operating guide's section, without the program's name."""
    section = GUIDE.read_text().partition("## The explorer was restored from a backup\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]


def subdomain(fleet: Fleet, label: str) -> Subdomain:
    return Subdomain(domain=f"{label}.gw1.example", ips=("203.0.113.5",), node_id=fleet.node_id)


def recorded(fleet: Fleet) -> set[str]:
    with fleet.redis() as client:
        return {name.decode() for name in client.hkeys(RESERVATIONS)}


def waiting(fleet: Fleet) -> int:
    """Answers that the explorer does not have yet."""
    with fleet.redis() as client:
        return client.hlen(OUTBOX)


def held(fleet: Fleet) -> str:
    return json.loads(fleet.get(STATUS))["held"]


def test_the_guide_for_a_restored_explorer(fleet: Fleet, backups: Backups) -> None:
    """What was deleted after the backup is deployed again; what was made after it ends by consent, or one by one."""
    look, release, allow = guide()
    process = fleet.start()
    deleted, kept = (fleet.reserve(subdomain(fleet, label)) for label in ("deleted", "kept"))
    for number in (deleted, kept):
        fleet.deployed(number)
    backups.make()
    made = [fleet.reserve(subdomain(fleet, f"made{number}")) for number in range(3)]
    for number in made:
        fleet.deployed(number)
    fleet.delete(deleted)
    fleet.gone(deleted)
    assert fleet.get("gw1.example.", "deleted") is None
    backups.restore()
    until(lambda: fleet.get("gw1.example.", "deleted"), "deployed again")
    orphans = {f"{number}-1" for number in made}
    assert recorded(fleet) == {f"{deleted}-1", f"{kept}-1", *orphans}

    def shown() -> set[str]:
        plan = json.loads(fleet.run(*look, "--json").stdout)
        return {step["id"] for step in plan["orphans"]}

    assert shown() == orphans
    assert fleet.verdicts()["made0.gw1.example"] == "orphaned"
    assert any("--release-reservation" in text for text in fleet.state()["problems"])

    first = f"{made[0]}-1"
    assert f"orphan  remove  {first} subdomain made0.gw1.example" in fleet.run(*look).stdout
    release[release.index("ID")] = first
    looked = fleet.run(*release, "--dry-run")
    assert f"release {first} subdomain made0.gw1.example" in looked.stdout
    assert first in recorded(fleet)
    told = fleet.run(*release)
    assert (told.returncode, told.stderr) == (0, "handed to the running reconciler, valid for 10 minutes:\n")
    until(lambda: recorded(fleet) == {f"{deleted}-1", f"{kept}-1", *orphans} - {first}, "one is released")
    until(lambda: fleet.get(RELEASED_RESERVATIONS, first) is None, "done with")
    assert fleet.get("gw1.example.", "made0") is None
    later = fleet.reserve(subdomain(fleet, "made0"), "bob")  # where ids went back it has the id of the first
    fleet.deployed(later)

    assert fleet.run(*allow).stderr == "allowed for 10 minutes:\n"
    until(lambda: recorded(fleet) == {f"{number}-1" for number in (deleted, kept, later)}, "the others end")
    assert fleet.get("gw1.example.", "made1") is None
    assert fleet.run(*look).stdout == "0 steps\n"
    assert not waiting(fleet)
    assert "does not want the answer" not in process.log


def test_a_reservation_that_the_explorer_knows_is_released_with_a_reason(fleet: Fleet) -> None:
    process = fleet.start()
    number = fleet.reserve(subdomain(fleet, "www"))
    fleet.deployed(number)
    process.stop()
    name = f"{number}-1"
    refused = fleet.run("reconcile", "--once", "--release-reservation", "999-1")
    assert refused.returncode == 1
    assert refused.stderr.endswith("tfgateway: error: not released: 999-1\n")
    assert fleet.run("reconcile", "--once", "--release-reservation", "nonsense").returncode == 2
    ended = fleet.run("reconcile", "--once", "--release-reservation", name, "--reason", "phishing")
    assert ended.returncode == 0, ended.stderr
    assert fleet.gone(number).result.message == "phishing"
    assert recorded(fleet) == set()
    assert fleet.get("gw1.example.", "www") is None
    assert fleet.run("reconcile", "--dry-run").stdout == "0 steps\n"


def test_an_evicted_reservation_stays_away_while_its_name_is_blocked(fleet: Fleet, tmp_path: Path) -> None:
    """By the reconciler that runs, over a restart and over an explorer that wants it again; then it is taken back."""
    free = fleet.config()
    blocking = free.replace("[gateway.location]", 'blocked_names = ["shop.gw1.example"]\n[gateway.location]')
    backups = Backups(fleet, tmp_path, copied=False)
    process = fleet.start()
    number = fleet.reserve(subdomain(fleet, "shop"))
    fleet.deployed(number)
    until(lambda: not waiting(fleet), "the explorer has the answer")
    backups.make()
    name = f"{number}-1"
    evict = ["reconcile", "--release-reservation", name, "--reason", "phishing"]
    assert f"release {name} subdomain shop.gw1.example" in fleet.run(*evict, "--dry-run").stdout
    assert recorded(fleet) == {name}
    assert fleet.run(*evict).returncode == 0
    assert fleet.gone(number).result.message == "phishing"
    assert fleet.get("gw1.example.", "shop") is None
    process.stop()

    process = fleet.tfgateway("reconcile", config=blocking)
    backups.restore()
    assert "the operator of the gateway blocks shop.gw1.example" in fleet.gone(number).result.message
    assert fleet.get("gw1.example.", "shop") is None
    process.stop()

    fleet.tfgateway("reconcile", config=free)
    fleet.deployed(fleet.reserve(subdomain(fleet, "shop")))


def reserve_all(fleet: Fleet, labels: list[str], name: str) -> list[int]:
    """Of the user, in one go."""
    account = fleet.accounts.get(name) or fleet.register(name)

    async def work(client: Any) -> list[int]:
        return [(await user.reserve(client, account, subdomain(fleet, label))).id for label in labels]

    return fleet.call(work, name)


def delete_all(fleet: Fleet, numbers: list[int], name: str) -> None:
    async def work(client: Any) -> None:
        for number in numbers:
            await user.delete(client, fleet.accounts[name], number)

    fleet.call(work, name)


def test_what_the_guard_held_back_is_forgotten_when_the_explorer_was_restored(fleet: Fleet, tmp_path: Path) -> None:
    """102 recorded, 40 deletions; after the restore another user makes so many that 30 % would be more than those."""
    backups = Backups(fleet, tmp_path, copied=False)
    process = fleet.start()
    numbers = [
        fleet.reserve(subdomain(fleet, "first")),
        *reserve_all(fleet, [f"n{number}" for number in range(101)], "alice"),
    ]
    until(lambda: len(recorded(fleet)) == 102 and not waiting(fleet), "deployed")
    backups.make()
    process.stop()
    fleet.run("reconcile", "--once")
    delete_all(fleet, numbers[:40], "alice")
    fleet.start()
    until(lambda: held(fleet), "held back")
    before = recorded(fleet)
    backups.restore()
    until(lambda: not held(fleet), "forgotten")
    later = reserve_all(fleet, [f"later{number}" for number in range(45)], "bob")
    wanted = {f"{number}-1" for number in (*numbers, *later)}
    until(lambda: recorded(fleet) == wanted, "all are served")
    assert before <= wanted
    assert {fleet.workload(number).next_action for number in numbers} == {3}


def test_one_false_answer_is_forgotten_with_the_next_listing(
    redis_server: RedisServer, tfgateway: CommandLine, rogue: Any, fleet: Fleet
) -> None:
    """A poll says that all is deleted."""
    rogue.listing = [rogue.subdomain(number, f"n{number}") for number in range(1, 21)]
    config = fleet.config(resync_interval=1).replace(fleet.url, rogue.url)
    tfgateway("reconcile", config=config)
    until(lambda: len(rogue.results) == 20 and not waiting(fleet), "deployed")
    truth = list(rogue.listing)
    rogue.poll = lambda handler, start: rogue.answer(
        handler, b"[]" if start == 0 else json.dumps([item | {"next_action": 4} for item in truth]).encode()
    )
    until(lambda: held(fleet), "held back")
    rogue.poll = None
    until(lambda: not held(fleet), "forgotten")
    assert len(recorded(fleet)) == 20
    assert not rogue.deleted


def test_while_removals_are_held_back_others_are_served_at_once(fleet: Fleet) -> None:
    slow = fleet.config(max_removal_count=1, max_removal_share=0.1).replace("poll_interval = 0.2", "poll_interval = 5")
    process = fleet.tfgateway("reconcile", config=slow)
    numbers = [fleet.reserve(subdomain(fleet, f"n{number}")) for number in range(4)]
    for number in numbers:
        fleet.deployed(number)
    process.stop()
    for number in numbers:
        fleet.delete(number)
    process = fleet.tfgateway("reconcile", config=slow)
    until(lambda: held(fleet), "held back")
    looks = process.log.count("removals held back")
    started = time.monotonic()
    for label in ("one", "two", "three"):
        number = fleet.reserve(subdomain(fleet, label))
        until(lambda number=number: user.status(fleet.workload(number))[0] is user.WorkloadStatus.DEPLOYED, "deployed")
    assert time.monotonic() - started < 3 * 5, "none has waited for a poll"
    assert looks == process.log.count("removals held back")
    assert held(fleet)
