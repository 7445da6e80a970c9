"""What a run says of a gateway's entry in the explorer's directory; the gateway's command is a stand-in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Playbook = Callable[..., Any]
GATEWAY = Path(__file__).resolve().parents[3] / "roles" / "gateway"
TASKS = [
    {"ansible.builtin.include_vars": {"file": str(GATEWAY / "vars" / "main.yml")}},
    {"ansible.builtin.include_tasks": {"file": str(GATEWAY / "tasks" / "listed.yml")}},
]
REASON = "farm 1 has not admitted this gateway: its owner has to run `tfgateway ...`"
SAYS = {
    "listed": {"directory": {"state": "listed", "reason": ""}},
    "refused": {"directory": {"state": "refused", "reason": REASON}},
    "away": {"directory": {"state": "unavailable", "reason": "no answer in 15 s"}},
    "no-redis": {"directory": None},
    "broken": None,
    "just-admitted": {"directory": {"state": "refused", "reason": REASON}},
    "not-admitted": {"directory": {"state": "refused", "reason": REASON}},
    "unchanged": None,  # when it was looked at, it was listed
    "unchanged-pending": {"directory": {"state": "refused", "reason": REASON}},  # and by then it was not
}
LOOKED_AT = {"unchanged": "listed", "unchanged-pending": "pending"}


def test_who_is_not_listed_is_named_with_the_reason(playbook: Playbook, tmp_path: Path) -> None:
    hosts = {}
    for name, says in SAYS.items():
        program = tmp_path / name / "current" / "bin" / "tfgateway"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\nexit 1\n" if says is None else f"#!/bin/sh\ncat <<'E'\n{json.dumps(says)}\nE\n")
        program.chmod(0o755)
        hosts[name] = {"release_root": str(tmp_path / name), "gateway_farm_seed": "", "_gateway_admission": {}}
        before = json.dumps({"directory": {"state": LOOKED_AT.get(name, "listed"), "reason": ""}})
        hosts[name]["_gateway_host"] = {"commands": {"info": {"rc": 0, "stdout": before}}}
        hosts[name]["_gateway_written"] = {"changed": name not in LOOKED_AT}
    hosts["listed"] |= {"gateway_farm_seed": "farmer.seed", "_gateway_admission": {"changed": True, "failed": False}}
    hosts["just-admitted"] |= {"gateway_farm_seed": "farmer.seed", "_gateway_admission": {"changed": True}}
    hosts["not-admitted"] |= {"gateway_farm_seed": "farmer.seed", "_gateway_admission": {"msg": "no such farm"}}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    run = playbook(TASKS, hosts, variables=here)
    said = {name: result.get("msg", "") for name, result in run.tasks["Say that the explorer does not list it"].items()}
    assert {name for name, text in said.items() if text} == {"refused", "away", "not-admitted", "unchanged-pending"}
    assert said["refused"] == (
        "The explorer does not list refused, so that nothing new can be reserved on it (refused: "
        + REASON
        + "). It goes on trying by itself."
    )
    assert [said[name] for name in ("listed", "just-admitted", "no-redis", "broken", "unchanged")] == [""] * 5
    assert (
        run.message("The farm has admitted it", "not-admitted")
        == "not-admitted runs, but was not admitted: no such farm"
    )
    assert {name for name, stats in run.stats.items() if stats["failures"]} == {"not-admitted"}
    assert {name: stats["changed"] for name, stats in run.stats.items()} == dict.fromkeys(SAYS, 0)
