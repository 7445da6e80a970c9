"""Module ``reservation_state`` with a daemon that says what a test wants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import ansible_module

ANSWER = {
    "node_id": "FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF",
    "version": "0.1.0",
    "in_sync": False,
    "summary": {"in_sync": 1, "drifted": 1},
    "problems": [],
    "reservations": [
        {"id": "1-1", "type": "subdomain", "domain": "www.gw1.example", "user": "7", "verdict": "in_sync",
         "message": "",
         "explorer": {"next_action": 3, "result_state": 1}, "recorded": True, "redis": True, "served": True},
        {"id": "2-1", "type": "proxy", "domain": "web.gw1.example", "user": "7", "verdict": "drifted",
         "message": "redis holds another target", "explorer": None, "recorded": True, "redis": True, "served": True},
    ],
}  # fmt: skip


@pytest.fixture
def node(tmp_path: Path):
    """A node whose daemon prints what a test says."""
    config = tmp_path / "gateway.toml"
    config.write_text("")
    program = tmp_path / "tfgateway"

    class Node:
        def daemon(self, out: str, code: int = 0, err: str = "") -> None:
            (tmp_path / "out").write_text(out)
            (tmp_path / "err").write_text(err)
            program.write_text(
                f'#!/bin/sh\necho "$@" > {tmp_path}/called\ncat {tmp_path}/out\ncat {tmp_path}/err >&2\nexit {code}\n'
            )
            program.chmod(0o755)

        @property
        def called(self) -> str:
            return (tmp_path / "called").read_text().strip()

        def run(self, **params: Any) -> dict[str, Any]:
            params = {"program": str(program), "config": str(config), **params}
            return ansible_module.run("reservation_state", tmp_path, **params)

    return Node()


def test_asks_the_daemon_and_returns_its_reservations(node):
    node.daemon(json.dumps(ANSWER))
    result = node.run(fail_on=[])
    assert node.called.endswith("gateway.toml state --json")
    assert result["reservations"] == ANSWER["reservations"]
    assert result["summary"] == {"in_sync": 1, "drifted": 1}
    assert result["msg"] == "2 reservations: 1 in_sync, 1 drifted"
    assert not result["changed"]


def test_fails_when_a_reservation_drifted_and_says_which(node):
    node.daemon(json.dumps(ANSWER))
    result = node.run()
    assert result["failed"]
    assert "2-1 proxy web.gw1.example is drifted (redis holds another target)" in result["msg"]
    assert not result["in_sync"]


def test_a_dead_target_is_told_and_no_failure_unless_asked_for(node):
    dead = {**ANSWER["reservations"][1], "verdict": "target_down", "message": "its target does not answer"}
    node.daemon(json.dumps({**ANSWER, "reservations": [dead]}))
    result = node.run()
    assert "failed" not in result
    assert result["in_sync"]
    assert result["msg"] == "1 reservation: 1 target_down"
    asked = node.run(fail_on=["target_down"])
    assert asked["failed"]
    assert "is target_down (its target does not answer)" in asked["msg"]


def test_of_many_that_are_wrong_the_first_are_named_and_the_rest_counted(node):
    wrong = [{**ANSWER["reservations"][1], "id": f"{number}-1"} for number in range(1, 13)]
    node.daemon(json.dumps({**ANSWER, "reservations": wrong}))
    message = node.run()["msg"]
    assert "10-1 proxy" in message
    assert "11-1 proxy" not in message
    assert message.endswith("; and 2 more")


def test_what_kept_the_daemon_from_looking_everywhere_is_said_too(node):
    node.daemon(json.dumps({**ANSWER, "problems": ["explorer: connection refused"]}))
    assert node.run(fail_on=[])["msg"] == "2 reservations: 1 in_sync, 1 drifted. explorer: connection refused"
    assert node.run()["msg"].endswith("is drifted (redis holds another target). explorer: connection refused")


def test_what_an_operator_should_know_is_passed_on_and_is_nothing_wrong(node):
    node.daemon(json.dumps({**ANSWER, "notes": ["redis lets every program in"]}))
    assert node.run(fail_on=[])["notes"] == ["redis lets every program in"]
    node.daemon(json.dumps(ANSWER))
    assert node.run(fail_on=[])["notes"] == []  # a release from before says none


def test_looks_only_at_the_reservations_that_are_named(node):
    node.daemon(json.dumps(ANSWER))
    result = node.run(ids=["1-1"])
    assert "failed" not in result
    assert [item["id"] for item in result["reservations"]] == ["1-1"]
    assert result["in_sync"]


def test_a_reservation_that_does_not_exist_is_named(node):
    node.daemon(json.dumps(ANSWER))
    result = node.run(ids=["1-1", "9-9"])
    assert result["failed"]
    assert result["msg"] == "no such reservation on this gateway: 9-9"


def test_a_node_that_is_not_provisioned_is_said_to_be_so(node):
    result = node.run()
    assert result["failed"]
    assert "not provisioned" in result["msg"]


@pytest.mark.parametrize(
    ("out", "code", "err", "words"),
    [
        ("", 1, "log line\ntfgateway: error: redis is away\n", "exit code 1: tfgateway: error: redis is away"),
        ("no json", 0, "", "did not print JSON: no json"),
        ("[]", 0, "", "did not print a JSON object"),
        ("{}", 0, "", "reservations"),
    ],
)
def test_a_daemon_that_cannot_answer_fails_readably(node, out, code, err, words):
    node.daemon(out, code, err)
    result = node.run()
    assert result["failed"]
    assert words in result["msg"]
