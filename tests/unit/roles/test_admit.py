"""How a run has a farm admit a node: what the command of its owner is asked for, and what does not stop the run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Playbook = Callable[..., Any]
GATEWAY = Path(__file__).resolve().parents[3] / "roles" / "gateway"
ADMIT = [
    {"ansible.builtin.include_vars": {"file": str(GATEWAY / "vars" / "main.yml")}},
    {"ansible.builtin.include_tasks": {"file": str(GATEWAY / "tasks" / "admit.yml")}},
]
ASKED = "Who is it?"
BUILT = "Build the daemon's command for this controller"
ADMITTED = "The farm admits it"
# A daemon whose command takes what follows `farm` as its arguments; where `refused` lies in HERE, its owner is none.
OWNER = """
import pathlib, sys
here = pathlib.Path("HERE")
def main(prog_name):
    with (here / "asked").open("a") as asked:
        print(*sys.argv[1:], file=asked)
    if (here / "refused").exists():
        sys.exit("tfgateway: error: only the owner decides")
    print((here / "listed").read_text() if "list" in sys.argv else '{"changed": true}')
"""


def controller(directory: Path) -> dict[str, Any]:
    """A controller whose build makes the owner's command, with what the role knows there."""
    source = directory / "source"
    package = source / "src" / "tfgateway" / "cli"
    package.mkdir(parents=True)
    (package / "main.py").write_text(OWNER.replace("HERE", str(directory)))
    (source / "pyproject.toml").write_text('version = "1"\n')
    (source / "requirements.lock").touch()
    (directory / "listed").write_text("[]")
    return {
        "release_source": str(source),
        "release_cache": str(directory / "cache"),
        "release_prebuilt": "",
        "gateway_seed_path": "/etc/identity.seed",
        "gateway_explorer_url": "https://explorer.example/api/v1",
        "gateway_farm_id": 3,
        "gateway_farm_seed": "/srv/farmer.seed",
        "gateway_farm_program": "",
        "gateway_managed_domains": ["b.example", "a.example"],
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
    }


def node(directory: Path) -> dict[str, str]:
    """One that knows its identity."""
    program = directory / "tfgateway"
    program.write_text("""#!/bin/sh\necho '{"node_id": "NODE"}'\n""")
    program.chmod(0o755)
    return {"release_program": str(program)}


def asked(directory: Path) -> list[str]:
    """What the owner's command was asked for, without explorer and seed."""
    file = directory / "asked"
    return [line.partition(" farm ")[2] for line in file.read_text().splitlines()] if file.exists() else []


def test_a_node_is_admitted_once(playbook: Playbook, tmp_path: Path) -> None:
    variables, hosts = controller(tmp_path), {"one": node(tmp_path)}
    foreseen = playbook(ADMIT, hosts, "--check", "--diff", variables=variables)
    assert foreseen.code == 0, foreseen.output
    assert foreseen.tasks[ADMITTED]["one"]["changed"]
    assert asked(tmp_path) == ["list --farm 3 --json"]
    done = playbook(ADMIT, hosts, variables=variables)
    assert done.stats["one"]["changed"] == 1
    admit = "admit --farm 3 --node NODE --managed-domain=a.example --managed-domain=b.example --json"
    assert asked(tmp_path)[1:] == ["list --farm 3 --json", admit]
    (tmp_path / "listed").write_text(json.dumps([{"node_id": "NODE", "managed_domains": ["a.example", "b.example"]}]))
    (built,) = (tmp_path / "cache" / "here").glob("*/bin/tfgateway")
    again = playbook(ADMIT, hosts, variables={**variables, "gateway_farm_program": str(built)})
    assert again.stats["one"]["changed"] == 0
    assert BUILT in done.tasks
    assert again.tasks[BUILT]["one"]["skipped"]
    assert asked(tmp_path)[3:] == ["list --farm 3 --json"]


def test_a_refusal_is_kept_for_the_end_of_the_role(playbook: Playbook, tmp_path: Path) -> None:
    variables = controller(tmp_path)
    (tmp_path / "refused").touch()
    done = playbook(ADMIT, {"one": node(tmp_path)}, variables=variables)
    assert done.code == 0, done.output
    assert "only the owner decides" in done.tasks[ADMITTED]["one"]["msg"]
    assert "/srv/farmer.seed" not in json.dumps(done.tasks[ADMITTED])


def test_an_untouched_node_is_named_in_check_mode(playbook: Playbook, tmp_path: Path) -> None:
    variables = controller(tmp_path)
    hosts = {"one": {"release_program": str(tmp_path / "none")}}
    foreseen = playbook(ADMIT, hosts, "--check", variables=variables)
    assert foreseen.code == 0, foreseen.output
    assert foreseen.tasks["Say what would be done on a node without an identity"]["one"]["msg"] == (
        "one would be admitted to farm 3 with b.example, a.example, once it has an identity"
    )
    assert asked(tmp_path) == []
    assert playbook(ADMIT, hosts, variables=variables).code != 0


def test_a_node_that_has_said_who_it_is_is_not_asked_again(playbook: Playbook, tmp_path: Path) -> None:
    said = {"rc": 0, "stdout": '{"node_id": "NODE"}'}
    known = {"_gateway_host": {"commands": {"info": said}}, "release_program": str(tmp_path / "none")}
    hosts = {
        "same": {**known, "_gateway_written": {"changed": False}},
        "silent": node(tmp_path)
        | {"_gateway_host": {"commands": {"info": {"rc": 1}}}, "_gateway_written": {"changed": False}},
    }
    done = playbook(ADMIT, hosts, variables=controller(tmp_path))
    assert done.code == 0, done.output
    assert done.tasks[ASKED]["same"]["skipped"]
    assert "rc" in done.tasks[ASKED]["silent"]
    admit = "admit --farm 3 --node NODE --managed-domain=a.example --managed-domain=b.example --json"
    assert asked(tmp_path).count(admit) == 2
    changed = {"changed": {**known, "_gateway_written": {"changed": True}}}
    assert playbook(ADMIT, changed, variables=controller(tmp_path / "again")).code != 0  # its program is none
