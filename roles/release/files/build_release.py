"""Build a release of the daemon on the controller: its source and hash-locked wheels for a node's interpreter.

Prints one JSON object: ``{"version": s, "archive": path, "sha256": s, "compiled": bool, "changed": bool}``. The version
is a digest of what goes in, so the same input gives the same archive, byte for byte, and a second call builds nothing.
compiled: the archive holds bytecode, made here once for all nodes whose Python has the same minor version.
With ``--here`` the release is for the controller itself, is unpacked too, and ``"program": path`` is its command. With
``--prebuilt`` nothing is built: the release is taken out of the artefact that was published with the collection.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

import prebuilt  # beside this file

OLDEST = (3, 11)  # Python that the daemon runs on
LAUNCHER = """#!/bin/sh
# -I and -S: neither the caller's environment nor the distribution's packages can change what runs.
here=$(dirname "$(readlink -f "$0")")
exec "$here/python" -IS -c '
import sys
sys.path.insert(0, sys.argv.pop(1))
del sys.argv[0]  # what is left begins with this program, by the name it was called: a supervisor starts it again
from tfgateway.cli.main import main
main(prog_name="tfgateway")
' "$here/../lib" "$0" "$@"
"""


def sources(project: Path) -> list[Path]:
    """The files that make the daemon, in a stable order."""
    return sorted(path for path in (project / "src").rglob("*") if path.is_file() and path.suffix in {".py", ".typed"})


def digest(project: Path, lock: Path) -> str:
    """Twelve hex digits over everything that decides what a release does."""
    total = hashlib.sha256()
    for path in [*sources(project), project / "pyproject.toml", lock, Path(__file__)]:
        name = path.name if path in (lock, Path(__file__)) else str(path.relative_to(project))
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:12]


def install_wheels(lock: Path, target: Path, python: str, system: str, cache: Path) -> None:
    """Put the locked wheels for (python, system) into ``target``; system is a uv platform, empty for this machine's.

    Errors: ``SystemExit`` with the tool's words.
    """
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        sys.exit("there is no command uv, beside Ansible or on PATH: pip install uv")
    command = [uv, "pip", "install", "--quiet", "--no-config", "--python", sys.executable, "--target", str(target),
               "--python-version", python, *(["--python-platform", system] if system else []),
               "--only-binary", ":all:", "--require-hashes", "--requirement", str(lock)]  # fmt: skip
    done = subprocess.run(  # noqa: S603 - every argument is ours
        command, env={**os.environ, "UV_CACHE_DIR": str(cache)}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        where = f"Python {python} on {system or sysconfig.get_platform()}"
        sys.exit(f"the wheels for {where} could not be fetched:\n{done.stderr.strip()}")


def fill(tree: Path, project: Path, version: str) -> None:
    """Add the daemon itself, its launcher and its metadata to ``tree``."""
    lib = tree / "lib"
    for path in sources(project):
        target = lib / path.relative_to(project / "src")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    info = lib / f"tfgateway-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tfgateway\nVersion: {version}\n")
    shutil.rmtree(lib / "bin", ignore_errors=True)
    (tree / "bin").mkdir()
    launcher = tree / "bin" / "tfgateway"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)


def bytecode_is_alike(python: str) -> bool:
    """Whether this Python compiles as a node's does: all releases of one minor version write the same."""
    return sys.implementation.name == "cpython" and python.split(".")[:2] == [str(one) for one in sys.version_info[:2]]


def compile_all(lib: Path) -> None:
    """Compile what is in ``lib``; never compared with the source, which nobody changes. Errors: ``SystemExit``."""
    done = subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "-j1", "--invalidation-mode", "unchecked-hash", "."],
        cwd=lib,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"},  # sets of constants in one order
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"the release could not be compiled:\n{done.stdout.strip()}")


