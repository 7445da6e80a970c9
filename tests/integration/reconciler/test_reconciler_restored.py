"""Explorers that were restored from a backup, or said once what is not so, against the real `tfgateway reconcile`."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tfgateway.explorer import user
from tfgateway.explorer.models import Subdomain
from tfgateway.layout.keys import OUTBOX, RELEASED_RESERVATIONS, RESERVATIONS, STATUS


class Backups:
    """Of the fleet's explorer: by its command, or the file as it was while it was stopped."""

    def __init__(self, fleet: Any, directory: Path, *, copied: bool) -> None:
        self._fleet = fleet
        self._file = directory / "backup.sqlite"
        self._copied = copied
        self.settings = {"resync_interval": 1} if copied else {}
        """A copy in which no id is missing is noticed by the next listing only."""

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
def backups(request: pytest.FixtureRequest, fleet: Any, tmp_path: Path) -> Backups:
    return Backups(fleet, tmp_path, copied=request.param == "copy of the file")


def subdomain(fleet: Any, label: str) -> Subdomain:
    return Subdomain(domain=f"{label}.gw1.example", ips=("203.0.113.5",), node_id=fleet.node_id)


def recorded(fleet: Any) -> set[str]:
    with fleet.redis() as client:
        return {name.decode() for name in client.hkeys(RESERVATIONS)}


def held(fleet: Any) -> str:
    return json.loads(fleet.get(STATUS))["held"]


def test_the_guide_for_a_restored_explorer(fleet: Any, backups: Backups, until: Any) -> None:
    """What was deleted after the backup is deployed again; what was made after it ends by consent, or one by one."""
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
        plan = json.loads(fleet.run("reconcile", "--dry-run", "--json").stdout)
        return {step["id"] for step in plan["orphans"]}

    assert shown() == orphans
    assert fleet.verdicts()["made0.gw1.example"] == "orphaned"
    assert any("--release-reservation" in text for text in fleet.state()["problems"])

    first = f"{made[0]}-1"
    looked = fleet.run("reconcile", "--release-reservation", first, "--dry-run")
    assert f"release {first} subdomain made0.gw1.example" in looked.stdout
    assert first in recorded(fleet)
    told = fleet.run("reconcile", "--release-reservation", first)
    assert (told.returncode, told.stderr) == (0, "the reconciler that runs is told, for 10 minutes:\n")
    until(lambda: recorded(fleet) == {f"{deleted}-1", f"{kept}-1", *orphans} - {first}, "one is released")
    until(lambda: fleet.get(RELEASED_RESERVATIONS, first) is None, "done with")
    assert fleet.get("gw1.example.", "made0") is None
    fleet.deployed(fleet.reserve(subdomain(fleet, "made0"), "bob"))

    assert fleet.run("reconcile", "--allow-removals").stderr == "allowed for 10 minutes:\n"
    until(lambda: orphans.isdisjoint(recorded(fleet)), "the others end")
    assert fleet.get("gw1.example.", "made1") is None
    assert fleet.run("reconcile", "--dry-run").stdout == "0 steps\n"
    assert fleet.get(OUTBOX) is None
    assert "does not want the answer" not in process.log


def test_a_reservation_that_the_explorer_knows_is_released_with_a_reason(fleet: Any, until: Any) -> None:
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


def test_what_the_guard_held_back_is_forgotten_when_the_explorer_was_restored(
    fleet: Any, backups: Backups, until: Any
) -> None:
    """102 recorded, 40 deletions; after the restore another user makes so many that 30 % would be more than those."""
    process = fleet.start()
    fleet.register("bob")
    fleet.deployed(fleet.reserve(subdomain(fleet, "first")))
    numbers = [fleet.reserve(subdomain(fleet, f"n{number}")) for number in range(101)]
    for number in numbers:
        fleet.deployed(number)
    backups.make()
    process.stop()
    fleet.run("reconcile", "--once")
    for number in numbers[:40]:
        fleet.delete(number)
    fleet.start(**backups.settings)
    until(lambda: held(fleet), "held back")
    before = recorded(fleet)
    assert len(before) > 62
    backups.restore()
    until(lambda: not held(fleet), "forgotten")
    later = [fleet.reserve(subdomain(fleet, f"later{number}"), "bob") for number in range(45)]
    for number in later:
        fleet.deployed(number)
    assert recorded(fleet) == before | {f"{number}-1" for number in later}
    assert {fleet.workload(number).next_action for number in numbers} == {3}


def test_one_false_answer_is_forgotten_with_the_next_listing(
    redis_server: Any, tfgateway: Any, rogue: Any, until: Any, fleet: Any
) -> None:
    """A poll says that all is deleted."""
    rogue.listing = [rogue.subdomain(number, f"n{number}") for number in range(1, 21)]
    config = fleet.config(resync_interval=1).replace(fleet.url, rogue.url)
    tfgateway("reconcile", config=config)
    until(lambda: len(rogue.results) == 20 and not fleet.get(OUTBOX), "deployed")
    truth = list(rogue.listing)
    rogue.poll = lambda handler, start: rogue.answer(
        handler, b"[]" if start == 0 else json.dumps([item | {"next_action": 4} for item in truth]).encode()
    )
    until(lambda: held(fleet), "held back")
    rogue.poll = None
    until(lambda: not held(fleet), "forgotten")
    assert len(recorded(fleet)) == 20
    assert not rogue.deleted


def test_while_removals_are_held_back_others_are_served_at_once(fleet: Any, until: Any) -> None:
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
        until(lambda number=number: user.status(fleet.workload(number))[0] is user.Status.DEPLOYED, "deployed")
    assert time.monotonic() - started < 3 * 5, "none has waited for a poll"
    assert looks == process.log.count("removals held back")
    assert held(fleet)
