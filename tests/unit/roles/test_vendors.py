"""Vendors' repositories: a key for one repository alone, and a series that is still supported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).resolve().parents[3] / "roles" / "repository" / "templates" / "vendor.list.j2"
SERIES = "A supported series is chosen"
DESCRIBED = "The repository is described"
ON_DEBIAN = {"ansible_facts": {"os_family": "Debian"}}


def mongodb(version: str, series: str) -> dict[str, Any]:
    """A host that wants it; without the vendor's key the run ends before anything is done."""
    source = f"https://vendor.example/debian bookworm/mongodb-org/{series} main"
    return {"mongodb_enabled": True, "mongodb_version": version, "mongodb_repository": source}


HOSTS = {
    "old": mongodb("4.2", "4.2"),
    "unset": mongodb("", "8.0"),
    "other-series": mongodb("8.0", "4.2"),
    "longer-series": mongodb("7.0", "7.0.1"),
    "supported": mongodb("8.0", "8.0"),
}


def test_i3_the_key_is_for_this_repository_alone(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> None:
    given = {"repository_name": "docker", "repository_source": "https://vendor.example/linux bookworm stable"}
    line = f"lookup('ansible.builtin.template', '{LIST}').splitlines()[1]"
    written = evaluate("repository", {"line": line}, {"node": given})["node"]["line"]
    assert written == ("deb [signed-by=/etc/apt/keyrings/docker.asc] https://vendor.example/linux bookworm stable")


def test_i4_a_series_out_of_support_is_refused(playbook: Callable[..., Any]) -> None:
    role = {"ansible.builtin.include_role": {"name": "tfgrid.gateway.mongodb"}, "vars": ON_DEBIAN}
    run = playbook([role], HOSTS, "--check")
    assert {host for host, result in run.tasks[SERIES].items() if result.get("failed")} == HOSTS.keys() - {"supported"}
    assert "4.2 is out of support" in run.message(SERIES, "old")
    assert "mongodb_key_sha256" in run.message(DESCRIBED, "supported")


@pytest.mark.parametrize(("name", "install"), [("mongodb", "Mongodb"), ("docker", "Docker")])
def test_i4_nothing_is_done_unless_it_is_asked_for(playbook: Callable[..., Any], name: str, install: str) -> None:
    role = {"ansible.builtin.include_role": {"name": f"tfgrid.gateway.{name}"}, "vars": ON_DEBIAN}
    run = playbook([role], {"node": {f"{name}_enabled": "false"}})
    assert run.code == 0
    assert run.tasks[install]["node"]["skipped"]
    assert run.stats["node"]["changed"] == 0
