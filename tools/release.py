"""The tarball of the collection, with where it is published, what controllers need beside it, and checksums: ``dist/``.

``python -m tools.release URL``; Galaxy takes no collection that does not name a repository. The prebuilt releases are a
tar of their own, since Galaxy takes 20 MB; the collection's tarball carries their checksums.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from tools import locked
from tools.tree import ROOT, copy

DIST = ROOT / "dist"
# An address that nobody has, for tests: the publisher of the collection names another one.
EXAMPLE = "https://gateway.example/tfgrid/gateway"
BUILDER = ROOT / "roles" / "release" / "files" / "build_release.py"
REDIS = ROOT / "roles" / "tfredis" / "files"
# The interpreters that role interpreter takes, on the machines that it has archives for.
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
GLIBC = "2_17"  # the default of release_glibc
USAGE = "usage: make release REPOSITORY=https://HOST/OWNER/NAME (where the source of the collection is published)"


def build(repository: str, output: Path, prebuilt: Sequence[Path] = ()) -> Path:
    """The tarball of what git would commit, in ``output``, which is made anew.

    Its galaxy.yml names ``repository``, a URL, also as homepage and documentation, and its issues. It carries the
    checksums of the ``prebuilt`` files, which become a tar beside it.
    """
    galaxy = str(Path(sys.executable).with_name("ansible-galaxy"))
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        copy(tree)
        address = repository.rstrip("/")
        published = dict.fromkeys(("repository", "homepage", "documentation"), address)
        with (tree / "galaxy.yml").open("a") as metadata:
            yaml.safe_dump({**published, "issues": f"{address}/issues"}, metadata)
        if prebuilt:
            carried = tree / "files" / "prebuilt" / "SHA256SUMS"
            carried.parent.mkdir()
            carried.write_text(checksums(prebuilt))
        command = [galaxy, "collection", "build", f"--output-path={output}"]
        subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    (tarball,) = output.glob("*.tar.gz")
    made = [tarball]
    if prebuilt:
        made.append(tarball.with_name(tarball.name.removesuffix(".tar.gz") + "-prebuilt.tar"))
        with tarfile.open(made[-1], "w") as tar:
            for path in prebuilt:
                tar.add(path, path.name, filter=anonymous)
    (output / "SHA256SUMS").write_text(checksums(made))
    return tarball


def checksums(paths: Sequence[Path]) -> str:
    """As ``sha256sum`` writes them."""
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without anything of this machine: the same files give the same tar."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    return member


def prebuilt_files(cache: Path) -> list[Path]:
    """What controllers build or fetch for nodes, in ``cache``: releases, and redis for old distributions."""
    return [Path(json.loads(run(command))["archive"]) for command in commands(cache)]


def commands(cache: Path) -> Iterator[list[str]]:
    """By a Python of its own minor version where this machine has it, a release is compiled once for all nodes."""
    for machine in MACHINES:
        platform = f"--platform={machine}-manylinux_{GLIBC}"
        for python in PYTHONS:
            builder = [
                str(locked.at_hand(python) or sys.executable),
                str(BUILDER),
                f"--project={ROOT / 'files' / 'gateway_daemon'}",
            ]
            yield [*builder, f"--python={python}", platform, f"--output={cache / 'releases'}"]
    fetcher = [sys.executable, str(REDIS / "fetch_redis.py"), f"--lock={REDIS / 'redis.lock'}"]
    # There is a wheel for no other machine.
    yield [*fetcher, f"--platform=x86_64-manylinux_{GLIBC}", f"--output={cache / 'redis'}"]


def run(command: list[str]) -> str:
    """What it prints. Errors: ``SystemExit``, after its own words."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(command, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("the prebuilt releases could not be made")
    return done.stdout


def unpacked(home: Path) -> Path:
    """The collection's folder below ``home``, as users have it: made anew from the tarball."""
    tarball = build(EXAMPLE, home / "dist")
    collection = home / "ansible_collections" / "tfgrid" / "gateway"
    shutil.rmtree(collection, ignore_errors=True)
    shutil.unpack_archive(tarball, collection)
    return collection


def main(arguments: list[str]) -> int:
    """Exit code."""
    if len(arguments) != 1 or not re.fullmatch(r"https://[^\s/]+\.[^\s/]+/\S+", arguments[0]):
        print(USAGE, file=sys.stderr)
        return 2
    build(arguments[0], DIST, prebuilt_files(ROOT / ".cache" / "prebuilt"))
    for path in sorted(DIST.iterdir()):
        print(f"{path.relative_to(ROOT)}, {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
