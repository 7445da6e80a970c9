"""A module of the collection, run as Ansible does: a process of its own, arguments on standard input, JSON back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# A node may have another Python, and the controller another ansible-core, than this process.
PYTHON = os.environ.get("TFGRID_MODULE_PYTHON", sys.executable)
CORE = os.environ.get("TFGRID_MODULE_CORE", "")


def run(name: str, directory: Path, /, *, check: bool = False, diff: bool = False, **params: Any) -> dict[str, Any]:
    """What module ``name`` returns. directory: for its temporary files."""
    internal = {"_ansible_remote_tmp": str(directory), "_ansible_check_mode": check, "_ansible_diff": diff}
    path = os.pathsep.join(filter(None, [str(ROOT / ".ansible" / "collections"), CORE]))
    done = subprocess.run(
        [PYTHON, "-m", f"ansible_collections.tfgrid.gateway.plugins.modules.{name}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**internal, **params}}),
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"{name} returned no JSON: {done.stdout}{done.stderr}") from None
    return answer
