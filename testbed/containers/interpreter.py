"""A relocatable CPython in the layout of python-build-standalone, made of one that is on this machine.

The roles bring such an archive to nodes whose own Python will not do; in production it is downloaded, here it is not.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import FleetError
from testbed.paths import CACHE, ROOT

_ARCHIVES = CACHE / "interpreters"
_BYTECODE = ROOT / "testbed" / "containers" / "node" / "zipped_bytecode.py"
_FORMAT = 2  # of the archives that this file makes
_WANTED = "3.12"  # as in production; any that runs the daemon will do
# Large and of no use on a node.
_LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages",
             "dist-packages", "__pycache__"}  # fmt: skip
_LEFT_OUT_MODULES = ("_tkinter", "_curses", "readline", "_test", "_xx", "xx", "_dbm", "_gdbm", "nis")
# Libraries of the C library itself: every node has its own.
_SYSTEM = re.compile(r"(linux-vdso|ld-linux|libc|libm|libdl|librt|libpthread|libutil|libresolv|libnsl)[.-]")
_ASK = (
    "import json,os,platform,sys,sysconfig;"
    "print(json.dumps([platform.python_version(), os.path.realpath(sys.executable), sysconfig.get_path('stdlib')]))"
)


@dataclass(frozen=True, slots=True)
class Archive:
    """What role ``interpreter`` wants to know of an archive."""

    path: Path
    sha256: str


def at_hand(version: str) -> Path | None:
    """The program of an installed CPython ``version`` (``3.6``) of pyenv; None: there is none."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(root.glob(f"{version}.*/bin/python{version}"))
    return found[-1] if found else None


def ensure() -> Archive:
    """Make the archive unless it is there. Errors: ``FleetError``."""
    program = at_hand(_WANTED) or Path(sys.executable)
    version, binary, library = _ask(program)
    digest = hashlib.sha256(f"{_FORMAT}\0{binary}\0{version}".encode()).hexdigest()[:12]
    path = _ARCHIVES / f"cpython-{version}-{digest}.tar.gz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        with tarfile.open(partial, "w:gz", compresslevel=1) as archive:
            add_tree(archive, Path(binary), Path(library))
            # As in the image of the nodes.
            site = f"python/lib/{Path(library).name}/site-packages/{_BYTECODE.stem}"
            _add(archive, f"{site}.py", _BYTECODE.read_bytes(), executable=False)
            _add(archive, f"{site}.pth", f"import {_BYTECODE.stem}\n".encode(), executable=False)
        partial.rename(path)
    return Archive(path, hashlib.sha256(path.read_bytes()).hexdigest())


def add_tree(archive: tarfile.TarFile, binary: Path, library: Path) -> None:
    """Fill ``archive`` with ``python/``: program, standard library, and the libraries that both need."""
    name = library.name  # python3.12
    prefix = str(binary.parent.parent)
    files = {f"bin/{name}": binary}
    for path in sorted(library.rglob("*")):
        inside = path.relative_to(library)
        extension = path.suffix == ".so" and path.name.startswith(_LEFT_OUT_MODULES)
        if path.is_file() and not extension and not _LEFT_OUT & set(inside.parts) and path.suffix != ".a":
            files[f"lib/{name}/{inside}"] = path
    files |= {f"lib/{path.name}": path for path in _needed(files.values())}
    for target, path in files.items():
        up = "/".join([".."] * target.count("/"))
        content = path.read_bytes()
        _add(archive, f"python/{target}", relocated(content, prefix, f"$ORIGIN/{up}/lib"), os.access(path, os.X_OK))
    link = tarfile.TarInfo("python/bin/python3")
    link.type, link.linkname = tarfile.SYMTYPE, name
    archive.addfile(link)


def relocated(content: bytes, prefix: str, run_path: str) -> bytes:
    """An ELF file whose libraries are looked for beside it and not below ``prefix``; any other file as it is."""
    if not content.startswith(b"\x7fELF"):
        return content
    old, new = f"{prefix}/lib\0".encode(), f"{run_path}\0".encode()
    return content.replace(old, new.ljust(len(old), b"\0")) if len(new) <= len(old) else content


def _needed(paths: Iterable[Path]) -> list[Path]:
    """Shared libraries of ELF files that are no part of the C library."""
    found = set()
    elves = [str(path) for path in paths if path.read_bytes()[:4] == b"\x7fELF"]
    listed = subprocess.run(["ldd", *elves], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    for library in re.findall(r"=> (/\S+)", listed):
        if not _SYSTEM.match(Path(library).name):
            found.add(Path(library))
    return sorted(found)


def _add(archive: tarfile.TarFile, name: str, content: bytes, executable: bool) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o755 if executable else 0o644
    archive.addfile(member, io.BytesIO(content))


def _ask(program: Path) -> tuple[str, str, str]:
    """Version, real program and standard library of an interpreter."""
    base = program.resolve()  # not that of a virtual environment, which has no library of its own
    done = subprocess.run([str(base), "-I", "-c", _ASK], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise FleetError(f"{program} does not run: {done.stderr.strip()}")
    version, binary, library = json.loads(done.stdout)
    return version, binary, library
