"""Venvs beside ``.venv``, for tools that it cannot hold: each from a locked file of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.tree import ROOT


def binaries(name: str, python: Path | None = None) -> Path:
    """The venv's ``bin``; it is made from ``requirements/NAME.lock`` unless it is there. python: has its own."""
    lock_file = ROOT / "requirements" / f"{name}.lock"
    venv = ROOT / ".cache" / (f"{name}-{python.name}" if python else name)
    venv.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{venv}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # tests beside each other want it
        stamp = venv / ".installed"
        lock = lock_file.read_text()
        if not stamp.exists() or stamp.read_text() != lock:
            uv = str(Path(sys.executable).with_name("uv"))
            environment = {**os.environ, "UV_CACHE_DIR": str(ROOT / ".cache" / "uv")}
            target = f"--python={venv}/bin/python"
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", str(python or sys.executable), str(venv)],
                [uv, "pip", "sync", "--quiet", target, "--require-hashes", str(lock_file)],
            ):
                subprocess.run(command, env=environment, check=True)
            stamp.write_text(lock)
    return venv / "bin"


def at_hand(version: str) -> Path | None:
    """A Python of that minor version, on PATH or pyenv's; None: there is none."""
    found = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for path in [*([Path(found)] if found else []), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]:
        # A shim of pyenv is there for versions that are not.
        if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    return None
