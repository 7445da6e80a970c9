"""Builds the Go peer from Debian's packages, once a change."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).parent / "yamux_peer" / "main.go"
LIBRARY = Path("/usr/share/gocode/src/github.com/hashicorp/yamux")


def missing() -> str:
    """Why it cannot be built here; empty: it can."""
    if shutil.which("go") is None:
        return "no go here: apt-get install golang-go"
    if not LIBRARY.exists():
        return "hashicorp's yamux is not here: apt-get install golang-github-hashicorp-yamux-dev"
    return ""


def build() -> Path:
    """The program. Errors: ``CalledProcessError``; ``RuntimeError`` when something is missing."""
    if missing():
        raise RuntimeError(missing())
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    directory = ROOT / ".cache" / "interop"
    program = directory / f"yamux-peer-{digest}"
    if not program.exists():
        directory.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "GO111MODULE": "off",  # Debian's libraries are found in a GOPATH, and nothing is fetched
            "GOPATH": "/usr/share/gocode",
            "GOCACHE": str(directory / "cache"),
            "GOFLAGS": "",
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        }
        unfinished = program.with_suffix(f".{os.getpid()}")
        command = ["go", "build", "-o", str(unfinished), str(SOURCE)]
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        unfinished.rename(program)
    return program
