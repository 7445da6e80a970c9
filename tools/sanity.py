"""``ansible-test sanity`` on the unpacked tarball of `make release`, since it is that which users have.

Twice: all of it with the controller's own ansible-core; then with the oldest core that the collection supports what the
modules are on nodes, compiled and imported by Python 3.6 where there is one. Everything it makes (venvs, caches) stays
below ``.cache/sanity``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools import locked, oldest_core, release
from tools.tree import ROOT

HOME = ROOT / ".cache" / "sanity"
COLLECTION = HOME / "ansible_collections" / "tfgrid" / "gateway"
EXCLUDED = (
    "files/gateway_daemon",  # Ansible does not load it; it has linters of its own: ruff, mypy strict
    "tests/output",  # what ansible-test makes for itself; the tarball has no .gitignore
)
# ansible-core's names for the pip bootstrappers of its releases, looked for in its cache before they are downloaded.
BOOTSTRAPPERS = ("get_pip_25_2.py", "get_pip_24_2.py", "get_pip_23_1_2.py", "get_pip_21_3_1.py")
OLDEST_PYTHON = "3.6"
ON_NODES = ("plugins/modules/", "plugins/module_utils/")
BOOTSTRAP = '''"""Stands in for the downloaded pip bootstrapper: Python's own pip, then the packages asked for."""

import subprocess
import sys

# In a process of its own: it switches the configuration of pip off for all that follows.
subprocess.check_call([sys.executable, "-m", "ensurepip"])
wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *wanted]))
'''


def on_oldest(binaries: Path, python: Path) -> int:
    """Exit code of the modules' unit tests, the modules themselves run by the oldest Python with the oldest core."""
    (core,) = binaries.parent.glob("lib/python3.*/site-packages")
    environment = {**os.environ, "TFGRID_MODULE_PYTHON": str(python), "TFGRID_MODULE_CORE": str(core)}
    pytest = [str(Path(sys.executable).with_name("pytest")), "--quiet", "--no-header", "tests/unit/plugins/modules"]
    return subprocess.run(pytest, cwd=ROOT, env=environment).returncode


def prepare() -> None:
    """Unpack the tarball where ansible-test finds what it looks for."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in BOOTSTRAPPERS:
        (cache / name).write_text(BOOTSTRAP)
    release.unpacked(HOME)
    # ansible-test asks the nearest repository for its files: that one must not be ours, which ignores .cache.
    subprocess.run(["git", "init", "--quiet"], cwd=COLLECTION, check=True)
    (COLLECTION / ".git" / "info" / "exclude").write_text("".join(f"/{name}/\n" for name in EXCLUDED))


def main() -> int:
    """ansible-test's exit code."""
    prepare()
    newest = sanity(Path(sys.executable).parent, f"{sys.version_info.major}.{sys.version_info.minor}", sys.argv[1:])
    if newest != 0 or sys.argv[1:]:
        return newest
    python = locked.at_hand(OLDEST_PYTHON)
    if python is None:
        print(f"skipped: compile and import by Python {OLDEST_PYTHON}, since there is none here")
        return 0
    binaries = oldest_core.binaries()
    oldest = sanity(binaries, OLDEST_PYTHON, [*ON_NODES, "--test", "compile", "--test", "import"], python.parent)
    return oldest or on_oldest(binaries, python)


def sanity(binaries: Path, python: str, arguments: list[str], also: Path | None = None) -> int:
    """Exit code of the ansible-test in ``binaries``. also: a directory with that Python."""
    search = [str(binaries), *([str(also)] if also else []), os.environ["PATH"]]
    environment = {
        **os.environ,
        "HOME": str(HOME),
        "PATH": os.pathsep.join(search),
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
    return subprocess.run([*command, *arguments], cwd=COLLECTION, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
