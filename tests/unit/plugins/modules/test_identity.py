"""Module ``identity`` with the daemon's real command."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.identity.words import words_from_seed

from tests.support import ansible_module

PROGRAM = str(Path(sys.executable).with_name("tfgateway"))
SEED = bytes(range(32))
WORDS = words_from_seed(SEED)
OTHER = words_from_seed(bytes(32))


def run(path: Path, **params: Any) -> dict[str, Any]:
    return ansible_module.run("identity", path.parent, path=str(path), program=PROGRAM, **params)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity.seed"


def test_made_from_words_once_and_kept(path: Path) -> None:
    foreseen = run(path, words=WORDS, check=True, diff=True)
    assert foreseen["changed"]
    assert not path.exists()
    assert foreseen["diff"]["after"] == f"{Identity.from_seed(SEED).node_id}\n"
    made = run(path, words=WORDS, tid=12)
    assert (made["changed"], made["tid"], made["node_id"]) == (True, 12, Identity.from_seed(SEED).node_id)
    assert seedfile.load(path) == seedfile.SeedFile(SEED, 12)
    again = run(path, words=WORDS, tid=12)
    assert not again["changed"]
    assert WORDS not in json.dumps([foreseen, made, again])


def test_made_at_random_without_words(path: Path) -> None:
    assert "node_id" not in run(path, check=True)
    made = run(path)
    assert made["changed"]
    assert made["node_id"] == Identity.from_seed(seedfile.load(path).seed).node_id
    assert run(path)["node_id"] == made["node_id"]


def test_check_mode_foresees_it_on_a_node_without_the_daemon(path: Path) -> None:
    arguments = {"path": str(path), "program": "/nowhere/tfgateway", "words": WORDS}
    assert ansible_module.run("identity", path.parent, check=True, **arguments)["changed"]
    assert "does not exist here" in ansible_module.run("identity", path.parent, **arguments)["msg"]


def test_check_mode_on_an_old_node_has_neither_the_daemon_nor_its_user(path: Path) -> None:
    path.write_text("of the old daemon")
    arguments = {"path": str(path), "program": "/nowhere/tfgateway", "owner": "tfgateway-of-later", "mode": "0400"}
    foreseen = ansible_module.run("identity", path.parent, check=True, diff=True, **arguments)
    assert foreseen["changed"]
    assert foreseen["diff"]["before"] == foreseen["diff"]["after"]
    assert path.read_text() == "of the old daemon"
    run(path.with_name("new.seed"))
    assert "failed to look up" in run(path.with_name("new.seed"), owner="tfgateway-of-later")["msg"]


def test_a_numeric_owner_needs_no_name(path: Path) -> None:
    run(path)
    uid = str(path.stat().st_uid)
    assert not run(path, owner=uid, check=True)["changed"]


def test_i5_nobody_else_may_read_it_from_the_moment_it_is_made(path: Path) -> None:
    run(path, words=WORDS)
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_another_identity_is_never_replaced(path: Path) -> None:
    run(path, words=WORDS)
    refused = run(path, words=OTHER)
    assert refused["failed"]
    assert "never replaced" in refused["msg"]
    assert seedfile.load(path).seed == SEED
    assert OTHER not in json.dumps(refused)


def test_mode_is_kept_as_asked_and_foreseen_in_check_mode(path: Path) -> None:
    run(path, words=WORDS, mode="0400")
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    path.chmod(0o644)
    assert run(path, mode="0400", check=True)["changed"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert run(path, mode="0400")["changed"]
    assert not run(path, mode="0400")["changed"]


def test_wrong_words_fail_without_being_repeated(path: Path) -> None:
    wrong = " ".join([*WORDS.split()[:-1], "zoo"])
    refused = run(path, words=wrong)
    assert refused["failed"]
    assert not path.exists()
    assert "zoo" not in refused["msg"]
