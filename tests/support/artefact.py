"""The collection as its users have it: a tarball, installed, run by FQCN from a folder that cannot be written."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools import release

BINARIES = Path(sys.executable).parent
# A mount of its own: root may write whatever its modes are.
READ_ONLY = 'mount --bind "$0" "$0"; mount -o remount,ro,bind "$0"; exec "$@"'


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed collection. ``home``: the operator's, for caches and Ansible's own files."""

    tarball: Path
    collections: Path
    home: Path
    binaries: Path = BINARIES
    dependencies: Path | None = None
    """Where the collections are that it needs, if those that came with the Ansible in ``binaries`` are not meant."""

    @property
    def root(self) -> Path:
        """The collection's folder."""
        return self.collections / "ansible_collections" / "tfgrid" / "gateway"

    def contents(self) -> dict[str, str]:
        """Digest of every file below the collections by path; of a folder, that it is there."""
        return {
            str(path.relative_to(self.collections)): hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else "folder"
            for path in sorted(self.collections.rglob("*"))
        }

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of this checkout, nor of whoever runs the tests."""
        others = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != BINARIES]
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "XDG_", "TFGATEWAY_"))
        }
        return {
            **kept,
            "HOME": str(self.home),
            "PATH": os.pathsep.join([str(self.binaries), *others]),
            "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(map(str, filter(None, [self.collections, self.dependencies]))),
            "ANSIBLE_NOCOLOR": "1",
            **more,
        }

    def run(self, *command: str, directory: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Ansible in ``directory`` while the collections are read-only. more: environment."""
        program = str(self.binaries / command[0])
        line = [program, *command[1:]]
        if os.geteuid() == 0:
            line = ["unshare", "--mount", "sh", "-ec", READ_ONLY, str(self.collections), *line]
        return subprocess.run(
            line,
            cwd=directory,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def build(directory: Path) -> Path:
    """The tarball that `make release` makes, in ``directory``."""
    return release.build(release.EXAMPLE, directory / "dist")


def install(tarball: Path, directory: Path, binaries: Path = BINARIES) -> Installed:
    """Install the tarball below ``directory``, in the place of what is there, by the Ansible in ``binaries``."""
    installed = Installed(tarball, directory / "collections", directory / "home", binaries)
    installed.home.mkdir(parents=True, exist_ok=True)
    # The collections that it depends on come with the `ansible` package.
    command = [
        "collection",
        "install",
        str(tarball),
        f"--collections-path={installed.collections}",
        "--no-deps",
        "--force",
    ]
    done = subprocess.run(
        [str(binaries / "ansible-galaxy"), *command],
        env=installed.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if os.geteuid() != 0:
        for path in [installed.root, *installed.root.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
    return installed
