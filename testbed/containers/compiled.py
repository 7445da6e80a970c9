"""A relocatable CPython for a distribution whose C library is older than this machine's: compiled in its container."""

from __future__ import annotations

import hashlib
from pathlib import Path

from testbed.containers import image, podman
from testbed.containers.interpreter import Archive
from testbed.paths import CACHE

SYSTEMS = {"debian-11"}
"""Of ``image.SYSTEMS``, those whose own Python will not do either."""
_SCRIPT = Path(__file__).with_name("compile_python.sh")
_BYTECODE = image.DEBIAN.directory / "zipped_bytecode.py"
_PACKAGE = "python3.11"  # of Debian 12, and the oldest that runs the daemon


def ensure(system: str, log: Path) -> Archive:
    """Make the archive unless it is there; the first time takes minutes. Errors: ``FleetError``."""
    wanted = image.SYSTEMS[system]
    decisive = [wanted.suite.encode(), _PACKAGE.encode(), _SCRIPT.read_bytes(), _BYTECODE.read_bytes()]
    digest = hashlib.sha256(b"\0".join(decisive)).hexdigest()[:12]
    directory = CACHE / "interpreters" / f"{wanted.suite}-{digest}"
    path = directory / "python.tar.gz"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        mounts = [f"--volume={_SCRIPT}:/source/{_SCRIPT.name}:ro", f"--volume={_BYTECODE}:/source/{_BYTECODE.name}:ro"]
        command = ["sh", f"/source/{_SCRIPT.name}", image.mirror(), image.SUITE, _PACKAGE]
        podman.run(
            "run", "--rm", "--network=host", *mounts, f"--volume={directory}:/target", wanted.name, *command, log=log
        )
    return Archive(path, hashlib.sha256(path.read_bytes()).hexdigest())
