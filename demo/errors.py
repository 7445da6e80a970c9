"""The one error of the demo: what is wrong and what to do, in one line for a person."""

from __future__ import annotations

from pathlib import Path


class DemoError(Exception):
    """A step could not be done. ``log``: a file whose end says more."""

    def __init__(self, message: str, *, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log
