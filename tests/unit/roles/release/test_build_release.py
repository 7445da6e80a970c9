"""A release is a function of what goes in: same input, same bytes; other input, other version."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
BUILDER = ROOT / "roles" / "release" / "files" / "build_release.py"


SAME = f"{sys.version_info[0]}.{sys.version_info[1]}.99"
"""A Python on a node that reads the bytecode of this one."""


def build(project: Path, output: Path, python: str = SAME) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, BUILDER, f"--project={project}", f"--python={python}",
         "--platform=x86_64-manylinux_2_17", f"--output={output}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A daemon without dependencies: nothing has to be fetched."""
    tree = tmp_path / "project"
    shutil.copytree(ROOT / "files" / "gateway_daemon" / "src" / "tfgateway" / "telemetry", tree / "src" / "tfgateway")
    shutil.copy(ROOT / "files" / "gateway_daemon" / "pyproject.toml", tree)
    (tree / "requirements.lock").write_text("")
    return tree


def test_the_same_input_gives_the_same_archive(project, tmp_path):
    first = build(project, tmp_path / "one")
    second = build(project, tmp_path / "two")
    assert first["version"] == second["version"]
    assert first["sha256"] == second["sha256"]
    assert first["changed"]
    assert not build(project, tmp_path / "one")["changed"]


def test_a_changed_source_is_another_version(project, tmp_path):
    first = build(project, tmp_path / "out")
    with (project / "src" / "tfgateway" / "text.py").open("a") as source:
        source.write("# changed\n")
    assert build(project, tmp_path / "out")["version"] != first["version"]


def test_the_archive_holds_launcher_source_and_version_and_nothing_of_this_machine(project, tmp_path):
    built = build(project, tmp_path / "out")
    with tarfile.open(built["archive"]) as tar:
        members = {member.name: member for member in tar.getmembers()}
        launcher = tar.extractfile("bin/tfgateway")
        assert launcher is not None
        assert b"-IS" in launcher.read()
    assert members["bin/tfgateway"].mode == 0o755
    assert "lib/tfgateway/text.py" in members
    assert f"lib/tfgateway-{built['version']}.dist-info/METADATA" in members
    assert {member.uid for member in members.values()} == {0}
    assert {member.mtime for member in members.values()} == {0}


@pytest.mark.parametrize(("python", "compiled"), [(SAME, True), ("3.99.0", False)])
def test_bytecode_is_made_once_for_all_nodes_that_read_it(project, tmp_path, python, compiled):
    built = build(project, tmp_path / "out", python)
    assert built["compiled"] is compiled
    with tarfile.open(built["archive"]) as tar:
        names = [name for name in tar.getnames() if name.endswith(f"text.{sys.implementation.cache_tag}.pyc")]
        assert len(names) == compiled
        if not compiled:
            return
        tar.extractall(tmp_path / "node", filter="data")
    (tmp_path / "node/lib/tfgateway/text.py").write_text("raise SystemExit('compiled again')")
    command = [sys.executable, "-IS", "-c", "import sys; sys.path[0:0] = sys.argv[1:]; import tfgateway.text as text;"]
    command[-1] += " print(text.printable.__code__.co_filename)"
    done = subprocess.run([*command, str(tmp_path / "node/lib")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "node/lib/tfgateway/text.py")


def test_the_controller_gets_a_command_that_runs(project, tmp_path):
    command_line = project / "src" / "tfgateway" / "cli"
    command_line.mkdir()
    (project / "src" / "tfgateway" / "__init__.py").write_text("")
    (command_line / "__init__.py").write_text("")
    (command_line / "main.py").write_text("import sys\ndef main(prog_name):\n    print(prog_name, sys.argv[1:])\n")
    command = [sys.executable, BUILDER, f"--project={project}", "--here", f"--output={tmp_path / 'cache'}"]
    programs = [
        Path(json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["program"]) for _ in range(2)
    ]
    assert programs[0] == programs[1]
    done = subprocess.run([programs[0], "backup", "x y"], capture_output=True, text=True, check=True)
    assert done.stdout == "tfgateway ['backup', 'x y']\n"
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
