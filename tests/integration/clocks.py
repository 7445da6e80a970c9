"""A clock that a test sets, for the processes that it starts; the time since boot goes on as it does (libfaketime)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


class Clock:
    """What ``time`` says, and with it every process that is started while this is there."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = directory / "clock"
        self._ahead = 0.0
        self.set(0)
        library = next(Path("/").glob(LIBRARIES.removeprefix("/")), None)
        assert library is not None, "libfaketime is missing: make setup"
        # jemalloc, which redis uses, asks for the time before libfaketime is ready; libc's own memory does not.
        libc = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
        for name, value in {
            "LD_PRELOAD": f"{library} {libc}",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }.items():
            monkeypatch.setenv(name, value)

    @staticmethod
    def remove_left() -> None:
        """Remove what libfaketime shares in processes that were killed: the next one with that number would take it."""
        for shared in Path("/dev/shm").glob("faketime_shm_*"):
            number = shared.name.rpartition("_")[2]
            if not Path(f"/proc/{number}").exists():
                shared.unlink(missing_ok=True)
                shared.with_name(f"sem.faketime_sem_{number}").unlink(missing_ok=True)

    def set(self, seconds: float) -> None:
        """So much ahead of the real one."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+f}")
        new.replace(self._file)
        self._ahead = seconds

    def time(self) -> float:
        """Unix seconds."""
        return time.time() + self._ahead
