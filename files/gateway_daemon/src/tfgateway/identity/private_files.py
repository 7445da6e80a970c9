"""Small private text files of a user: a tunnel's secret, a WireGuard key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tfgateway.errors import ConfigError

_LARGEST = 65_000


def read_or_create(path: Path, make: Callable[[], str]) -> str:
    """The one line of the file ``path``; when it does not exist, it is created (mode 0600) with what ``make`` returns.

    The file is on the disk (fsync) before this returns. Errors: ``ConfigError``.
    """
    try:
        if not path.exists():
            _create(path, make())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return read(path)


def read(path: Path) -> str:
    """The one line of the file ``path``. Errors: ``ConfigError``."""
    try:
        with path.open("rb") as file:
            line = file.read(_LARGEST + 1).decode().strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is no text") from None
    if not line or len(line) > _LARGEST or len(line.split()) > 1:
        raise ConfigError(f"{path}: must hold one word of at most {_LARGEST} bytes")
    return line


def _create(path: Path, line: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())
