"""The working tree as git would commit it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def files() -> list[str]:
    """The tracked and new files, ignored ones excepted, relative to ``ROOT``."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    return [name for name in names if (ROOT / name).is_file()]


def copy(target: Path, wanted: Callable[[str], bool] = lambda _name: True) -> None:
    """Fill ``target`` anew with those of ``files`` that are wanted."""
    shutil.rmtree(target, ignore_errors=True)
    for name in files():
        source = ROOT / name
        if wanted(name):
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place, follow_symlinks=False)
