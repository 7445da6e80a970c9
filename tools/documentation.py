"""antsibull-docs over the tarball of `make release`: what plugins and roles say of themselves fits a docs site."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools import locked, release
from tools.tree import ROOT

HOME = ROOT / ".cache" / "documentation"


def main() -> int:
    """Exit code of the linter; it prints each problem on a line."""
    collection = release.unpacked(HOME)
    bundled = Path(sys.executable).parent.parent.glob("lib/python3.*/site-packages")
    environment = {
        **os.environ,
        "HOME": str(HOME),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join([str(HOME), *map(str, bundled)]),
    }
    command = [str(locked.binaries("antsibull-docs") / "antsibull-docs"), "lint-collection-docs", "--plugin-docs"]
    return subprocess.run([*command, "--skip-rstcheck", "."], cwd=collection, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
