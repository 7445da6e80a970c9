"""A release that does not run on a node is no release, and what to do about it is said."""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOO_OLD = "libc.so.6: version `GLIBC_2.28' not found (required by _sodium.abi3.so)"
RELEASE = {"name": "tfgrid.gateway.release", "tasks_from": "install"}


@pytest.mark.skipif(os.geteuid() != 0, reason="its files are root's")
@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (TOO_OLD, 'set release_glibc to what `getconf GNU_LIBC_VERSION` names, such as "2_27"'),
        ("Illegal instruction", "something of the host keeps it from starting"),
    ],
    ids=["libc", "other"],
)
def test_it_does_not_run(playbook: Callable[..., Any], tmp_path: Path, words: str, remedy: str) -> None:
    program = tmp_path / "tfgateway"
    program.write_text(f"#!/bin/sh\ncat >&2 << 'EOF'\n{words}\nEOF\nexit 1\n")
    program.chmod(0o755)
    archive = tmp_path / "release.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(program, "bin/tfgateway")
    home = tmp_path / "release"
    home.mkdir()
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "interpreter_path": sys.executable,
        "release_root": str(tmp_path / "untouched"),
        "interpreter_root": str(tmp_path / "untouched"),
        "release_path": str(home),
        "release_program": str(home / "bin" / "tfgateway"),
        "_release_build": {"stdout": json.dumps({"archive": str(archive), "sha256": "0" * 64, "compiled": True})},
    }
    preview = playbook([{"ansible.builtin.include_role": RELEASE}], {"tf-gateway-a": host}, "--check")
    assert preview.code == 0, preview.output
    run = playbook([{"ansible.builtin.include_role": RELEASE}], {"tf-gateway-a": host})
    assert run.code != 0
    message = run.message("It runs", "tf-gateway-a")
    assert "does not run on tf-gateway-a: " in message
    assert remedy in message
    assert f"It says: {words}" in message
    assert not (home / "COMPLETE").exists()
