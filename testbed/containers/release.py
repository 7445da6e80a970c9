"""The daemon's release for the node image's Python, built as role ``release`` does, unpacked for the explorer."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from testbed.containers import image, podman
from testbed.errors import FleetError
from testbed.paths import CACHE, ROOT

_BUILDER = ROOT / "roles" / "release" / "files" / "build_release.py"
_ARCHIVES = CACHE / "releases"  # where role release keeps them too: one archive serves both


def build(log: Path) -> Path:
    """Build unless it is there; the archive. Errors: ``FleetError``."""
    python = podman.run(
        "run",
        "--rm",
        "--network=none",
        image.DEBIAN.name,
        "python3",
        "-c",
        "import platform; print(platform.python_version())",
    )
    command = [
        sys.executable,
        str(_BUILDER),
        f"--project={ROOT / 'files' / 'gateway_daemon'}",
        f"--python={python.strip()}",
        f"--platform={platform.machine()}-manylinux_2_17",
        f"--output={_ARCHIVES}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        log.write_text(done.stderr)
        raise FleetError("the daemon's release could not be built", log=log)
    return Path(json.loads(done.stdout)["archive"])


def unpack(archive: Path, parent: Path) -> Path:
    """Unpack below ``parent`` unless it is there; the release's directory."""
    target = parent / archive.name.removesuffix(".tar.gz")
    if target.exists():
        return target
    partial = parent / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        # Debian 12's Python has no filters; the archive is our own.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(partial)  # noqa: S202
    (partial / "bin" / "python").symlink_to("/usr/bin/python3")
    partial.rename(target)
    return target
