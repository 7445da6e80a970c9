"""The way back from a cutover leaves redis to the old programs, with what `playbooks/cutover_back.yml` knows alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

TASKS = [{"ansible.builtin.include_role": {"name": "tfgrid.gateway.cutover", "tasks_from": "retire"}}]
HOST = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


@pytest.mark.parametrize("code", [0, 1])
def test_the_marker_is_retired_by_the_release_that_runs(playbook: Any, tmp_path: Path, code: int) -> None:
    program = tmp_path / "current" / "bin" / "tfgateway"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho $* > {tmp_path}/called\nexit {code}\n")
    program.chmod(0o755)
    run = playbook(TASKS, {"a": HOST}, variables={"release_root": str(tmp_path)})
    assert run.code == 0, run.output
    assert (tmp_path / "called").read_text() == "redis retire\n"
    assert run.stats["a"]["changed"] == (1 if code == 0 else 0)


def test_a_node_without_our_release_goes_back_too(playbook: Any, tmp_path: Path) -> None:
    run = playbook(TASKS, {"a": HOST}, variables={"release_root": str(tmp_path)})
    assert run.code == 0, run.output
    assert run.stats["a"]["changed"] == 0
