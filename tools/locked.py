"""Venvs beside ``.venv``, for tools that it cannot hold: each from a locked file of its own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from tools.tree import ROOT


def binaries(name: str) -> Path:
    """The venv's ``bin``; it is made from ``requirements/NAME.lock`` unless it is there."""
    lock_file = ROOT / "requirements" / f"{name}.lock"
    venv = ROOT / ".cache" / name
    venv.parent.mkdir(exist_ok=True)
    with (venv.parent / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # tests beside each other want it
        stamp = venv / ".installed"
        lock = lock_file.read_text()
        if not stamp.exists() or stamp.read_text() != lock:
            uv = str(Path(sys.executable).with_name("uv"))
            environment = {**os.environ, "UV_CACHE_DIR": str(ROOT / ".cache" / "uv")}
            python = f"--python={venv}/bin/python"
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)],
                [uv, "pip", "sync", "--quiet", python, "--require-hashes", str(lock_file)],
            ):
                subprocess.run(command, env=environment, check=True)
            stamp.write_text(lock)
    return venv / "bin"
