"""A venv with the oldest ansible-core that the collection supports, and the collections of its time.

``python -m tools.oldest_core COMMAND [ARGUMENT ...]`` runs a command with it first on PATH.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = "2.16"
LOCK = ROOT / "requirements" / f"core-{VERSION}.lock"
VENV = ROOT / ".cache" / f"core-{VERSION}"


def binaries() -> Path:
    """The venv's ``bin``; the venv is made from the locked file unless it is there."""
    VENV.parent.mkdir(exist_ok=True)
    with VENV.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # tests beside each other want it
        stamp = VENV / ".installed"
        lock = LOCK.read_text()
        if not stamp.exists() or stamp.read_text() != lock:
            uv = str(Path(sys.executable).with_name("uv"))
            environment = {**os.environ, "UV_CACHE_DIR": str(ROOT / ".cache" / "uv")}
            python = f"--python={VENV}/bin/python"
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)],
                [uv, "pip", "sync", "--quiet", python, "--require-hashes", str(LOCK)],
            ):
                subprocess.run(command, env=environment, check=True)
            stamp.write_text(lock)
    return VENV / "bin"


if __name__ == "__main__":
    found = binaries()
    path = os.pathsep.join([str(found), os.environ["PATH"]])
    os.execvpe(str(found / sys.argv[1]), sys.argv[1:], {**os.environ, "PATH": path})  # noqa: S606  (no shell is meant)