def pack(tree: Path, archive: Path) -> None:
    """A tar.gz of ``tree`` without anything of this machine in it: owners, times and order are fixed."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in sorted(tree.rglob("*")):
            member = tar.gettarinfo(str(path), str(path.relative_to(tree)))
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = "root"
            executable = member.isdir() or member.mode & 0o100
            member.mode = 0o755 if executable else 0o644
            with path.open("rb") if path.is_file() else io.BytesIO() as content:
                tar.addfile(member, content if member.isfile() else None)
    with archive.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as out:
        out.write(data.getbuffer())


def unpack(archive: Path, parent: Path) -> Path:
    """The command of a release for this machine, unpacked below ``parent`` unless it is there."""
    home = parent / archive.name.removesuffix(".tar.gz")
    if not home.exists():
        parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as scratch:
            tree = Path(scratch) / "tree"
            with tarfile.open(archive) as tar:
                tar.extraction_filter = getattr(tarfile, "data_filter", None)  # newer Pythons know it
                tar.extractall(tree)  # noqa: S202 - packed above
            (tree / "bin" / "python").symlink_to(sys.executable)
            with contextlib.suppress(OSError):  # another run was quicker
                tree.rename(home)
    return home / "bin" / "tfgateway"


def version_of(project: Path) -> str:
    """The version in its pyproject.toml."""
    # Not by tomllib: ansible-core 2.16 and 2.17 also run on Python 3.10, which has none.
    found = re.search(r'(?m)^version = "([^"]+)"$', (project / "pyproject.toml").read_text())
    if found is None:
        sys.exit(f"{project}/pyproject.toml names no version")
    return found[1]


def build(project: Path, lock: Path, version: str, python: str, system: str, output: Path) -> tuple[Path, bool, bool]:
    """The archive, unless it is there; whether it is compiled, and whether it was built now. Errors: ``SystemExit``."""
    builder = f"by{sys.version_info[0]}.{sys.version_info[1]}"  # what another Python has built may not be compiled
    archive = output / f"tfgateway-{version}-py{python}-{system or sysconfig.get_platform()}-{builder}.tar.gz"
    compiled = bytecode_is_alike(python)
    changed = not archive.exists()
    if changed:
        with tempfile.TemporaryDirectory(dir=output) as scratch:
            tree = Path(scratch) / "tree"
            install_wheels(lock, tree / "lib", python, system, output / "wheels")
            fill(tree, project, version)
            if compiled:
                compile_all(tree / "lib")
            packed = Path(scratch) / archive.name
            pack(tree, packed)
            packed.replace(archive)  # complete or not at all, also when two runs build at the same time
    return archive, compiled, changed


def taken(artefact: str, checksums: Path, version: str, python: str, system: str, output: Path) -> tuple[Path, bool]:
    """The archive out of the prebuilt artefact, and whether it is compiled. Errors: ``SystemExit``."""
    known = prebuilt.checksums(checksums)
    machine, glibc = system.split("-manylinux_")
    release = prebuilt.choose(known, version, python, machine, glibc)
    return prebuilt.take(Path(artefact), release.name, known[release.name], output), release.compiled


def here() -> str:
    """This machine as a platform of uv. Errors: ``SystemExit``: it has another C library."""
    name, number = platform.libc_ver()
    if name != "glibc":
        sys.exit(f"there are prebuilt releases for Linux with glibc, this is {platform.platform()}: {prebuilt.UNSET}")
    return f"{platform.machine()}-manylinux_{number.replace('.', '_')}"


def main() -> None:
    """Build what the arguments ask for and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="directory of the daemon (with pyproject.toml)")
    parser.add_argument("--here", action="store_true", help="for this controller: unpack it and name its command")
    parser.add_argument("--python", help="version of the node's interpreter, for example 3.11.2")
    parser.add_argument("--platform", help="for example x86_64-manylinux_2_17")
    parser.add_argument("--output", type=Path, required=True, help="directory for archives and downloads")
    parser.add_argument("--prebuilt", default="", help="the artefact with prebuilt releases; empty: build it")
    parser.add_argument("--checksums", type=Path, default=prebuilt.CHECKSUMS, help="of what is in it")
    options = parser.parse_args()
    if options.here == bool(options.python and options.platform):
        parser.error("either --here, or --python and --platform")
    if options.here and sys.version_info < OLDEST:
        sys.exit(f"tfgateway needs Python {OLDEST[0]}.{OLDEST[1]}, Ansible runs on {platform.python_version()} here")
    python: str = platform.python_version() if options.here else options.python
    system: str = "" if options.here else options.platform

    os.umask(0o077)  # a cache is its user's alone
    project: Path = options.project.resolve()
    lock = project / "requirements.lock"
    version = f"{version_of(project)}+{digest(project, lock)}"
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    if options.prebuilt:
        archive, compiled = taken(options.prebuilt, options.checksums, version, python, system or here(), output)
        changed = False
    else:
        archive, compiled, changed = build(project, lock, version, python, system, output)
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    built = {
        "version": version, "archive": str(archive), "sha256": checksum, "compiled": compiled, "changed": changed
    }  # fmt: skip
    if options.here:
        built["program"] = str(unpack(archive, output / "here"))
    print(json.dumps(built))  # noqa: T201


if __name__ == "__main__":
    main()
