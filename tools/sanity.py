"""``ansible-test sanity`` on a copy of what git would commit, since it wants a real collection folder.

Everything it makes (its venv, its caches) stays below ``.cache/sanity``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".cache" / "sanity"
COLLECTION = HOME / "ansible_collections" / "tfgrid" / "gateway"
# What Ansible loads; all other code has linters of its own (ruff, mypy strict).
PARTS = ("changelogs/", "meta/", "playbooks/", "plugins/", "roles/", "tests/sanity/", "tests/unit/plugins/")
# ansible-core's name for the pip bootstrapper of its release, looked for in its cache before it is downloaded.
BOOTSTRAPPER = "get_pip_24_2.py"
BOOTSTRAP = '''"""Stands in for the downloaded pip bootstrapper: Python's own pip, then the packages asked for."""

import subprocess
import sys

# In a process of its own: it switches the configuration of pip off for all that follows.
subprocess.check_call([sys.executable, "-m", "ensurepip"])
wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *wanted]))
'''


def copy_tree() -> None:
    """Fill the collection folder with its tracked and new files, ignored ones excepted."""
    shutil.rmtree(COLLECTION, ignore_errors=True)
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in names:
        source = ROOT / name
        if (name.startswith(PARTS) or "/" not in name) and source.is_file():
            target = COLLECTION / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    # ansible-test asks the nearest repository for its files: that one must not be ours, which ignores .cache.
    subprocess.run(["git", "init", "--quiet"], cwd=COLLECTION, check=True)


def main() -> int:
    """ansible-test's exit code."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / BOOTSTRAPPER).write_text(BOOTSTRAP)
    copy_tree()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "HOME": str(HOME),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PIP_CACHE_DIR": str(ROOT / ".cache" / "pip"),
    }
    command = [
        str(binaries / "ansible-test"),
        "sanity",
        "--venv",
        "--requirements",
        "--python",
        python,
        "--color",
        "no",
    ]
    return subprocess.run([*command, *sys.argv[1:]], cwd=COLLECTION, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
