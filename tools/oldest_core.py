"""A venv with the oldest ansible-core that the collection supports, and the collections of its time.

``python -m tools.oldest_core COMMAND [ARGUMENT ...]`` runs a command with it first on PATH.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tools import locked


def binaries() -> Path:
    """The venv's ``bin``."""
    return locked.binaries("core-2.16")


if __name__ == "__main__":
    found = binaries()
    path = os.pathsep.join([str(found), os.environ["PATH"]])
    os.execvpe(str(found / sys.argv[1]), sys.argv[1:], {**os.environ, "PATH": path})  # noqa: S606  (no shell is meant)
