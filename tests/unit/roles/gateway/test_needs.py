"""A role that is run without what it builds on says so at once, instead of leaving units that restart for ever."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Playbook = Callable[..., Any]
HERE: dict[str, Any] = {
    "ansible_connection": "local",
    "ansible_python_interpreter": sys.executable,
    "release_root": "/nowhere",
    "release_group": "root",
    "_release_unit_groups": [],
}
# Its tasks, not the role: the roles that it brings with it would make a node of this machine.
GATEWAY = Path(__file__).resolve().parents[4] / "roles" / "gateway"
NEEDS = [
    {"ansible.builtin.include_vars": {"file": str(GATEWAY / "vars" / "main.yml")}},
    {"ansible.builtin.include_tasks": {"file": str(GATEWAY / "tasks" / "look.yml")}},
    {"ansible.builtin.include_tasks": {"file": str(GATEWAY / "tasks" / "needs.yml")}},
]


def test_gateway_wants_a_seed_and_a_redis(playbook: Playbook, tmp_path: Path) -> None:
    seed = tmp_path / "identity.seed"
    seed.touch()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener, closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refused
        there, away = (f"redis://127.0.0.1:{one.getsockname()[1]}/0" for one in (listener, closed))
        hosts = {
            "right": {"gateway_seed_path": str(seed), "gateway_redis_url": there},
            "no-seed": {"gateway_seed_path": str(tmp_path / "none"), "gateway_redis_url": there},
            "no-redis": {"gateway_seed_path": str(seed), "gateway_redis_url": away},
            "neither": {"gateway_seed_path": str(tmp_path / "none"), "gateway_redis_url": away},
            "by-socket": {"gateway_seed_path": str(seed), "gateway_redis_url": "unix:///run/redis.sock"},
        }
        run = playbook(NEEDS, hosts, variables=HERE)
    results = run.tasks["What the gateway needs is there"]
    said = {host: result["msg"] if result.get("failed") else [] for host, result in results.items()}
    assert said["right"] == said["by-socket"] == []
    assert [line.split(":")[-1] for line in said["no-seed"]] == [" run role identity before role gateway"]
    assert "run role tfredis before role gateway" in said["no-redis"][0]
    assert len(said["neither"]) == 2


@pytest.mark.parametrize("role", ["sshd", "firewall", "masquerade", "tfredis", "wireguard", "gateway"])
def test_a_role_that_uses_facts_gathers_them_where_a_play_has_not(role: str) -> None:
    tasks = (Path(__file__).resolve().parents[4] / "roles" / role / "tasks" / "main.yml").read_text()
    assert tasks.index("ansible.builtin.setup:") < tasks.index("import_tasks")
