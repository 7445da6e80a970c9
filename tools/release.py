"""The tarball of the collection, with where it is published, and its checksum: ``dist/``.

``python -m tools.release URL``; Galaxy takes no collection that does not name a repository.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tools.tree import ROOT, copy

DIST = ROOT / "dist"
# An address that nobody has, for tests: the publisher of the collection names another one.
EXAMPLE = "https://gateway.example/tfgrid/gateway"
USAGE = "usage: make release REPOSITORY=https://HOST/OWNER/NAME (where the source of the collection is published)"


def build(repository: str, output: Path) -> Path:
    """The tarball of what git would commit, in ``output``, which is made anew.

    Its galaxy.yml names ``repository``, a URL, also as homepage and documentation, and its issues.
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
        command = [galaxy, "collection", "build", f"--output-path={output}"]
        subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    (tarball,) = output.glob("*.tar.gz")
    checksum = hashlib.sha256(tarball.read_bytes()).hexdigest()
    (output / "SHA256SUMS").write_text(f"{checksum}  {tarball.name}\n")
    return tarball


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
    tarball = build(arguments[0], DIST)
    print(f"{tarball.relative_to(ROOT)}, {tarball.stat().st_size} bytes; its checksum is in SHA256SUMS beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
