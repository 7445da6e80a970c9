"""The bytecode of zipped modules on the nodes of tests: kept once, and never that of another source."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from testbed.paths import ROOT

SCRIPT = """
import sys
sys.path[:0] = [{zip!r}, {node!r}]
import zipped_bytecode
zipped_bytecode._DIRECTORY = {kept!r}
import sample.module
print(sample.module.value())
"""


def run(directory: Path, value: str) -> str:
    """What a module of this source says, out of a zip."""
    archive = directory / "payload.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("sample/__init__.py", "")
        target.writestr("sample/module.py", f"def value():\n    return {value!r}\n")
    script = SCRIPT.format(
        zip=str(archive), node=str(ROOT / "testbed" / "containers" / "node"), kept=str(directory / "kept")
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_it_is_kept_and_found_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    assert run(tmp_path, "first") == "first"
    (code,) = kept.glob("sample.module.py-*")
    assert run(tmp_path, "second") == "second"
    (other,) = set(kept.glob("sample.module.py-*")) - {code}
    # What is found is run: the one in the place of the other is the proof.
    code.write_bytes(other.read_bytes())
    assert run(tmp_path, "first") == "second"


def test_damaged_or_without_a_directory_it_is_compiled(tmp_path: Path) -> None:
    assert run(tmp_path, "first") == "first"
    kept = tmp_path / "kept"
    kept.mkdir()
    run(tmp_path, "first")
    for path in kept.iterdir():
        path.write_bytes(b"damaged")
    assert run(tmp_path, "first") == "first"
