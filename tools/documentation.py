"""antsibull-docs over the tarball of `make release`: what plugins and roles say of themselves fits a docs site.

It is linted, then built as a site, in which every reference leads somewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from importlib.resources import files
from pathlib import Path

from tools import locked, release
from tools.tree import ROOT

HOME = ROOT / ".cache" / "documentation"
PAGES = HOME / "pages"
# What antsibull-docs refers to of Ansible's own documentation, which a site of many collections has an inventory of.
ANSIBLES = (
    "action_plugins",
    "ansible_configuration_settings",
    "common_return_values",
    *(
        f"ansible_collections.ansible.builtin.{Path(each.name).stem}_module"
        for each in files("ansible.modules").iterdir()
    ),
)
CONFIGURATION = """project = "tfgrid.gateway"
extensions = ["sphinx.ext.intersphinx", "sphinx_antsibull_ext"]
intersphinx_mapping = {"ansible": ("https://docs.ansible.com/", "ansible.inv")}
"""


def main() -> int:
    """Exit code of the first that complains; each problem is printed on a line."""
    collection = release.unpacked(HOME)
    bundled = Path(sys.executable).parent.parent.glob("lib/python3.*/site-packages")
    environment = {
        **os.environ,
        "HOME": str(HOME),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join([str(HOME), *map(str, bundled)]),
    }
    binaries = locked.binaries("antsibull-docs")
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir()
    (PAGES / "conf.py").write_text(CONFIGURATION)
    (PAGES / "ansible.inv").write_bytes(inventory(ANSIBLES))
    pages = ["collection", "--use-current", "--fail-on-error", "--squash-hierarchy", f"--dest-dir={PAGES}"]
    commands: list[list[str | Path]] = [
        [binaries / "antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", "."],
        [binaries / "antsibull-docs", *pages, "tfgrid.gateway"],
        [binaries / "sphinx-build", "-W", "--keep-going", "--quiet", "-b", "html", PAGES, HOME / "site"],
    ]
    for command in commands:
        if code := subprocess.run(command, cwd=collection, env=environment).returncode:
            return code
    return 0


def inventory(labels: tuple[str, ...]) -> bytes:
    """An inventory of Sphinx that has these labels."""
    head = b"# Sphinx inventory version 2\n# Project: Ansible\n# Version: \n# The remainder is compressed using zlib.\n"
    return head + zlib.compress("".join(f"{label} std:label -1 {label}.html {label}\n" for label in labels).encode())


if __name__ == "__main__":
    sys.exit(main())
