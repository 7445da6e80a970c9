"""What stays on a node: a few releases, the interpreters that they need, and the redis that runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Any  # of conftest.py, which cannot be imported
Playbook = Callable[..., Run]


def node_with_six_releases(root: Path) -> Path:
    """``/opt/tfgateway`` of a node after upgrades: the newest release last, each with an interpreter of its own."""
    for number in range(6):
        home = root / "interpreters" / f"i{number}"
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "python3").touch()
        release = root / "releases" / f"r{number}"
        (release / "bin").mkdir(parents=True)
        (release / "bin" / "python").symlink_to(home / "bin" / "python3")
        os.utime(release, (number, number))
    (root / "python").symlink_to(root / "interpreters" / "i5" / "bin" / "python3")
    (root / "current").symlink_to(root / "releases" / "r1")  # the operator went back to it
    return root


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return node_with_six_releases(tmp_path / "tfgateway")


HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def values(root: Path, **variables: Any) -> dict[str, Any]:
    """Of a host whose newest release was installed just now."""
    return {
        **HERE,
        "release_root": str(root),
        "release_path": str(root / "releases" / "r5"),
        "interpreter_root": str(root),
        "interpreter_path": str(root / "interpreters" / "i5" / "bin" / "python3"),
        **variables,
    }


def prune_all(playbook: Playbook, hosts: dict[str, dict[str, Any]], *options: str) -> Run:
    role = {"name": "tfgrid.gateway.release", "tasks_from": "prune"}
    run = playbook([{"ansible.builtin.include_role": role}], hosts, *options)
    assert run.code == 0, run.output
    return run


def prune(playbook: Playbook, root: Path, *options: str, **variables: Any) -> Run:
    return prune_all(playbook, {"node": values(root, **variables)}, *options)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_few_releases_stay_and_their_interpreters(playbook: Playbook, node: Path) -> None:
    run = prune(playbook, node)
    assert names(node / "releases") == ["r1", "r4", "r5"]  # in use, the one before, the newest
    assert names(node / "interpreters") == ["i1", "i4", "i5"]
    assert run.stats["node"]["changed"] == 2
    assert prune(playbook, node).stats["node"]["changed"] == 0


KEPT = {0: ["r1", "r5"], 1: ["r1", "r5"], 2: ["r1", "r5"], 9: [f"r{number}" for number in range(6)]}


@pytest.fixture(scope="module")
def roots(playbook: Playbook, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Nodes that one run pruned, by what is special about each."""
    cases = [*(f"keep-{keep}" for keep in KEPT), "final-slash", "shared-interpreter", "own-python"]
    found = {name: node_with_six_releases(tmp_path_factory.mktemp(name) / "tfgateway") for name in cases}
    for number in (0, 1):
        link = found["shared-interpreter"] / "releases" / f"r{number}" / "bin" / "python"
        link.unlink()
        link.symlink_to(found["shared-interpreter"] / "interpreters" / "i0" / "bin" / "python3")
    for link in [found["own-python"] / "python", *found["own-python"].glob("releases/*/bin/python")]:
        link.unlink()
        link.symlink_to("/usr/bin/python3")
    special: dict[str, dict[str, Any]] = {f"keep-{keep}": {"release_keep": keep} for keep in KEPT}
    special["final-slash"] = dict.fromkeys(("release_root", "interpreter_root"), f"{found['final-slash']}/")
    special["own-python"] = {"interpreter_path": "/usr/bin/python3"}
    prune_all(playbook, {name: values(root, **special.get(name, {})) for name, root in found.items()})
    return found


@pytest.mark.parametrize("keep", KEPT)
def test_the_one_in_use_and_the_newest_always_stay(roots: dict[str, Path], keep: int) -> None:
    assert names(roots[f"keep-{keep}"] / "releases") == KEPT[keep]


def test_a_final_slash_is_no_other_place(roots: dict[str, Path]) -> None:
    assert names(roots["final-slash"] / "releases") == ["r1", "r4", "r5"]
    assert names(roots["final-slash"] / "interpreters") == ["i1", "i4", "i5"]


def test_an_interpreter_that_several_releases_share_goes_with_the_last(roots: dict[str, Path]) -> None:
    assert names(roots["shared-interpreter"] / "interpreters") == ["i0", "i4", "i5"]


def test_releases_on_the_nodes_own_python_need_none_that_was_brought(roots: dict[str, Path]) -> None:
    assert names(roots["own-python"] / "interpreters") == []


def test_check_mode_removes_nothing_and_fails_nowhere(playbook: Playbook, node: Path) -> None:
    run = prune(playbook, node, "--check")
    assert run.stats["node"]["changed"] > 0
    assert len(names(node / "releases")) == len(names(node / "interpreters")) == 6
    assert prune(playbook, node / "untouched", "--check").stats["node"]["changed"] == 0


def test_only_the_redis_that_runs_stays(playbook: Playbook, tmp_path: Path) -> None:
    for name in ("a" * 12, "b" * 12, "c" * 12 + ".partial"):
        (tmp_path / "redis" / name / "bin").mkdir(parents=True)
    role = {"name": "tfgrid.gateway.tfredis", "tasks_from": "prune"}
    given = {**HERE, "tfredis_root": str(tmp_path), "_tfredis_fetched": {"stdout": f'{{"sha256": "{"b" * 64}"}}'}}
    run = playbook([{"ansible.builtin.include_role": role}], {"node": given})
    assert run.code == 0, run.output
    assert names(tmp_path / "redis") == ["b" * 12]
