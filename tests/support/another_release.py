"""Another release of the daemon, to upgrade to: the source of this tree with one more line."""

from __future__ import annotations

import shutil
from pathlib import Path

from testbed.paths import ROOT


def option(directory: Path, file: str, line: str) -> str:
    """The option of ``ansible-playbook`` that has it built; ``directory`` is made anew, ``file`` has the line."""
    shutil.rmtree(directory, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "files" / "gateway_daemon", directory, ignore=ignored)
    changed = directory / "src" / "tfgateway" / file
    changed.write_text(f"{changed.read_text()}\n{line}\n")
    return f"-e=release_source={directory}"
